"""`etcd+grpc://`: the same calls over gRPC, with the client and the message types of python-etcd3.

gRPC and fork do not mix: in a process that was forked from one with an open channel it may hang or die. Celery's
prefork pool forks all the time, so there this transport refuses to work; threads, gevent, solo and programs without
Celery are what it is for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import etcd3
import grpc
from etcd3 import etcdrpc as rpc

from tasklocks.backends.etcd.address import Address
from tasklocks.backends.etcd.backend import EtcdBackend
from tasklocks.backends.etcd.failover import Failover
from tasklocks.backends.etcd.messages import read_reply, written
from tasklocks.backends.etcd.ops import EtcdError, LeaseGoneError, Txn, TxnReply, Watched
from tasklocks.errors import ConfigurationError

__all__ = ["EtcdGrpcBackend", "Stubs"]

T = TypeVar("T")

_WATCH_PATIENCE = 10.0

_opened_by: set[int] = set()


class Stubs:
    """Calls of etcd over gRPC; may be shared by threads."""

    def __init__(self, address: Address) -> None:
        if _opened_by - {os.getpid()}:
            raise ConfigurationError(
                "etcd+grpc:// does not work in a process that was forked from one that used it, as Celery's prefork "
                "pool does: write etcd:// instead, or use the threads, gevent or solo pool"
            )
        _opened_by.add(os.getpid())
        self._address = address
        self._client: Any = None
        self._watching: Any = None
        self.term = 0
        self._endpoints = Failover(address, self._log_in, self.close)

    @property
    def breaks(self) -> int:
        """See `Transport.breaks`."""
        return self._endpoints.breaks

    def txn(self, txn: Txn) -> TxnReply:
        """See `Transport.txn`."""
        wish = written(txn)
        reply = self._call(lambda client: client.kvstub.Txn, wish)
        self.term = int(reply.header.raft_term)
        return read_reply(reply)

    def grant(self, ttl: int) -> tuple[int, int]:
        """See `Transport.grant`."""
        reply = self._call(lambda client: client.leasestub.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl))
        return int(reply.ID), int(reply.TTL)

    def keep_alive(self, lease: int) -> tuple[int, int]:
        """See `Transport.keep_alive`."""
        wish = rpc.LeaseKeepAliveRequest(ID=lease)

        def method(client: Any) -> Any:
            # A stream of requests and answers; one of each is enough, and reading it here makes its error a call's.
            return lambda one, timeout, metadata: next(
                client.leasestub.LeaseKeepAlive(iter((one,)), timeout, metadata=metadata)
            )

        reply = self._call(method, wish)
        return int(reply.TTL), int(reply.header.raft_term)

    def remaining(self, lease: int) -> int:
        """See `Transport.remaining`."""
        wish = rpc.LeaseTimeToLiveRequest(ID=lease)
        return int(self._call(lambda client: client.leasestub.LeaseTimeToLive, wish).TTL)

    def revoke(self, lease: int) -> None:
        """See `Transport.revoke`."""
        self._call(lambda client: client.leasestub.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))

    def version(self) -> str:
        """See `Transport.version`."""
        return str(self._call(lambda client: client.maintenancestub.Status, rpc.StatusRequest()).version)

    def watch(self, key: bytes, start: int) -> Iterator[Watched | None]:
        """See `Transport.watch`."""
        create = rpc.WatchCreateRequest(key=key, start_revision=start)
        try:
            self._endpoints.log_in_once()
            stub = rpc.WatchStub(self._connected().channel)
            self._watching = stub.Watch(
                iter((rpc.WatchRequest(create_request=create),)), timeout=_WATCH_PATIENCE, metadata=self._metadata()
            )
            for reply in self._watching:
                yield from _news(reply)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                return
            self._endpoints.go_on_elsewhere()
            raise self._endpoints.translated(_as_error(error)) from error
        finally:
            self._watching = None

    def stop_watching(self) -> None:
        """See `Transport.stop_watching`."""
        if (call := self._watching) is not None:
            call.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(grpc.RpcError):
                client.close()

    def _call(self, method: Callable[[Any], Any], wish: Any) -> Any:
        return self._endpoints.call(lambda deadline: self._asked(method, wish, deadline))

    def _asked(self, method: Callable[[Any], Any], wish: Any, deadline: float) -> Any:
        try:
            timeout = self._endpoints.share_of(deadline)
            return method(self._connected())(wish, timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise _as_error(error) from error

    def _connected(self) -> Any:
        if self._client is None:
            host, port = self._address.hosts[self._endpoints.current]
            endpoint = etcd3.Endpoint(host, port, secure=self._address.tls, creds=self._credentials())
            self._client = etcd3.MultiEndpointEtcd3Client([endpoint], timeout=self._address.timeout)
        return self._client

    def _credentials(self) -> Any:
        address = self._address
        if not address.tls:
            return None
        if not address.ca:
            return grpc.ssl_channel_credentials()
        return etcd3.MultiEndpointEtcd3Client.get_secure_creds(address.ca, address.key or None, address.cert or None)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._endpoints.token),) if self._endpoints.token else ()

    def _log_in(self, deadline: float) -> str:
        wish = rpc.AuthenticateRequest(name=self._address.user, password=self._address.password)
        return str(self._asked(lambda client: client.authstub.Authenticate, wish, deadline).token)


class EtcdGrpcBackend(EtcdBackend):
    """Limits in etcd over gRPC; see `EtcdBackend`."""

    _connect = Stubs


def _as_error(error: Any) -> Exception:
    message, code = str(error.details()), error.code()
    if "lease not found" in message:
        return LeaseGoneError(code.value[0], message)
    if message.startswith("etcdserver:"):
        return EtcdError(code.value[0], message)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError(message)
    # What gRPC itself says when nobody answers, or when the connection broke.
    return ConnectionError(message) if code == grpc.StatusCode.UNAVAILABLE else EtcdError(code.value[0], message)


def _news(reply: Any) -> Iterator[Watched | None]:
    if reply.canceled:
        raise EtcdError(11, "the watch ended")
    if not reply.events:
        yield None
    for event in reply.events:
        deleted = event.type == event.DELETE
        yield Watched(event.kv.mod_revision, None if deleted else event.kv.value)
