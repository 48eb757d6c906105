"""What is written into an ear: who was served, and the head of the line as the teller knew it.

Who joins a line sees who is in front, not who comes behind. So the teller says it: then whoever was served knows whom
to tell in its turn, and its release and the news of it are one transaction. When what it was told is used up, it has to
look, and tells the next one more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasklocks.backends.etcd.keys import Capacity, Entry, Usual, number, written
from tasklocks.backends.etcd.line import Line

__all__ = ["News", "message", "read"]

_TOLD = 6  # entries of the line


@dataclass(frozen=True, slots=True)
class News:
    """One word.

    Attributes:
        name: of the limit.
        served: owners, and the revisions of their entries.
        line: the limit, as it was known.
    """

    name: str
    served: tuple[tuple[str, int], ...]
    line: Line


def message(name: str, served: Sequence[Entry], line: Line) -> bytes:
    """Return a word about those who were served."""
    capacity, usual = line.capacity, line.usual
    entries = [[each.owner, each.permits, each.create, each.ear, each.closed] for each in line.entries[:_TOLD]]
    stated = [capacity.permits, capacity.served_to, capacity.mod]
    facts = [line.revision, stated, usual.hold, usual.released, line.total]
    return written([name, [[each.owner, each.create] for each in served], facts, entries])


def read(value: bytes) -> News | None:
    """Return the word that stands in an ear; None if nothing can be read there."""
    match json.loads(value):
        case [str(name), [*served], [int(revision), capacity, hold, released, int(total)], [*rows]]:
            usual = Usual(None if hold is None else number(hold), number(released))
            line = Line(revision, Capacity(*map(int, capacity)), usual, tuple(_entry(*row) for row in rows), total)
            return News(name, tuple((str(owner), int(create)) for owner, create in served), line)
        case _:
            return None


def _entry(owner: Any, permits: Any, create: Any, ear: Any, closed: Any) -> Entry:
    return Entry(str(owner), int(permits), 0.0, 0.0, 0.0, 0, str(ear), "", bool(closed), int(create))
