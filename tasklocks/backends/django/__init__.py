"""`django://`, `django://alias`: limits in a database that Django's settings name, PostgreSQL or SQLite.

Does not guarantee: on SQLite, anything between hosts, as with `sqlite://`; and there a step waits for whoever writes to
the same file. On PostgreSQL, that a lease survives a failover to a replica that had not heard of it yet.

The tables are made by the migrations of `tasklocks.contrib.django`. Steps run on connections of their own, so a lease
neither waits for the transaction in which it is taken nor vanishes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tasklocks.backends.base import Backend, Change, Listener
from tasklocks.backends.django._database import Target, read
from tasklocks.backends.several import Slots
from tasklocks.errors import ConfigurationError
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Capabilities,
    Grant,
    LimitState,
    Page,
    Refused,
    ReserveRequest,
    Slot,
    Taken,
)

__all__ = ["CAPABILITIES", "DjangoBackend"]

T = TypeVar("T")

CAPABILITIES = {
    "postgresql": Capabilities(push=True, server_clock=True, strict_order=True, multi_host=True, together=True),
    "sqlite": Capabilities(push=True, server_clock=False, strict_order=True, multi_host=False, together=True),
}
"""What is promised on each kind of database."""


class DjangoBackend:
    """The limits in one of Django's databases.

    Which database that is, is looked up at each step, for a test run puts another one in its place.

    Args:
        url: `django://` for the database `default`, or `django://alias`.
        prefix: two applications with two prefixes in one database never meet.
        options: `timeout`, also as `?timeout=5` in the URL: seconds that a step may take.

    Raises:
        ConfigurationError: no such database in `DATABASES`, one that is neither PostgreSQL nor SQLite, or an unknown
            option.
    """

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        self._target = read(url, options)
        self._prefix = prefix
        self._vendor = self._target.vendor
        if self._vendor not in CAPABILITIES:
            raise ConfigurationError(
                f"{self._target.where} is of the kind {self._vendor}; django:// works with PostgreSQL and SQLite"
            )
        self._by_name: dict[str, Backend] = {}

    def __repr__(self) -> str:
        return f"DjangoBackend({self._target.alias!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What is promised on this kind of database."""
        return self._limits().capabilities

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        return self._limits().acquire(request)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        return self._limits().renew(grants)

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        return self._limits().release(name, owner, keep)

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        return self._limits().force_release(name, owner)

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return self._limits().inspect(name)

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        return self._limits().page(after, most)

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        return self._limits().update(name, change)

    def reserve(self, request: ReserveRequest) -> Slot | Refused:
        """See `Backend.reserve`."""
        return self._limits().reserve(request)

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        return self._limits().reserve_all(requests)

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""
        return self._limits().take_all(request, rates, within)

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return self._limits().listen(owner)

    @property
    def listening(self) -> bool:
        """Whether an ear costs nothing now."""
        return self._limits().listening

    def version(self) -> str:
        """See `Backend.version`."""
        return self._limits().version()

    def close(self) -> None:
        """See `Backend.close`."""
        for limits in list(self._by_name.values()):
            limits.close()

    def _limits(self) -> Backend:
        name = self._target.name
        found = self._by_name.get(name)
        # Two threads may both make one, of which nothing is open yet; the first one counts.
        return found or self._by_name.setdefault(name, _limits_in(self._target, self._vendor, name, self._prefix))


def _limits_in(target: Target, vendor: str, name: str, prefix: str) -> Backend:
    if vendor == "postgresql":
        from tasklocks.backends.django._postgresql import PostgresLimits

        return PostgresLimits(target, prefix)
    from tasklocks.backends.django._sqlite import limits_in

    return limits_in(target, name, prefix)
