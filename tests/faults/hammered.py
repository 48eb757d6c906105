"""Processes that take turns with two limits before, during and after a fault, and a judge of what they noted."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes import ChildProcess, eventually
from tests.storm.checker import check
from tests.storm.hammer import CAPACITIES, MUTEX
from tests.storm.records import read
from tests.storm.store import Store

__all__ = ["hammered"]

PROCESSES = 4
# What a store that forgets leases causes: two believe in theirs, and the fenced store refuses the older.
_FORGOTTEN = re.compile(r"\d+ permits of \d+ were held|a write was refused")


def hammered(url: str, ttl: float, folder: Path, fault: Callable[[], object], *, forgets: bool = False) -> None:
    """Insist that nobody overlaps, tokens grow, no write is lost and all go on by themselves.

    Args:
        url: of the store.
        ttl: of the leases.
        folder: where the processes keep their record.
        fault: what happens to the store meanwhile.
        forgets: whether the fault may make the store forget leases; then only fencing keeps those who hold apart.
    """
    crew = [_hammer(url, ttl, folder) for _ in range(PROCESSES)]
    try:
        assert eventually(lambda: _granted(folder) > 20, within=30), crew[0].log()
        fault()
        done = _granted(folder)
        assert eventually(lambda: _granted(folder) > done + 50, within=60, every=0.2), crew[0].log()
        (folder / "stop").touch()
        for each in crew:
            assert each.wait(40) == 0, each.log()
    finally:
        for each in crew:
            each.kill()
    _judge(folder, forgets)


def _judge(folder: Path, forgets: bool) -> None:
    verdict = check(read(folder / "journal"), CAPACITIES)
    print(verdict)
    complaints = [each for each in verdict.complaints if not (forgets and _FORGOTTEN.match(each))]
    assert not complaints, "\n".join(complaints[:5])
    store = Store(folder / "store")
    assert store.value(MUTEX) == len(store.tokens(MUTEX)), "a write was overwritten by one that had not seen it"
    assert verdict.wrote > 0
    store.close()


def _hammer(url: str, ttl: float, folder: Path) -> ChildProcess:
    return ChildProcess([sys.executable, "-m", "tests.storm.hammer", url, str(folder), str(ttl)], log=folder / "log")


def _granted(folder: Path) -> int:
    journal = folder / "journal"
    return journal.read_bytes().count(b"granted") if journal.exists() else 0
