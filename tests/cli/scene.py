"""The night that `docs/cli.md` shows: a shop whose import of one account hangs, with two tasks behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasklocks import RateLimit, who
from tasklocks.backends import Backend
from tasklocks.testing.asking import Line, away, look, taken

HANGS, NEXT, LAST = "0b9a6d1e", "5c1f22a8", "e7704b39"


@contextmanager
def a_night(backend: Backend) -> Iterator[None]:
    """Fill the backend."""
    taken(backend, "before", "import-7")
    time.sleep(1.2)
    backend.release("import-7", "before")
    taken(backend, f"{HANGS}:a1", "import-7", info=_about("import_account", HANGS, "w1", "811"))
    with Line(backend) as line:
        line.join(f"{NEXT}:b2", "import-7", info=_about("import_account", NEXT, "w2", "402"))
        look(
            backend,
            f"{LAST}:c3",
            "import-7",
            place=away(f"task:{LAST}"),
            info=_about("close_account", LAST, "w1", "812"),
        )
        for number in range(4):
            info = _about("save", f"9d20cc0{number}", "w2", f"40{number}")
            taken(backend, f"9d20cc0{number}:d{number}", "save-to-storage", capacity=10, info=info)
        RateLimit("partner-api", "100/m", backend=backend).reserve()
        time.sleep(0.5)
        yield


def _about(task: str, number: str, worker: str, pid: str) -> str:
    return who.written(task=f"shop.{task}", id=number, host=f"celery@{worker}", pid=pid)
