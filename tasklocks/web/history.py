"""The last minutes of the limits that somebody watches, as far as one saw them: samples, and who held and waited when.

It is kept in memory only, and bounded: so many limits, so many samples and spans of each, so many seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tasklocks import who
from tasklocks.types import LimitState
from tasklocks.web.lines import held

__all__ = ["MINUTES", "History", "Past", "Sample", "Span"]

MINUTES = 5.0

_KEPT = MINUTES * 60
_SPANS = 300
_LIMITS = 1000
_SEEN = 100  # holders and waiters of one limit whose spans are kept

Sample = tuple[float, int, int, int]
"""Backend's clock, capacity, held, waiting; it counts until the next one. Capacity -1: nobody looked."""


@dataclass(slots=True)
class Span:
    """One lease or one wait.

    Attributes:
        label: the task and its id, or what the backend knows it by.
        permits: how many.
        since: backend's clock; exact.
        until: backend's clock; when it was seen to be over. None: not yet.
    """

    label: str
    permits: int
    since: float
    until: float | None = None


@dataclass(slots=True)
class Past:
    """What was seen of one limit."""

    samples: list[Sample] = field(default_factory=list)
    holds: dict[str, Span] = field(default_factory=dict)
    waits: dict[str, Span] = field(default_factory=dict)

    def add(self, at: float, since: float, state: LimitState) -> None:
        """Note how a limit is at `at`; the look before was at `since`."""
        # A limit that is forgotten still has the capacity that it had.
        capacity = state.capacity or (self.samples[-1][1] if self.samples else 0)
        self.note((at, capacity, held(state), len(state.waiters)))
        holds = [(str(each.fencing_token), each.info, each.owner, each.permits, each.since) for each in state.holders]
        waits = [(each.ticket, each.info, each.ticket, each.permits, each.since) for each in state.waiters]
        _follow(self.holds, holds, at, since)
        _follow(self.waits, waits, at, since)

    def note(self, sample: Sample) -> None:
        """Note a sample, if it says anything new, and forget what is too old."""
        if not self.samples or self.samples[-1][1:] != sample[1:]:
            self.samples.append(sample)
        # The last one before the window says how it began.
        old = sum(each[0] < sample[0] - _KEPT for each in self.samples)
        del self.samples[: max(0, old - 1, len(self.samples) - _SPANS)]


class History:
    """The past of the limits that are watched."""

    def __init__(self) -> None:
        self._pasts: dict[str, Past] = {}
        self._wanted: dict[str, float] = {}  # when each was last wanted; the longest ago first
        self._at = 0.0

    def past(self, name: str) -> Past:
        """Return what was seen of a limit."""
        return self._pasts.get(name) or Past()

    def add(self, at: float, states: Iterable[LimitState]) -> None:
        """Note how limits are at `at`, backend's clock."""
        for state in states:
            self._pasts.setdefault(state.name, Past()).add(at, self._at, state)
        self._at = at

    def keep(self, names: Collection[str], at: float) -> Collection[str]:
        """Return whose past is to be kept: of these, and for some minutes of those that were among them before."""
        for name in names:
            self._wanted.pop(name, None)
            self._wanted[name] = at
        over = [name for name, wanted in self._wanted.items() if wanted < at - _KEPT]
        for name in (*over, *islice(self._wanted, len(over), max(len(over), len(self._wanted) - _LIMITS))):
            del self._wanted[name]
            self._pasts.pop(name, None)
        return self._wanted.keys()

    def gap(self) -> None:
        """From the last look until the next one nobody knows anything."""
        for past in self._pasts.values():
            past.note((self._at, -1, 0, 0))

    def clear(self) -> None:
        """Forget everything."""
        self._pasts.clear()
        self._wanted.clear()


_Seen = tuple[str, str, str, int, float]


def _follow(spans: dict[str, Span], seen: Sequence[_Seen], at: float, looked: float) -> None:
    """Begin the spans that are new, and end those that are not there any more."""
    new: list[float] = []
    for key, info, name, permits, since in islice(seen, _SEEN):
        before = spans.get(key)
        if before is not None and before.until is not None:
            # A task that waits again has the ticket that it had.
            spans[f"{key} until {before.until}"] = spans.pop(key)
        if before is None or before.until is not None:
            spans[key] = Span(_label(who.read(info), name), permits, since)
            new.append(since)
    # It ended between two looks. Where another began meanwhile, most likely that is when.
    end = min((each for each in new if looked < each <= at), default=at)
    there = {each[0] for each in seen}
    for key, span in spans.items():
        if span.until is None and key not in there:
            span.until = max(span.since, end)
    _forget(spans, at)


def _forget(spans: dict[str, Span], at: float) -> None:
    over = [key for key, span in spans.items() if span.until is not None and span.until < at - _KEPT]
    for key in over:
        del spans[key]
    for key in list(islice(spans, max(0, len(spans) - _SPANS))):
        del spans[key]


def _label(facts: Mapping[str, str], otherwise: str) -> str:
    task, number = facts.get("task", ""), facts.get("id", "")
    return f"{task}[{number}]" if task else number or otherwise
