"""kazoo's client, with what it lacks."""

from __future__ import annotations

import logging
import select
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import EXCEPTIONS, AuthFailedError, ConnectionDropped, SASLException, ZookeeperError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Create2
from kazoo.retry import KazooRetry

from tasklocks.backends.zookeeper.url import Settings

__all__ = ["CreateContainer", "SessionClosedRequireSaslError", "client_for"]

try:
    from kazoo.exceptions import SessionClosedRequireSaslError
except ImportError:  # before 2.11 kazoo does not know what the server answers there

    class SessionClosedRequireSaslError(ZookeeperError):  # type: ignore[misc,no-redef] # as above, and kazoo is untyped
        """The server ends sessions of whoever does not log in by SASL."""

        code = -124

    EXCEPTIONS[SessionClosedRequireSaslError.code] = SessionClosedRequireSaslError


class CreateContainer(Create2):  # type: ignore[misc]
    """A node that the server removes some time after its last child; kazoo has no name for it."""

    type = 19


def client_for(settings: Settings) -> Any:
    """Return a client, not started yet."""
    client = KazooClient(
        hosts=settings.hosts,
        timeout=settings.session_timeout,
        handler=_Handler(),
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=1.0),
        logger=_quiet_logger(),
        **settings.client,
    )
    made = client._connection
    client._connection = _Connection(client, made.retry_sleeper, made.logger, made.sasl_options)
    return client


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads, with waits that cost one system call; kazoo's own make a selector for each."""

    def select(self, *sockets_and_timeout: Any) -> Any:
        """Wait until one of the sockets is ready."""
        try:
            return select.select(*sockets_and_timeout)
        except ValueError:
            # A socket's number is beyond what `select` can take.
            return super().select(*sockets_and_timeout)


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection, which remembers why there is none, and survives a server that says why it refuses a login.

    Attributes:
        trouble: why the last attempt failed; empty if it did not.
    """

    trouble = ""

    def _connect(self, host: str, address: str, port: int) -> Any:
        try:
            connected = super()._connect(host, address, port)
        except ConnectionDropped as error:
            self.trouble = str(error).removeprefix("socket connection error: ")
            raise
        self.trouble = ""
        return connected

    def _authenticate_with_sasl(self, host: str, timeout: float) -> None:
        try:
            super()._authenticate_with_sasl(host, timeout)
        except (SASLException, SessionClosedRequireSaslError) as error:
            raise AuthFailedError from error


def _quiet_logger() -> logging.Logger:
    """Return the client's logger: without its debug lines, which show credentials, nor its many infos."""
    logger = logging.getLogger("tasklocks.zookeeper")
    logger.setLevel(logging.WARNING)
    return logger
