"""What the demo's tasks write down themselves while they hold a lock, and how it is read again.

Each process appends whole lines to one file, so that nothing of it depends on the locks that it is to prove.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Again", "Hold", "Record", "Story"]


@dataclass(frozen=True, slots=True)
class Hold:
    """One task's body, from its first to its last step under its lock.

    Attributes:
        limit: the lock's name.
        what: what the body worked on.
        task: the task's id.
        worker: the worker's name.
        pid: the process.
        token: the lease's fencing token; 0 if there was no lease.
        retries: the task's own retries, which waiting does not count.
        start: seconds on the host's monotonic clock, which all processes share.
        end: the same; None: it has not ended.
    """

    limit: str
    what: str
    task: str
    worker: str
    pid: int
    token: int
    retries: int
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A task that was busy and was sent again.

    Attributes:
        name: the task's name.
        task: its id.
        time: seconds on the monotonic clock.
        reason: what Celery was told.
    """

    name: str
    task: str
    time: float
    reason: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that was written down so far, by start."""

    holds: tuple[Hold, ...] = ()
    again: tuple[Again, ...] = ()
    failures: tuple[str, ...] = ()

    def of(self, limit: str) -> tuple[Hold, ...]:
        """Return the holds of one lock."""
        return tuple(hold for hold in self.holds if hold.limit == limit)

    def running(self) -> tuple[Hold, ...]:
        """Return the holds that have not ended."""
        return tuple(hold for hold in self.holds if hold.end is None)


class Record:
    """The file to which all processes append."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def hold(self, limit: str, **facts: Any) -> Iterator[None]:
        """Write down the start and the end of the block."""
        key = f"{os.getpid()}-{time.monotonic_ns()}"
        self.append(event="start", key=key, limit=limit, pid=os.getpid(), **facts)
        try:
            yield
        finally:
            self.append(event="end", key=key)

    def append(self, **facts: Any) -> None:
        """Write one line, in one step: with O_APPEND, lines of several processes do not mix."""
        line = json.dumps({"time": time.monotonic(), **facts}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self) -> Story:
        """Return what is in the file now."""
        if not self.path.exists():
            return Story()
        # A reader may come upon a line that is being written.
        whole, _, _ = self.path.read_text().rpartition("\n")
        return _story([json.loads(line) for line in whole.splitlines()])


def _story(lines: list[dict[str, Any]]) -> Story:
    ends = {line["key"]: line["time"] for line in lines if line["event"] == "end"}
    holds = [_hold(line, ends) for line in lines if line["event"] == "start"]
    return Story(
        tuple(sorted(holds, key=lambda hold: hold.start)),
        tuple(_again(line) for line in lines if line["event"] == "retry"),
        tuple(f"{line['name']}[{line['task']}]: {line['reason']}" for line in lines if line["event"] == "failure"),
    )


def _hold(line: dict[str, Any], ends: dict[str, float]) -> Hold:
    facts = {key: line[key] for key in ("limit", "what", "task", "worker", "pid", "token", "retries")}
    return Hold(**facts, start=line["time"], end=ends.get(line["key"]))


def _again(line: dict[str, Any]) -> Again:
    return Again(line["name"], line["task"], line["time"], line["reason"])
