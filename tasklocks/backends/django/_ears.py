"""How a waiter hears that it was granted: `NOTIFY`, on one connection of the process that listens.

A thread stands at that connection as long as anybody waits. A word that is lost costs latency, not a lease: waiters
look by themselves, too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL
from tasklocks.backends.django._database import in_test_run
from tasklocks.backends.django._errors import NoAnswer, StepError
from tasklocks.backends.django._links import Link
from tasklocks.backends.django._polling import IN, polled
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["Ears", "Listener"]

_LINGER = 30.0  # seconds for which the connection is kept when nobody waits: the next one need not make it
_SILENCE = 5.0  # seconds after which the connection is asked whether it still is one
_AGAIN = 0.2  # seconds between two tries to connect


@dataclass(frozen=True, slots=True)
class _Heard:
    token: int
    expires: float
    permits: int
    key: str


class Listener:
    """One waiter's ear."""

    def __init__(self, ears: Ears, number: int) -> None:
        self.address = f"{ears.channel}.{number}"
        self.key = ""
        self.request: AcquireRequest | None = None
        self.woken = threading.Event()
        self.heard: _Heard | None = None
        self._ears = ears

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        self.woken.wait(timeout)
        self.woken.clear()
        heard, self.heard = self.heard, None
        request = self.request
        if heard is None or request is None or heard.key != self.key:
            return None
        ends = since.asked_at + (heard.expires - since.server_time)
        # The server's clock may have been set forward since then.
        ends = min(ends, clock.now() + min(request.ttl, GRANT_TTL))
        return Grant(request.name, request.owner, heard.permits, request.ttl, heard.token, ends)

    def hear(self, heard: _Heard) -> None:
        """Be told."""
        # Else it was granted something that it does not wait for any more.
        if heard.key == self.key:
            self.heard = heard
            self.woken.set()

    def close(self) -> None:
        """Stop listening."""
        self._ears.forget(self)


class Ears:
    """The listening connection of this process and those who listen at it.

    Args:
        connect: makes the connection.
    """

    def __init__(self, connect: Callable[[], Link]) -> None:
        self.channel = f"tasklocks_{secrets.token_hex(12)}"
        self.open = False
        self._connect = connect
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # Weak: an exception can strike before a waiter is able to close its ear.
        self._listeners: WeakValueDictionary[str, Listener] = WeakValueDictionary()
        self._bell: int | None = None
        self._closed = False

    def listener(self) -> Listener:
        """Return an ear; the first one's comes when the connection stands, or cannot be made now."""
        listener = Listener(self, next(self._numbers))
        with self._lock:
            self._listeners[listener.address] = listener
            if self._bell is None:
                self._start()
            else:
                self._ring()
        return listener

    def expect(self, request: AcquireRequest, key: str) -> None:
        """Note what the request's listener is about to wait for."""
        listener = self._listeners.get(request.place.address or "") if request.place else None
        if listener is not None:
            listener.key, listener.request, listener.heard = key, request, None

    def forget(self, listener: Listener) -> None:
        """Drop the listener."""
        with self._lock:
            self._listeners.pop(listener.address, None)
            self._ring()

    def close(self) -> None:
        """Let the connection go as soon as nobody listens."""
        with self._lock:
            self._closed = True
            self._ring()

    def _start(self) -> None:
        hears, self._bell = os.pipe()
        ready = threading.Event()
        threading.Thread(
            target=self._attend, args=(hears, self._bell, ready), name="tasklocks-listener-django", daemon=True
        ).start()
        ready.wait()

    def _ring(self) -> None:
        if self._bell is not None:
            os.write(self._bell, b"!")

    def _attend(self, hears: int, bell: int, ready: threading.Event) -> None:
        link: Link | None = None
        try:
            while not self._may_go(bell, hears, link):
                link = self._heard_at(link, hears)
                ready.set()
        finally:
            ready.set()
            _closed(link)
            os.close(hears)

    def _heard_at(self, link: Link | None, hears: int) -> Link | None:
        """Listen for a while; return the connection to go on with, if there is one."""
        try:
            if link is None:
                return self._connected()
            self._hear(link, hears)
        except (NoAnswer, StepError):
            self.open = False
            _closed(link)
            self._wake_all()
            _rung(hears, _AGAIN)
            return None
        return link

    def _may_go(self, bell: int, hears: int, link: Link | None) -> bool:
        """Tell whether nobody needs the thread any more, and then forget it."""
        if self._listeners:
            return False
        if link is not None and not self._closed and not in_test_run() and _rung(hears, _LINGER):
            return False
        with self._lock:
            if self._listeners:
                return False
            self._bell, self.open = None, False
            os.close(bell)
            return True

    def _connected(self) -> Link:
        link = self._connect()
        try:
            link.run([f"LISTEN {self.channel}"], _SILENCE)
        except BaseException:
            link.close()
            raise
        self.open = True
        # What was said before, nobody heard.
        self._wake_all()
        return link

    def _hear(self, link: Link, hears: int) -> None:
        ready = polled({link.fileno(): IN, hears: IN}, _SILENCE)
        if hears in ready:
            os.read(hears, 4096)
        if not ready:
            link.run(["SELECT"], _SILENCE)
        for word in link.words():
            self._deliver(word)

    def _deliver(self, word: str) -> None:
        number, token, expires, permits, key = word.split(" ", 4)
        listener = self._listeners.get(f"{self.channel}.{number}")
        if listener is not None:
            listener.hear(_Heard(int(token), float(expires), int(permits), key))

    def _wake_all(self) -> None:
        for listener in list(self._listeners.values()):
            listener.woken.set()


def _rung(hears: int, timeout: float) -> bool:
    """Wait for somebody to come or go; return whether somebody did."""
    if not polled({hears: IN}, timeout):
        return False
    os.read(hears, 4096)
    return True


def _closed(link: Link | None) -> None:
    if link is not None:
        with contextlib.suppress(Exception):
            link.close()
