"""Counts round trips where they happen: between client and server, by a relay on loopback."""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType

__all__ = ["RoundTrips"]


class RoundTrips:
    """A TCP relay to `port` that counts requests.

    One round trip is a burst of bytes from the client after the server has spoken (or at the start): a pipeline of
    several commands counts once, as it costs one trip.
    """

    def __init__(self, port: int) -> None:
        self.count = 0
        self._target = port
        self._ears = socket.create_server(("127.0.0.1", 0))
        self.port = self._ears.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ears, selectors.EVENT_READ)
        self._asking: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._relay, daemon=True)

    def __enter__(self) -> RoundTrips:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _relay(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                if key.fileobj is self._ears:
                    self._connect()
                elif key.fileobj.fileno() >= 0:  # else the other end of it was closed in this very round
                    self._pass_on(key.fileobj, *key.data)

    def _connect(self) -> None:
        client, _ = self._ears.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(client, selectors.EVENT_READ, (server, client))
        self._selector.register(server, selectors.EVENT_READ, (client, client))

    def _pass_on(self, source: socket.socket, target: socket.socket, client: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                self._count(source, client)
                target.sendall(data)
        except OSError:
            # A peer that just dies resets its connection; the others' must not suffer from it.
            data = b""
        if not data:
            self._part(source, target)

    def _count(self, source: socket.socket, client: socket.socket) -> None:
        if source is not client:
            self._asking.discard(client)
        elif client not in self._asking:
            self._asking.add(client)
            self.count += 1

    def _part(self, *ends: socket.socket) -> None:
        for end in ends:
            self._selector.unregister(end)
            end.close()
