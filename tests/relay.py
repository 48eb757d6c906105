"""A TCP relay between a client and a server of the tests: it can cut connections, hold them up, and count requests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

__all__ = ["Relay", "relayed"]


class Relay:
    """Relays `port` to a port of its own, from `with` to its end.

    Attributes:
        requests: how often a client spoke after the server had spoken, or first: round trips, if clients ask in turn.
        messages: pieces of bytes that were carried, in both directions.
        size: bytes that were carried, in both directions.
        carried: connections that were made.
        delay: seconds for which each answer is held up; what a client sends meanwhile is no new request.
    """

    def __init__(self, port: int) -> None:
        self.requests = 0
        self.messages = 0
        self.size = 0
        self.carried = 0
        self.delay = 0.0
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._ears = socket.create_server(("127.0.0.1", 0))
        self.port = self._ears.getsockname()[1]
        self._ends: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._refusing = False

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ears.shutdown(socket.SHUT_RDWR)
        self._ears.close()
        self._open.set()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """End all connections at once; new ones are carried."""
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def turn_to(self, port: int) -> None:
        """Break all connections; new ones lead to another server."""
        self._target = port
        self.cut()

    def hold(self) -> None:
        """Carry nothing until `let_go`; connections stay open."""
        self._open.clear()

    def let_go(self) -> None:
        """Carry again, also what was held."""
        self._open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._ears.accept()
                self.carried += 1
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        asking = [False]
        self._ends |= {client, server}
        for source, target in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._carry, args=(source, target, source is client, asking))
            self._threads.append(thread)
            thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, from_client: bool, asking: list[bool]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                if self.delay and not from_client:
                    time.sleep(self.delay)
                    data += arrived(source)
                self.requests += from_client and not asking[0]
                self.messages += 1
                self.size += len(data)
                asking[0] = from_client
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        self._ends.discard(source)
        source.close()


def arrived(source: socket.socket) -> bytes:
    """Return what has come meanwhile: several answers to what was sent together travel together, not one by one."""
    with suppress(BlockingIOError):
        return source.recv(65536, socket.MSG_DONTWAIT)
    return b""


@contextmanager
def relayed(url: str) -> Iterator[tuple[Relay, str]]:
    """Relay the server of a backend's URL; yields the relay, and the URL through it."""
    server = urlsplit(url)
    # A member of a replica set would tell its clients where it really is.
    query = "directConnection=true" if server.scheme == "mongodb" else server.query
    with Relay(server.port) as relay:
        yield relay, urlunsplit(server._replace(netloc=f"127.0.0.1:{relay.port}", query=query))
