"""How a waiter hears that it was granted: one subscribed connection a process, read by one of those who wait.

No thread of its own stands between the socket and the waiter: of the threads that wait, one reads, for all of them, and
when it leaves, another goes on. A message that is lost costs latency, not a lease: waiters look by themselves, too.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from urllib.parse import quote
from weakref import WeakValueDictionary

from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL
from tasklocks.backends.redis._calls import translated
from tasklocks.backends.redis._url import Target
from tasklocks.errors import BackendUnavailable
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["Ears", "Listener"]

_SILENCE = 5.0  # seconds after which the connection is asked whether it still is one


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a message says: a grant, and when it ends by the server's clock, in seconds."""

    key: bytes
    token: int
    expires: float
    permits: int


class Listener:
    """One waiter's ear."""

    def __init__(self, ears: Ears, owner: str) -> None:
        self.address = ears.channel
        self.owner = owner.encode()
        self.request: AcquireRequest | None = None
        self.key = b""
        self.woken = threading.Event()
        self.heard: _Heard | None = None
        self.asked_over: AbstractConnection | None = None
        self._ears = ears

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        self._ears.attend(self, timeout)
        heard, self.heard = self.heard, None
        if heard is None or self.request is None:
            return None
        request = self.request
        ends = since.asked_at + (heard.expires - since.server_time)
        # The server's clock may have been set forward since then.
        ends = min(ends, clock.now() + min(request.ttl, GRANT_TTL))
        return Grant(request.name, request.owner, heard.permits, request.ttl, heard.token, ends)

    def close(self) -> None:
        """Stop listening."""
        self._ears.forget(self)


class Ears:
    """The subscribed connection of this process and those who listen at it."""

    def __init__(self, target: Target, prefix: str) -> None:
        # The scripts take an address for one word.
        self.channel = f"{quote(prefix, safe=':%')}:ear:{secrets.token_hex(12)}"
        self._target = target
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._connection: AbstractConnection | None = None
        self._heard_at = 0.0
        self._asked = False
        # Weak: an exception can strike before a waiter is able to close its ear.
        self._listeners: WeakValueDictionary[bytes, Listener] = WeakValueDictionary()
        self._reader: Listener | None = None
        self._asleep: dict[Listener, None] = {}
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self._connection is not None

    def listener(self, owner: str) -> Listener:
        """Return an ear for `owner`, subscribed."""
        self._subscribed()
        listener = Listener(self, owner)
        with self._lock:
            self._listeners[listener.owner] = listener
        return listener

    def expect(self, request: AcquireRequest, key: bytes) -> None:
        """Note what the request's listener is about to wait for."""
        listener = self._listeners.get(request.owner.encode())
        if listener is not None:
            listener.request, listener.key, listener.heard = request, key, None
            listener.asked_over = self._connection

    def attend(self, listener: Listener, timeout: float) -> None:
        """Return when `listener` heard something or may have missed it, or after `timeout` seconds."""
        deadline = clock.now() + timeout
        try:
            while not self._has_news(listener) and (left := deadline - clock.now()) > 0:
                if self._reads(listener):
                    self._read(left)
                elif listener.heard is None:
                    listener.woken.wait(left)
        finally:
            self._leave(listener)

    def forget(self, listener: Listener) -> None:
        """Drop the listener."""
        with self._lock:
            if self._listeners.get(listener.owner) is listener:
                del self._listeners[listener.owner]
            last = self._closed and not self._listeners
        # Again, for an exception may have struck in the middle of the first time.
        self._leave(listener)
        if last:
            self._drop()

    def close(self) -> None:
        """Close the connection as soon as nobody listens any more."""
        with self._lock:
            self._closed = True
            unused = not self._listeners
        if unused:
            self._drop()

    def _has_news(self, listener: Listener) -> bool:
        # What was said between the end of one connection and the next one's beginning, nobody heard.
        connection = self._connection
        return listener.heard is not None or (connection is not None and connection is not listener.asked_over)

    def _reads(self, listener: Listener) -> bool:
        """Tell whether `listener` is the one who reads; else it may sleep until it is woken."""
        with self._lock:
            if self._reader is None:
                self._reader = listener
                self._asleep.pop(listener, None)
            elif self._reader is not listener:
                listener.woken.clear()
                self._asleep[listener] = None
            return self._reader is listener

    def _leave(self, listener: Listener) -> None:
        """Stop attending. If nobody reads then, one of those who sleep is woken to do it."""
        with self._lock:
            self._asleep.pop(listener, None)
            if self._reader is listener:
                self._reader = None
            if self._reader is None and self._asleep:
                next(iter(self._asleep)).woken.set()

    def _read(self, timeout: float) -> None:
        try:
            connection = self._subscribed()
            self._ask_if_silent(connection)
            if connection.can_read(min(timeout, _SILENCE)):
                self._deliver(connection.read_response())
        except (RedisError, OSError, BackendUnavailable):
            self._drop()
            # The waiter asks by itself, and is told there what is wrong.
            clock.pause(min(timeout, 0.05))
        except BaseException:
            self._drop()
            raise

    def _ask_if_silent(self, connection: AbstractConnection) -> None:
        if clock.now() < self._heard_at + _SILENCE:
            return
        if self._asked:
            raise ConnectionResetError("nothing heard")
        self._asked, self._heard_at = True, clock.now()
        connection.send_command("PING", check_health=False)

    def _deliver(self, message: list[bytes]) -> None:
        self._heard_at, self._asked = clock.now(), False
        if message[0] != b"message":
            return
        token, expires, permits, length, rest = message[2].split(b" ", 4)
        owner, key = rest[: int(length)], rest[int(length) :]
        listener = self._listeners.get(owner)
        # Else it was granted something that it does not wait for any more.
        if listener is not None and listener.key == key:
            listener.heard = _Heard(key, int(token), int(expires) / 1e6, int(permits))
            listener.woken.set()

    def _subscribed(self) -> AbstractConnection:
        connection = self._connection
        if connection is not None:
            return connection
        with self._connecting:
            if self._connection is None:
                self._connection = self._connected()
            return self._connection

    def _connected(self) -> AbstractConnection:
        connection = self._target.connection()
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self.channel, check_health=False)
            connection.read_response()
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, (RedisError, OSError)):
                raise translated(error, self._target.where) from error
            raise
        self._heard_at, self._asked = clock.now(), False
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
