"""What critical sections leave behind, and the check that no two of them overlap.

Each section appends one line when it begins and one when it ends; an append of one line is atomic, so the file's order
is the order of events. Times are on the clock that all processes of a host share.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from tasklocks import clock

__all__ = ["Journal", "Record", "Verdict", "check", "read"]


@dataclass(frozen=True)
class Record:
    """One line: the section of `token` began ("enter") or ended ("leave") at `at`.

    `deadline` is the end of its lease as the holder knew it then.
    """

    what: str
    pid: int
    token: int
    at: float
    deadline: float

    def line(self) -> bytes:
        return f"{self.what} {self.pid} {self.token} {self.at!r} {self.deadline!r}\n".encode()


class Journal:
    """Appends records to a file that many processes share."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, token: int, deadline: float) -> None:
        os.write(self._file, Record(what, os.getpid(), token, clock.now(), deadline).line())


@dataclass(frozen=True)
class Verdict:
    """What a journal says.

    Attributes:
        complaints: what must not have happened.
        completed: sections that ended by themselves, with their lease.
        cut_short: sections without an end: their process was killed.
        outlived: sections whose lease ended before they did, because their process did not run for so long.
    """

    complaints: tuple[str, ...]
    completed: int
    cut_short: int
    outlived: int


def read(path: Path) -> list[Record]:
    """Return all records in order."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [Record(what, int(pid), int(token), float(at), float(deadline)) for what, pid, token, at, deadline in rows]


def check(records: list[Record], killed: set[int]) -> Verdict:
    """Check a mutex's records: sections of live processes must not overlap, leases not end early, tokens only grow."""
    enters = [record for record in records if record.what == "enter"]
    leaves = {record.token: record for record in records if record.what == "leave"}
    complaints = [*_overlaps(enters, leaves), *_backward_tokens(enters)]
    complaints += [
        f"{record} has no end, but its process was not killed"
        for record in enters
        if record.token not in leaves and record.pid not in killed
    ]
    outlived = sum(1 for leave in leaves.values() if leave.at >= leave.deadline)
    return Verdict(tuple(complaints), len(leaves) - outlived, len(enters) - len(leaves), outlived)


def _overlaps(enters: list[Record], leaves: dict[int, Record]) -> list[str]:
    return [
        f"{later} began before the end of {earlier}"
        for earlier, later in itertools.pairwise(enters)
        if later.at < _end(earlier, leaves.get(earlier.token))
    ]


def _end(enter: Record, leave: Record | None) -> float:
    """When the section's protection ended: with the section, or with its lease if that came first."""
    # Nothing renews a killed holder's lease, and no section here is long enough for a renewal to matter before.
    return enter.deadline if leave is None else min(leave.at, leave.deadline)


def _backward_tokens(enters: list[Record]) -> list[str]:
    return [
        f"the token of {later} is not larger than that of {earlier}"
        for earlier, later in itertools.pairwise(enters)
        if later.token <= earlier.token
    ]
