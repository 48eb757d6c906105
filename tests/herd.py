"""Waits in the line of one limit with many threads: `python -m tests.herd URL NAME CAPACITY COUNT FOLDER`.

Each thread sleeps until it is woken, asks until it has its lease, says so in a file, and keeps it. It never looks by
itself, so whatever is sent after a release was caused by that release.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasklocks import clock, connect
from tasklocks.backends import Backend
from tasklocks.types import AcquireRequest, Busy, Grant, Place
from tests.processes import ChildProcess, eventually
from tests.relay import Relay

__all__ = ["Herd", "Traffic", "herd"]

PATIENCE = 600.0


@dataclass(frozen=True)
class Traffic:
    """What went over the wire for each of so many releases.

    Attributes:
        requests: how often a client spoke after the server had spoken.
        messages: pieces, in both directions.
        size: bytes, in both directions.
    """

    requests: float
    messages: float
    size: float


class Herd:
    """A limit that is taken, with a line of waiters in other processes, all behind one relay."""

    def __init__(self, url: str, relay: Relay, name: str, capacity: int, folder: Path) -> None:
        self.backend = connect(url)
        self._url = url
        self._relay = relay
        self._name = name
        self._capacity = capacity
        self._folder = folder
        self._released = 0
        self._children: list[ChildProcess] = []
        for number in range(capacity):
            wish = AcquireRequest(name, f"holder-{number}", capacity=capacity, ttl=PATIENCE)
            assert isinstance(self.backend.acquire(wish), Grant)

    def join(self, count: int) -> None:
        """Let a process with so many more waiters stand in line."""
        wanted = [self._url, self._name, str(self._capacity), str(count), str(self._folder)]
        log = self._folder / f"herd-{len(self._children)}.log"
        child = ChildProcess([sys.executable, "-m", "tests.herd", *wanted], log=log)
        self._children.append(child)
        ready = self._folder / f"ready-{child.pid}"
        assert eventually(lambda: ready.exists() or not child.running, within=PATIENCE, every=0.1)
        assert child.running, child.log()

    def release(self, count: int) -> Traffic:
        """End so many leases, one after the other; return what each of them caused until its successor had it.

        What goes over the wire in the same time without any release (sessions are kept alive) does not count.
        """
        began = clock.now()
        busy = self._during(lambda: self._hand_on(count))
        took = clock.now() - began
        idle = self._during(lambda: time.sleep(took))
        return Traffic(*(max(0, more - less) / count for more, less in zip(busy, idle, strict=True)))

    def _hand_on(self, count: int) -> None:
        for _ in range(count):
            assert self.backend.release(self._name, f"holder-{self._released}")
            self._released += 1
            assert eventually(lambda: len(self._served()) >= self._released, within=20, every=0.005), self._served()

    def _during(self, work: Callable[[], object]) -> list[int]:
        """Return requests, messages and bytes while `work` was done."""
        before = self._traffic()
        work()
        return [now - then for then, now in zip(before, self._traffic(), strict=True)]

    def close(self) -> None:
        """End all waiters."""
        for child in self._children:
            child.kill()
        self.backend.close()

    def _traffic(self) -> tuple[int, int, int]:
        return self._relay.requests, self._relay.messages, self._relay.size

    def _served(self) -> Sequence[str]:
        return [owner for file in self._folder.glob("served-*") for owner in file.read_text().splitlines()]


@contextmanager
def herd(url: str, relay: Relay, *, capacity: int, folder: Path) -> Iterator[Herd]:
    """Take all permits of a limit that others can wait for."""
    made = Herd(url, relay, "herd", capacity, folder)
    try:
        yield made
    finally:
        made.close()


def _wait(backend: Backend, request: AcquireRequest, in_line: threading.Semaphore, served: int) -> None:
    listener = backend.listen(request.owner)
    place = Place(request.owner, PATIENCE, listener.address)
    wish = AcquireRequest(request.name, request.owner, 1, request.capacity, PATIENCE, place)
    answer = backend.acquire(wish)
    in_line.release()
    while isinstance(answer, Busy):
        pushed = listener.wait(PATIENCE, answer)
        answer = backend.renew([pushed])[0] if pushed else backend.acquire(wish)
    os.write(served, f"{request.owner}\n".encode())


def main(url: str, name: str, capacity: int, count: int, folder: Path) -> None:
    backend, in_line = connect(url), threading.Semaphore(0)
    served = os.open(folder / f"served-{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    threading.stack_size(256 * 1024)
    for number in range(count):
        request = AcquireRequest(name, f"waiter-{os.getpid()}-{number}", capacity=capacity)
        threading.Thread(target=_wait, args=(backend, request, in_line, served), daemon=True).start()
        in_line.acquire()
    (folder / f"ready-{os.getpid()}").touch()
    threading.Event().wait(PATIENCE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
