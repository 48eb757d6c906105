"""A night at the shop, for the page: a jam, an overlap, a permit that lies idle, and much that is as it should be."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import tasklocks
from tasklocks import RateLimit, who
from tasklocks.backends import Backend
from tasklocks.beat.book import Book, Claim, Run
from tasklocks.testing.asking import Line, away, look, taken

__all__ = ["a_night", "about", "changing", "ticks"]

_TASKS = ("import_account", "close_account", "save", "mail", "report", "thumbnail")


def about(task: str, number: str, worker: str = "w1", pid: int = 811) -> str:
    """Return what an owner says about itself."""
    return who.written(task=f"shop.{task}", id=number, host=f"celery@{worker}", pid=str(pid))


@contextmanager
def a_night(backend: Backend) -> Iterator[None]:
    """Fill the backend, and keep some limits changing."""
    with Line(backend) as line:
        taken(backend, "0b9a6d1e:a1", "import-7", ttl=600, info=about("import_account", "0b9a6d1e"))
        line.join("5c1f22a8:b2", "import-7", keep=600, info=about("import_account", "5c1f22a8", "w2", 402))
        _away(backend, "import-7", "e7704b39", "close_account")
        _overlap(backend)
        _idle(backend)
        RateLimit("mail-server", "5/s", backend=backend).reserve()
        for _ in range(20):
            RateLimit("partner-api", "120/m", backend=backend).reserve()
        for _ in range(7):
            RateLimit("geo-quota", "1000/h", algorithm="sliding", backend=backend).reserve()
        tasklocks.pause("mail-server", 240, backend=backend)
        ticks(backend)
        with changing(backend, [f"{task}-{number}" for task in ("thumbnail", "save") for number in range(6)]):
            yield


def _away(backend: Backend, name: str, number: str, task: str, **wish: object) -> None:
    look(backend, f"{number}:x", name, place=away(f"task:{number}", 600.0), info=about(task, number), **wish)


def _overlap(backend: Backend) -> None:
    """Three hold what has room for two since somebody deployed a smaller capacity."""
    for number in range(3):
        info = about("save", f"9d20cc0{number}", "w2", 400 + number)
        taken(backend, f"9d20cc0{number}:d", "save-to-storage", capacity=3, ttl=600, info=info)
        time.sleep(0.3)
    _away(backend, "save-to-storage", "77aa0c11", "save", capacity=2)


def _idle(backend: Backend) -> None:
    """One of two permits is free, and whoever waits for it is away."""
    taken(backend, "c0ffee01:e", "report-pdf", capacity=2, ttl=600, info=about("report", "c0ffee01"))
    taken(backend, "c0ffee02:e", "report-pdf", capacity=2, ttl=600, info=about("report", "c0ffee02", "w2"))
    _away(backend, "report-pdf", "c0ffee03", "report", capacity=2)
    backend.release("report-pdf", "c0ffee02:e")


def ticks(backend: Backend, name: str = "tasklocks-beat") -> None:
    """Write a schedule's book, as a leader that has just sent some ticks."""
    lead = taken(backend, "beat-1", name, ttl=600, info=who.written(host="beat-1.shop", pid="77"))
    book, now = Book(backend, name), round(time.time() * 1e6)
    book.open(lead.fencing_token)
    book.add({"yearly-audit": now})
    for back, entry in enumerate(("cleanup", "nightly-report", "refresh-rates")):
        due = now - back * 60_000_000
        book.claim([Claim(entry, Run(due + 40_000, due))])
        if back:
            book.sent(entry, due)
    book.flush()


@contextmanager
def changing(backend: Backend, names: list[str], *, pause: float = 0.05, seed: int = 1) -> Iterator[None]:
    """Let limits be taken and given back all the time, by a thread."""
    stop = threading.Event()

    def run() -> None:
        chance, held = random.Random(seed), dict[str, str]()
        while not stop.wait(pause):
            name = chance.choice(names)
            if name in held:
                backend.release(name, held.pop(name))
            else:
                held[name] = f"{chance.randrange(16**8):08x}:z"
                info = about(chance.choice(_TASKS), held[name].partition(":")[0])
                taken(backend, held[name], name, capacity=3, info=info)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
