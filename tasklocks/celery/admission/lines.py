"""The messages that a worker holds: a line for each limit, first come, first served."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import islice

from tasklocks.backends import Backend
from tasklocks.celery.admission.held import Held, Key

__all__ = ["Lines"]


class Lines:
    """What is held, by limit. Only the event loop uses it."""

    def __init__(self) -> None:
        self._lines: dict[Key, dict[int, Held]] = {}
        self._count = 0
        self.standing = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Held]:
        """Yield all that is held, oldest first."""
        return iter(sorted((each for line in self._lines.values() for each in line.values()), key=_age))

    def add(self, held: Held) -> None:
        """Put it at the end of its limit's line."""
        self._lines.setdefault(held.key, {})[held.number] = held
        self._count += 1

    def remove(self, held: Held) -> None:
        """Take it out."""
        line = self._lines[held.key]
        del line[held.number]
        if not line:
            del self._lines[held.key]
        self._count -= 1

    def waits_for(self, held: Held, first: int) -> None:
        """Let it wait for another of its locks, in its old place by age."""
        self.remove(held)
        held.first = first
        self.add(held)
        self._lines[held.key] = dict(sorted(self._lines[held.key].items()))

    def length(self, key: Key) -> int:
        """Return how many wait for a limit."""
        return len(self._lines.get(key, ()))

    def is_first(self, held: Held) -> bool:
        """Tell whether it is the head of its limit's line."""
        return next(iter(self._lines[held.key])) == held.number

    def stand(self, held: Held) -> None:
        """Note that a thread asks for it."""
        held.standing, held.answered = True, False
        self.standing += 1

    def step_back(self, held: Held) -> None:
        """Note that no thread asks for it any more."""
        held.standing = False
        self.standing -= 1

    @property
    def unanswered(self) -> bool:
        """Whether one stands that has heard nothing yet."""
        return any(each.standing and not each.answered for line in self._lines.values() for each in line.values())

    @property
    def crowded(self) -> bool:
        """Whether more limits have a line than messages stand."""
        return len(self._lines) > self.standing

    def next_to_stand(self, places: int, now: float, silent: Container[Backend] = ()) -> Sequence[Held]:
        """Return who is to stand next: heads before others, the oldest of them first.

        Args:
            places: how many may stand in all.
            now: local clock.
            silent: backends that are not to be asked now.
        """
        free = places - self.standing
        if free <= 0:
            return ()
        front = ((depth, held) for line in self._asked(silent) for depth, held in _front(line, places))
        due = [(depth, held.number, held) for depth, held in front if _may_stand(held, now)]
        return [held for _, _, held in sorted(due)[:free]]

    def in_the_way(self, places: int, now: float, silent: Container[Backend] = ()) -> Sequence[Held]:
        """Return who is to leave its line, so that a limit is asked for that may be free: the newest, heads last.

        Args:
            places: how many may stand in all.
            now: local clock.
            silent: backends that are not to be asked now.
        """
        if places > self.standing or places <= 0:
            return ()
        heads = (next(iter(line.values())) for line in self._asked(silent))
        waiting = sum(_may_stand(head, now) for head in heads)
        if not waiting:
            return ()
        front = ((depth, held) for line in self._lines.values() for depth, held in _front(line, places))
        idle = [(depth, held.number, held) for depth, held in front if held.standing and held.answered]
        return [held for _, _, held in sorted(idle, reverse=True)[:waiting]]

    def _asked(self, silent: Container[Backend]) -> Iterator[dict[int, Held]]:
        return (line for (backend, _), line in self._lines.items() if backend not in silent)


def _front(line: dict[int, Held], places: int) -> Iterator[tuple[int, Held]]:
    return enumerate(islice(line.values(), places))


def _may_stand(held: Held, now: float) -> bool:
    return not held.standing and not held.leaving and held.looks_at <= now


def _age(held: Held) -> int:
    return held.number
