"""etcd's own JSON gateway (etcd 3.4 and later): kept-alive connections, failover between endpoints, users, TLS.

A call that fails is tried again, at the next endpoint if need be, until its time is over. So it may be done twice:
every transaction of this backend is written so that this is harmless.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from base64 import b64decode
from collections import deque
from collections.abc import Iterator
from typing import Any

from tasklocks import clock
from tasklocks.backends.etcd import forms
from tasklocks.backends.etcd.address import Address
from tasklocks.backends.etcd.http import Connection, HttpError
from tasklocks.backends.etcd.ops import EtcdError, LeaseGoneError, Txn, TxnReply, Watched
from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["Gateway"]

Json = dict[str, Any]

_KEPT = 32  # idle connections
_PAUSE = 0.1
_WATCH_PATIENCE = 10.0  # seconds after which a silent watch is opened anew, lest its connection be dead

_INVALID, _DENIED, _PRECONDITION, _UNAVAILABLE, _UNAUTHENTICATED = 3, 7, 9, 14, 16
_PASSING = (4, 8, _UNAVAILABLE)


class Gateway:
    """Calls of etcd over HTTP and JSON; may be shared by threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = address.tls_context()
        self._idle: deque[tuple[int, Connection]] = deque()
        # Not all processes at the first endpoint.
        self._current = random.randrange(len(address.hosts))  # noqa: S311 - nothing secret
        self._token = ""
        self._login = threading.Lock()
        self._watching: Connection | None = None

    def txn(self, txn: Txn) -> TxnReply:
        """See `Transport.txn`."""
        return forms.read_reply(self._call("/v3/kv/txn", forms.written(txn)))

    def grant(self, ttl: int) -> tuple[int, int]:
        """See `Transport.grant`."""
        reply = self._call("/v3/lease/grant", {"TTL": str(ttl)})
        return int(reply["ID"]), int(reply["TTL"])

    def keep_alive(self, lease: int) -> int:
        """See `Transport.keep_alive`."""
        return int(self._call("/v3/lease/keepalive", {"ID": str(lease)})["result"].get("TTL", 0))

    def remaining(self, lease: int) -> int:
        """See `Transport.remaining`."""
        return int(self._call("/v3/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))

    def revoke(self, lease: int) -> None:
        """See `Transport.revoke`."""
        self._call("/v3/lease/revoke", {"ID": str(lease)})

    def watch(self, key: bytes, start: int) -> Iterator[Watched | None]:
        """See `Transport.watch`."""
        wish = {"create_request": {"key": forms.text(key), "start_revision": str(start)}}
        connection = self._connected(self._current, self._address.timeout)
        self._watching = connection
        try:
            self._log_in_once()
            status, parts = connection.stream("/v3/watch", json.dumps(wish).encode(), self._token)
            connection.patience(_WATCH_PATIENCE)
            for line in _lines(parts):
                yield from _news(json.loads(line), status)
        except TimeoutError:
            return
        except (OSError, ValueError) as error:
            self._go_on_elsewhere(pause=False)
            raise self._translated(error) from error
        finally:
            self._watching = None
            connection.close()

    def stop_watching(self) -> None:
        """See `Transport.stop_watching`."""
        if (connection := self._watching) is not None:
            connection.interrupt()

    def close(self) -> None:
        """See `Transport.close`."""
        while self._idle:
            self._idle.pop()[1].close()

    def _call(self, path: str, wish: Json) -> Json:
        body = json.dumps(wish, separators=(",", ":")).encode()
        deadline = clock.now() + self._address.timeout
        self._log_in_once()
        endpoints_left = len(self._address.hosts)
        while True:
            answer = self._tried(path, body, deadline)
            if not isinstance(answer, Exception):
                return answer
            endpoints_left -= not isinstance(answer, EtcdError)
            if endpoints_left <= 0 or clock.now() >= deadline or not self._remedied(answer):
                raise self._translated(answer) from answer

    def _tried(self, path: str, body: bytes, deadline: float) -> Json | EtcdError | OSError | ValueError:
        try:
            return self._asked(path, body, deadline)
        except (EtcdError, OSError, ValueError) as error:
            return error

    def _asked(self, path: str, body: bytes, deadline: float) -> Json:
        while (connection := self._spare()) is not None:
            # One that was idle may be closed: etcd was restarted, or tidies up.
            with contextlib.suppress(ConnectionError):
                return self._ask(self._current, connection, path, body, deadline)
        connection = self._connected(self._current, self._attempt(deadline))
        return self._ask(self._current, connection, path, body, deadline)

    def _spare(self) -> Connection | None:
        try:
            while True:
                endpoint, connection = self._idle.pop()
                if endpoint == self._current:
                    return connection
                connection.close()
        except IndexError:
            return None

    def _ask(self, endpoint: int, connection: Connection, path: str, body: bytes, deadline: float) -> Json:
        try:
            connection.patience(self._attempt(deadline))
            status, content = connection.post(path, body, self._token)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and endpoint == self._current and len(self._idle) < _KEPT:
            self._idle.append((endpoint, connection))
        else:
            connection.close()
        reply: Json = json.loads(content)
        _check(reply, status)
        return reply

    def _connected(self, endpoint: int, timeout: float) -> Connection:
        host, port = self._address.hosts[endpoint]
        return Connection(host, port, timeout, self._tls)

    def _attempt(self, deadline: float) -> float:
        share = self._address.timeout / len(self._address.hosts)
        return max(0.05, min(share, deadline - clock.now()))

    def _remedied(self, error: Exception) -> bool:
        """Do what may let a call succeed that failed; return whether it is worth another try."""
        if not isinstance(error, EtcdError) or error.code == _UNAVAILABLE:
            self._go_on_elsewhere(pause=isinstance(error, EtcdError))
            return True
        if error.code == _UNAUTHENTICATED or "revision of auth store is old" in str(error):
            self._token = ""
            self._log_in_once()
            return True
        return False

    def _go_on_elsewhere(self, *, pause: bool) -> None:
        self._current = (self._current + 1) % len(self._address.hosts)
        self.close()
        if pause:
            # Leaders are elected within a second or two.
            clock.pause(_PAUSE)

    def _log_in_once(self) -> None:
        if self._token or not self._address.user:
            return
        with self._login:
            if not self._token:
                self._token = self._log_in()

    def _log_in(self) -> str:
        wish = {"name": self._address.user, "password": self._address.password}
        try:
            deadline = clock.now() + self._address.timeout
            return str(self._asked("/v3/auth/authenticate", json.dumps(wish).encode(), deadline)["token"])
        except (EtcdError, OSError, ValueError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        where = f"etcd at {self._address.shown}"
        if isinstance(error, LeaseGoneError):
            return error
        if not isinstance(error, EtcdError):
            said = "no answer in time" if isinstance(error, TimeoutError) else error
            return BackendUnavailable(f"{where} does not answer: {said}")
        if error.code in _PASSING:
            return BackendUnavailable(f"{where} cannot answer: {error}")
        return self._refusal(error, where)

    def _refusal(self, error: EtcdError, where: str) -> Exception:
        if "user name is empty" in str(error):
            return BackendRefused(f"{where} asks for a user: write etcd://user:password@host in the URL")
        if "authentication is not enabled" in str(error):
            return BackendRefused(f"{where} knows no users: leave user and password out of the URL")
        if error.code in (_INVALID, _DENIED, _UNAUTHENTICATED):
            return BackendRefused(f"{where} refuses user {self._address.user!r}: {error}")
        return BackendUnavailable(f"{where} answered with an error: {error}")


def _check(reply: Json, status: int) -> None:
    if status == 200:
        return
    message, code = str(reply.get("message") or reply.get("error")), int(reply.get("code", 2))
    raise LeaseGoneError(code, message) if "lease not found" in message else EtcdError(code, message)


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n")
        yield from (line for line in whole if line)


def _news(message: Json, status: int) -> Iterator[Watched | None]:
    if status != 200 or "result" not in message:
        raise HttpError(f"the watch was refused: {message.get('error', message)}")
    result = message["result"]
    revision = int(result["header"].get("revision", 0))
    if result.get("canceled"):
        raise HttpError("the watch ended")
    events = result.get("events", [])
    if not events:
        yield None
    for event in events:
        kv = event["kv"]
        deleted = event.get("type") == "DELETE"
        yield Watched(int(kv.get("mod_revision", revision)), None if deleted else b64decode(kv.get("value", "")))
