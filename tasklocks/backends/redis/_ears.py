"""How a waiter hears that it was granted: one subscribed connection a process, read by one of those who wait.

No thread of its own stands between the socket and the waiter: of the threads that wait, one reads, for all of them, and
when it leaves, another goes on. A message that is lost costs latency, not a lease: waiters look by themselves, too.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass

from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from tasklocks import clock
from tasklocks.backends.redis._calls import translated
from tasklocks.backends.redis._url import Target
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
        self._ears = ears

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        deadline = clock.now() + timeout
        while self.heard is None and (left := deadline - clock.now()) > 0:
            self._ears.attend(self, left)
        heard, self.heard = self.heard, None
        if heard is None or self.request is None:
            return None
        lasts = heard.expires - since.server_time
        request = self.request
        return Grant(request.name, request.owner, heard.permits, request.ttl, heard.token, since.asked_at + lasts)

    def close(self) -> None:
        """Stop listening."""
        self._ears.forget(self)


class Ears:
    """The subscribed connection of this process and those who listen at it."""

    def __init__(self, target: Target, prefix: str) -> None:
        self.channel = f"{prefix}:ear:{secrets.token_hex(12)}"
        self._target = target
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._connection: AbstractConnection | None = None
        self._heard_at = 0.0
        self._asked = False
        self._listeners: dict[bytes, Listener] = {}
        self._reader: Listener | None = None

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

    def attend(self, listener: Listener, timeout: float) -> None:
        """Return when `listener` heard something, when it has to look again, or after `timeout` seconds."""
        with self._lock:
            reads = self._reader is None and listener.heard is None
            if reads:
                self._reader = listener
            else:
                listener.woken.clear()
        if listener.heard is not None:
            return
        if not reads:
            listener.woken.wait(timeout)
            return
        try:
            self._read(timeout)
        finally:
            self._pass_on()

    def forget(self, listener: Listener) -> None:
        """Drop the listener."""
        with self._lock:
            if self._listeners.get(listener.owner) is listener:
                del self._listeners[listener.owner]

    def close(self) -> None:
        """Close the connection."""
        self._drop()

    def _pass_on(self) -> None:
        with self._lock:
            done, self._reader = self._reader, None
            for each in self._listeners.values():
                if each is not done and each.heard is None:
                    each.woken.set()
                    return

    def _read(self, timeout: float) -> None:
        try:
            connection = self._subscribed()
            self._ask_if_silent(connection)
            if connection.can_read(min(timeout, _SILENCE)):
                self._deliver(connection.read_response())
        except (RedisError, OSError):
            self._drop()
            # The waiter asks by itself then, and is told there what is wrong.
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
