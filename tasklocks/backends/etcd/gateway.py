"""etcd's own JSON gateway (etcd 3.4 and later), on kept-alive connections."""

from __future__ import annotations

import contextlib
import json
from base64 import b64decode
from collections import deque
from collections.abc import Iterator
from typing import Any

from tasklocks.backends.etcd import forms
from tasklocks.backends.etcd.address import Address
from tasklocks.backends.etcd.failover import Failover
from tasklocks.backends.etcd.http import Connection, HttpError
from tasklocks.backends.etcd.ops import EtcdError, LeaseGoneError, Txn, TxnReply, Watched

__all__ = ["Gateway"]

Json = dict[str, Any]

_KEPT = 32  # idle connections
_WATCH_PATIENCE = 10.0  # seconds after which a silent watch is opened anew, lest its connection be dead


class Gateway:
    """Calls of etcd over HTTP and JSON; may be shared by threads."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._tls = address.tls_context()
        self._idle: deque[tuple[int, Connection]] = deque()
        self._endpoints = Failover(address, self._log_in, self.close)
        self._watching: Connection | None = None
        self.term = 0

    @property
    def breaks(self) -> int:
        """See `Transport.breaks`."""
        return self._endpoints.breaks

    def txn(self, txn: Txn) -> TxnReply:
        """See `Transport.txn`."""
        reply = self._called("/v3/kv/txn", forms.written(txn))
        self.term = _term(reply)
        return forms.read_reply(reply)

    def grant(self, ttl: int) -> tuple[int, int]:
        """See `Transport.grant`."""
        reply = self._call("/v3/lease/grant", {"TTL": str(ttl)})
        return int(reply["ID"]), int(reply["TTL"])

    def keep_alive(self, lease: int) -> tuple[int, int]:
        """See `Transport.keep_alive`."""
        reply = self._call("/v3/lease/keepalive", {"ID": str(lease)})["result"]
        return int(reply.get("TTL", 0)), _term(reply)

    def remaining(self, lease: int) -> int:
        """See `Transport.remaining`."""
        return int(self._call("/v3/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))

    def revoke(self, lease: int) -> None:
        """See `Transport.revoke`."""
        self._call("/v3/lease/revoke", {"ID": str(lease)})

    def version(self) -> str:
        """See `Transport.version`."""
        return str(self._call("/v3/maintenance/status", {}).get("version", ""))

    def watch(self, key: bytes, start: int) -> Iterator[Watched | None]:
        """See `Transport.watch`."""
        wish = {"create_request": {"key": forms.text(key), "start_revision": str(start)}}
        try:
            self._endpoints.log_in_once()
            with contextlib.closing(self._connected(self._address.timeout)) as connection:
                self._watching = connection
                status, parts = connection.stream("/v3/watch", json.dumps(wish).encode(), self._endpoints.token)
                connection.patience(_WATCH_PATIENCE)
                for line in _lines(parts):
                    yield from _news(json.loads(line), status)
        except TimeoutError:
            return
        except (OSError, ValueError) as error:
            self._endpoints.go_on_elsewhere()
            raise self._endpoints.translated(error) from error
        finally:
            self._watching = None

    def stop_watching(self) -> None:
        """See `Transport.stop_watching`."""
        if (connection := self._watching) is not None:
            connection.interrupt()

    def close(self) -> None:
        """See `Transport.close`."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop()[1].close()

    def _call(self, path: str, wish: Json) -> Json:
        return self._called(path, json.dumps(wish).encode())

    def _called(self, path: str, body: bytes) -> Json:
        return self._endpoints.call(lambda deadline: self._asked(path, body, deadline))

    def _asked(self, path: str, body: bytes, deadline: float) -> Json:
        while (connection := self._spare()) is not None:
            # One that was idle may be closed: etcd was restarted, or tidies up.
            with contextlib.suppress(ConnectionError):
                return self._ask(connection, path, body, deadline)
            # Then so are the others.
            self._endpoints.breaks += 1
            self.close()
        return self._ask(self._connected(self._endpoints.share_of(deadline)), path, body, deadline)

    def _spare(self) -> Connection | None:
        with contextlib.suppress(IndexError):
            while True:
                endpoint, connection = self._idle.pop()
                if endpoint == self._endpoints.current:
                    return connection
                connection.close()
        return None

    def _ask(self, connection: Connection, path: str, body: bytes, deadline: float) -> Json:
        endpoint = self._endpoints.current
        try:
            connection.patience(self._endpoints.share_of(deadline))
            status, content = connection.post(path, body, self._endpoints.token)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < _KEPT:
            self._idle.append((endpoint, connection))
        else:
            connection.close()
        reply: Json = json.loads(content)
        _check(reply, status)
        return reply

    def _connected(self, timeout: float) -> Connection:
        host, port = self._address.hosts[self._endpoints.current]
        return Connection(host, port, timeout, self._tls)

    def _log_in(self, deadline: float) -> str:
        wish = {"name": self._address.user, "password": self._address.password}
        return str(self._asked("/v3/auth/authenticate", json.dumps(wish).encode(), deadline)["token"])


def _term(reply: Json) -> int:
    return int(reply["header"].get("raft_term", 0))


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
    if result.get("canceled"):
        raise HttpError("the watch ended")
    events = result.get("events", [])
    if not events:
        yield None
    for event in events:
        kv = event["kv"]
        deleted = event.get("type") == "DELETE"
        yield Watched(int(kv["mod_revision"]), None if deleted else b64decode(kv.get("value", "")))
