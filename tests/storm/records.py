"""What is known of every lease, as its holder knew it: one line a fact, in a file that all processes of a run share.

An append of one line is atomic, and all times are on the clock that all processes of a host share.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tasklocks import clock
from tasklocks.types import Grant

__all__ = ["Journal", "Record", "read"]


@dataclass(frozen=True)
class Record:
    """One fact.

    Attributes:
        what: "granted", "renewed" or "told" (of its loss), each noted when the answer was there; "released", noted
            before the release was sent; "sure": the lease said that it is not lost; "wrote" and "refused": what a
            fenced store answered; "killed": the process is gone.
        at: when.
        pid: whose process.
        limit: the limit; "-" for a process.
        owner: the lease's owner; "-" for a process.
        token: the lease's; 0 where only the owner is known.
        permits: how many permits the lease covers.
        deadline: the end of the lease, as its holder knew it then.
        asked: a moment before the question was asked whose answer this is. 0: not known.
    """

    what: str
    at: float
    pid: int
    limit: str = "-"
    owner: str = "-"
    token: int = 0
    permits: int = 1
    deadline: float = 0.0
    asked: float = 0.0

    def line(self) -> bytes:
        facts = [self.what, self.at, self.pid, self.limit, self.owner, self.token, self.permits, self.deadline]
        return (" ".join(map(str, [*facts, self.asked])) + "\n").encode()


class Journal:
    """Appends records to a file that many processes share."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, grant: Grant, asked: float = 0.0) -> None:
        """Note a fact about a lease of this process."""
        facts = (grant.name, grant.owner, grant.fencing_token, grant.permits, grant.deadline, asked)
        self._append(Record(what, clock.now(), os.getpid(), *facts))

    def released(self, limit: str, owner: str) -> None:
        """Note that an owner is about to give back what it has."""
        self._append(Record("released", clock.now(), os.getpid(), limit, owner))

    def killed(self, pid: int) -> None:
        """Note that a process is gone."""
        self._append(Record("killed", clock.now(), pid))

    def close(self) -> None:
        os.close(self._file)

    def _append(self, record: Record) -> None:
        os.write(self._file, record.line())


def read(path: Path) -> list[Record]:
    """Return all records in the order of their times."""
    return sorted(map(_parsed, path.read_text().splitlines()), key=lambda record: record.at)


def _parsed(line: str) -> Record:
    what, at, pid, limit, owner, *numbers = line.split()
    token, permits, deadline, asked = numbers
    return Record(what, float(at), int(pid), limit, owner, int(token), int(permits), float(deadline), float(asked))
