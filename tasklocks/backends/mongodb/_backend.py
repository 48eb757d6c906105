"""The backend itself; see the package for what it promises."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change, ReservesByUpdate
from tasklocks.backends.mongodb import _quick as quick
from tasklocks.backends.mongodb import _steps as steps
from tasklocks.backends.mongodb import _texts as texts
from tasklocks.backends.mongodb._answers import answer_to, knocks_of, lease_in, renewed, state_of
from tasklocks.backends.mongodb._ears import Ears, Listener
from tasklocks.backends.mongodb._expressions import Step
from tasklocks.backends.mongodb._page import page
from tasklocks.backends.mongodb._server import Server
from tasklocks.backends.mongodb._url import read_url
from tasklocks.fork import PerProcess
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, LimitState, Page

__all__ = ["MongoBackend"]

_ONE_BY_ONE = 2  # leases; more are renewed in two requests, however many they are
_AT_ONCE = 100

T = TypeVar("T")


class MongoBackend(ReservesByUpdate):
    """Limits in a MongoDB database.

    Args:
        url: `mongodb://…` or `mongodb+srv://…`, as MongoDB's clients read it; without a database, `tasklocks`.
        prefix: two applications with two prefixes in one database never meet.
        options: pymongo's own options; they win over the URL's.

    Raises:
        ConfigurationError: the URL or an option cannot work.
    """

    # A majority has to write each renewal to disk, and a busy disk takes its time.
    capabilities = Capabilities(push=True, server_clock=True, strict_order=True, multi_host=True, min_ttl=1.0)

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        place = read_url(url, options)
        self._shown = place.shown
        # The first colon that is not escaped ends the prefix, so no name can reach into another prefix.
        self._prefix = prefix.replace("%", "%25").replace(":", "%3A") + ":"
        self._quiet = quick.Quiet()
        self._server = server = PerProcess(lambda: Server(place))
        self._ears = PerProcess(lambda: Ears(server()))
        weakref.finalize(self, _close, self._server, self._ears)

    def __repr__(self) -> str:
        return f"MongoBackend({self._shown!r})"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        if request.place is not None and (ears := self._ears.peek()):
            ears.expect(request)
        asked_at = clock.now()
        found = self._acquired_quickly(request) or self._step(request.name, steps.acquire(request)) or {}
        return answer_to(request, found, asked_at)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        if len(grants) <= _ONE_BY_ONE:
            return [self._renewed(grant) for grant in grants]
        parts = [grants[start : start + _AT_ONCE] for start in range(0, len(grants), _AT_ONCE)]
        return [grant for part in parts for grant in self._renewed_at_once(part)]

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        if keep <= 0 and self._released_quickly(name, owner):
            return True
        found = self._step(name, steps.release(owner, keep))
        return bool(found and found["ended"])

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        found = self._step(name, steps.force_release(owner))
        return int(found["ended"]) if found else 0

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return state_of(name, self._server().look(self._prefix + name, steps.EVERYTHING))

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        return page(self._server(), self._prefix, self._text_key(""), after, most)

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        return texts.update(self._server(), self._text_key(name), change)

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return self._ears().listener(owner)

    @property
    def listening(self) -> bool:
        """Whether this process listens already."""
        return self._ears.peek() is not None

    def version(self) -> str:
        """See `Backend.version`."""
        return self._server().version()

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._server, self._ears)

    def _text_key(self, name: str) -> str:
        # No prefix has a percent sign that is not followed by 25 or 3A.
        return f"{self._prefix[:-1]}%text:{name}"

    def _renewed(self, grant: Grant) -> Grant | None:
        asked_at = clock.now()
        found = self._step(grant.name, steps.renew(grant.owner, grant.ttl)) or {}
        return renewed(grant, found.get("lease"), asked_at)

    def _renewed_at_once(self, grants: Sequence[Grant]) -> list[Grant | None]:
        asked_at = clock.now()
        wanted = [(self._prefix + grant.name, steps.renew(grant.owner, grant.ttl)) for grant in grants]
        found = self._server().steps(wanted, steps.leases_of(grant.owner for grant in grants))
        for name in {grant.name for grant in grants}:
            if knocks := knocks_of(name, found.get(self._prefix + name)):
                self._tell(knocks)
        return [
            renewed(grant, lease_in(found.get(self._prefix + grant.name), grant.owner), asked_at) for grant in grants
        ]

    def _acquired_quickly(self, request: AcquireRequest) -> dict[str, Any] | None:
        if not self._quiet.has(request.name, request.permits):
            return None
        self._quiet.change(request.name, -request.permits)
        found = self._server().step(self._prefix + request.name, quick.acquire(request))
        return found if found and "lease" in found else None

    def _released_quickly(self, name: str, owner: str) -> bool:
        if self._quiet.is_fresh(name):
            self._quiet.change(name, 1)
            found = self._server().step(self._prefix + name, quick.release(owner))
            return bool(found and found["ended"])
        found = self._server().step(self._prefix + name, quick.hand_on(owner))
        if not found or not found["ended"]:
            return False
        self._follow_up(name, found)
        return True

    def _step(self, name: str, step: Step) -> dict[str, Any] | None:
        found = self._server().step(self._prefix + name, step)
        self._follow_up(name, found)
        return found

    def _follow_up(self, name: str, found: dict[str, Any] | None) -> None:
        self._quiet.note(name, found.get("free") if found else None)
        if knocks := knocks_of(name, found):
            self._tell(knocks)

    def _tell(self, knocks: Sequence[dict[str, Any]]) -> None:
        ears = self._ears.peek()
        others = ears.tell(knocks) if ears else knocks
        if others:
            self._server().knock(others)


def _close(server: PerProcess[Server], ears: PerProcess[Ears]) -> None:
    opened, listening = server.take(), ears.take()
    if listening is not None:
        listening.close()
    elif opened is not None:
        opened.close()
