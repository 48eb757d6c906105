"""How a waiter hears of its lease: one thread a process follows a capped collection, in which releases leave word.

Every server has that, also one without a replica set, and word gets there sooner than through a change stream.
Word may be lost, so nothing depends on it; while this process cannot follow, its waiters look again on their own.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tasklocks.backends.mongodb._server import Server
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["Ears", "Listener"]

_STARTED = 2.0  # seconds that the first waiters of a process wait until the thread follows, or cannot
_DEAF = 0.1  # seconds between looks while nothing can be heard, at first; then ever more
_DEAFEST = 1.0
_TICK = 0.001  # the server shows whole milliseconds
_FACTS = {"owner": str, "limit": str, "token": int, "since": int, "expires": int}

_logger = logging.getLogger("tasklocks")


class Listener:
    """Wakes one waiter."""

    def __init__(self, owner: str, ears: Ears) -> None:
        self.address = ears.address
        self.place: AcquireRequest | None = None
        self.heard = threading.Event()
        self.word: Mapping[str, Any] | None = None
        self._owner = owner
        self._ears = ears
        self._pause = _DEAF

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        deaf = not self._ears.following.is_set()
        self.heard.wait(min(timeout, self._pause) if deaf else timeout)
        self._pause = min(2 * self._pause, _DEAFEST) if deaf else _DEAF
        self.heard.clear()
        word, self.word = self.word, None
        return self._granted(word, since) if word and self.place else None

    def close(self) -> None:
        """See `Listener.close` of the protocol."""
        self._ears.forget(self._owner)

    def _granted(self, word: Mapping[str, Any], since: Busy) -> Grant | None:
        place = self.place
        if place is None or word["limit"] != place.name:
            return None
        if word["since"] < round(1000 * since.server_time):
            return None  # older than the server's last answer: of an earlier wait, unless two steps overtook each other
        lasts = word["expires"] / 1000 - since.server_time - _TICK
        return Grant(place.name, place.owner, place.permits, place.ttl, int(word["token"]), since.asked_at + lasts)


class Ears:
    """The waiters of one process, and the thread that hears for them."""

    def __init__(self, server: Server) -> None:
        self.address = secrets.token_hex(8)
        self.following = threading.Event()
        self._tried = threading.Event()
        self._server = server
        self._listeners: dict[str, Listener] = {}
        self._cursor: int | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tasklocks-listener-mongodb", daemon=True)
        self._thread.start()

    def listener(self, owner: str) -> Listener:
        """Return an ear for `owner`."""
        self._tried.wait(_STARTED)
        listener = self._listeners[owner] = Listener(owner, self)
        return listener

    def expect(self, request: AcquireRequest) -> None:
        """Note for what its listener waits."""
        if listener := self._listeners.get(request.owner):
            listener.place = request

    def tell(self, knocks: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Wake those who wait here; return the words for others."""
        for knock in knocks:
            if knock["to"] == self.address:
                self._hear(knock)
        return [knock for knock in knocks if knock["to"] != self.address]

    def forget(self, owner: str) -> None:
        """Listen for `owner` no more."""
        self._listeners.pop(owner, None)

    def close(self) -> None:
        """Let the thread end, and the connections with it."""
        self._closed.set()
        self.following.clear()
        # The server would keep it for minutes, and its answer to the thread for a second.
        self._server.kill(self._cursor)

    def _run(self) -> None:
        self._follow()
        self._server.close()

    def _follow(self) -> None:
        pause = _DEAF
        while not self._closed.wait(0):
            try:
                self._hear_all()
                pause = _DEAF
            except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the thread
                _logger.debug("waiters look again by themselves, nothing can be heard: %r", error)
                pause = min(2 * pause, _DEAFEST)
            self.following.clear()
            self._tried.set()
            self._closed.wait(pause)

    def _hear_all(self) -> None:
        with self._server.tail(self.address) as cursor:
            while cursor.alive and not self._closed.is_set():
                word = next(cursor, None)  # None: nothing came for a while
                self._cursor = cursor.cursor_id
                self._now_following()
                if word is not None and _is_whole(word):
                    self._hear(word)

    def _now_following(self) -> None:
        if not self.following.is_set():
            self.following.set()
            self._tried.set()
            for listener in list(self._listeners.values()):
                listener.heard.set()  # what was said meanwhile is lost

    def _hear(self, word: Mapping[str, Any]) -> None:
        if listener := self._listeners.get(word["owner"]):
            listener.word = word
            listener.heard.set()


def _is_whole(word: Mapping[str, Any]) -> bool:
    """Tell a word of a release from a greeting, and from what anyone else put there."""
    return all(isinstance(word.get(fact), kind) for fact, kind in _FACTS.items())
