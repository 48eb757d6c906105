"""A TCP relay to a server that is far away: everything takes a given time on its way, in both directions."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

__all__ = ["Distance"]


class Distance:
    """Relays `port` to a port of its own, from `with` to its end; one way takes `delay` seconds."""

    def __init__(self, port: int, delay: float) -> None:
        self._target = port
        self._delay = delay
        self._ears = socket.create_server(("127.0.0.1", 0))
        self.port = self._ears.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Distance:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._ears, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._ears, *self._ends):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._ears.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for source, target in ((client, server), (server, client)):
                    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue()
                    self._start(self._depart, source, under_way)
                    self._start(self._arrive, target, under_way)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _depart(self, source: socket.socket, under_way: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + self._delay, data))

    def _arrive(self, target: socket.socket, under_way: queue.Queue[tuple[float, bytes]]) -> None:
        with suppress(OSError):
            while (each := under_way.get())[1]:
                time.sleep(max(0.0, each[0] - time.monotonic()))
                target.sendall(each[1])
            target.shutdown(socket.SHUT_RDWR)
