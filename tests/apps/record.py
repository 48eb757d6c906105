"""A record that tasks write and tests read: one JSON line a fact, in a file, so that it survives whatever is killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Record", "note", "section"]


def note(kind: str, key: str, **facts: Any) -> None:
    """Append a fact; one write, so that those of several processes do not mix."""
    line = json.dumps({"kind": kind, "key": key, "at": time.monotonic(), "pid": os.getpid(), **facts}, default=repr)
    file = os.open(os.environ["TEST_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


@contextmanager
def section(key: str, **facts: Any) -> Iterator[None]:
    """Note the begin and the end of what must not overlap."""
    note("begin", key, **facts)
    try:
        yield
    finally:
        note("end", key, **facts)


class Record:
    """What the tasks of one worker wrote so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()

    def facts(self, kind: str, key: str) -> list[dict[str, Any]]:
        """All facts of a kind, oldest first."""
        found = [fact for fact in self._all() if fact["kind"] == kind and fact["key"] == key]
        return sorted(found, key=lambda fact: fact["at"])

    def facts_of(self, kind: str) -> list[dict[str, Any]]:
        """All facts of a kind, as they were written."""
        return [fact for fact in self._all() if fact["kind"] == kind]

    def count(self, kind: str, key: str) -> int:
        return len(self.facts(kind, key))

    def most_at_once(self, key: str, weight: Callable[[dict[str, Any]], int] = lambda fact: 1) -> int:
        """How many sections were open at the same moment, at the most."""
        steps = [(fact["at"], 1, weight(fact)) for fact in self.facts("begin", key)]
        steps += [(fact["at"], 0, -weight(fact)) for fact in self.facts("end", key)]
        open_now = most = 0
        for _, _, change in sorted(steps):
            open_now += change
            most = max(most, open_now)
        return most

    def _all(self) -> Iterator[dict[str, Any]]:
        # A fact that is being written may be there in part; it has no end of line yet.
        return (json.loads(line) for line in self.path.read_text().split("\n")[:-1])
