"""Did the locks keep their promise? Judged by what the tasks wrote down, and by the index that they left."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from record import Hold, Story

__all__ = ["Verdict", "judge", "most_at_once", "overlaps", "tokens_grow"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        overlaps: pairs of holders of the mutex that held it at the same time.
        readers: the most holders of the semaphore at the same time.
        allowed: how many it has permits for.
        problems: everything that is wrong, for people; empty: all is well.
    """

    overlaps: int
    readers: int
    allowed: int
    problems: tuple[str, ...]

    @property
    def title(self) -> str:
        """The two promises in one line."""
        return f"mutex: {self.overlaps} overlaps; readers: at most {self.readers} at once"


def judge(story: Story, *, allowed: int, tasks: int, index: Mapping[str, int], expected: Mapping[str, int]) -> Verdict:
    """Compare what happened with what must be.

    Args:
        story: what the tasks wrote down.
        allowed: the semaphore's permits.
        tasks: how many bodies had to run.
        index: the words in the index.
        expected: the same, counted directly.
    """
    pairs, readers = overlaps(story.of("index")), most_at_once(story.of("readers"))
    ended = sum(hold.end is not None for hold in story.holds)
    checks = {
        f"{len(pairs)} pairs of tasks held the mutex at the same time": bool(pairs),
        f"{readers} readers at once, {allowed} are allowed": readers > allowed,
        f"{ended} task bodies ran to their end, not {tasks}": ended != tasks,
        "a later holder of the mutex has a smaller fencing token": not tokens_grow(story.of("index")),
        _difference(index, expected): index != expected,
        f"{len(story.failures)} tasks failed, first {next(iter(story.failures), '')}": bool(story.failures),
    }
    return Verdict(len(pairs), readers, allowed, tuple(text for text, wrong in checks.items() if wrong))


def overlaps(holds: Sequence[Hold]) -> list[tuple[Hold, Hold]]:
    """Return each pair of holds that share a moment."""
    return [
        (first, second)
        for position, first in enumerate(holds)
        for second in holds[position + 1 :]
        if first.start < _end(second) and second.start < _end(first)
    ]


def most_at_once(holds: Sequence[Hold]) -> int:
    """Return the largest number of holds at one moment; one that ends as another starts does not count twice."""
    steps = sorted([(hold.start, 1) for hold in holds] + [(_end(hold), -1) for hold in holds])
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def tokens_grow(holds: Sequence[Hold]) -> bool:
    """Tell whether each holder had a larger fencing token than the one before; without leases: yes."""
    tokens = [hold.token for hold in sorted(holds, key=lambda hold: hold.start) if hold.token]
    return all(earlier < later for earlier, later in itertools.pairwise(tokens))


def _end(hold: Hold) -> float:
    return math.inf if hold.end is None else hold.end


def _difference(index: Mapping[str, int], expected: Mapping[str, int]) -> str:
    missing = (Counter(expected) - Counter(index)).total()
    surplus = (Counter(index) - Counter(expected)).total()
    return f"the index lost {missing} of {sum(expected.values())} words and has {surplus} too many"
