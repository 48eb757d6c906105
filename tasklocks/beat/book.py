"""The book of ticks: what ran last, kept in the backend, and written before a tick is sent, never after.

A tick is claimed by one atomic step that succeeds for the newest leader only, and for each due time only once. So two
beats that both believe to lead (one was frozen, or cut off) cannot send the same tick, whatever their clocks say.
The book has a few pages, each one small text; an entry is always on the same page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from zlib import crc32

from tasklocks.backends.base import Backend
from tasklocks.errors import BackendUnavailable, LeaseLost

__all__ = ["Book", "Claim", "Run", "runs_in", "schedule_of"]

_PAGES = 16
_TICKS = "/ticks/"
_KEEP = 400 * 86400.0  # a yearly entry's last run is still known
_LONGEST = 100_000  # characters; the oldest runs are forgotten then

T = TypeVar("T")
_Step = Callable[[str, float], tuple[str, float, T]]


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of an entry.

    Attributes:
        last: when it was claimed; microseconds since the epoch. Before its first run: from when that one counts.
        due: for which tick; microseconds since the epoch. Before its first run: 0.
        sent: whether it is known to be sent. If not, its leader may have died before.
    """

    last: int
    due: int
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A tick that is about to be sent."""

    name: str
    run: Run
    before: Run | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    token: int
    runs: dict[str, Run]

    def written(self) -> str:
        runs = {name: (run.last, run.due, int(run.sent)) for name, run in self.runs.items()}
        return json.dumps({"token": self.token, "runs": runs}, separators=(",", ":"))


class Book:
    """The last runs of one schedule, as one leader knows and writes them.

    Args:
        backend: where it is kept.
        name: of the schedule.

    Attributes:
        remade: whether pages were lost and were written again from what a standby had read.
        ahead: seconds by which this host's clock is ahead of the backend's, as far as the last answer tells; negative:
            behind. Always about 0 where the backend has no clock of its own.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name
        self._token = 0
        self._newest_token = 0
        self.remade = False
        self.ahead = 0.0
        self._runs: list[dict[str, Run]] = [{} for _ in range(_PAGES)]
        self._sent: list[dict[str, int]] = [{} for _ in range(_PAGES)]
        self._asked: dict[str, Run] = {}

    def runs(self) -> dict[str, Run]:
        """Return all runs that are known here."""
        return {name: run for page in self._runs for name, run in page.items()}

    def run_of(self, name: str) -> Run | None:
        """Return the last run of an entry, as far as it is known here; None: nothing is."""
        return self._runs[self.page_of(name)].get(name)

    def look(self) -> None:
        """Read what the leader has written, for the day on which the backend has lost it."""
        for number in range(_PAGES):
            page = self._page(number)
            self._newest_token = max(self._newest_token, page.token)
            self._runs[number] = page.runs or self._runs[number]

    def look_at_clock(self) -> None:
        """Bring `ahead` up to date.

        Raises:
            BackendUnavailable: it stays as it was.
        """
        self._page(0)

    def misses_its_writer(self) -> bool:
        """Tell whether the backend has lost the book, and another process wrote it last."""
        known = [number for number in range(_PAGES) if self._runs[number]]
        written_by_other = bool(known) and self._newest_token != self._token
        return written_by_other and not any(self._page(number).token for number in known)

    def open(self, token: int) -> None:
        """Take the book over: from now on nobody with a smaller token can write into it.

        Raises:
            LeaseLost: somebody with a larger one has it already.
            BackendUnavailable: it may be taken over in part; opening it again is harmless.
        """
        self.remade = self.misses_its_writer()
        self._token = self._newest_token = token
        self._asked.clear()
        for number in range(_PAGES):
            self._write(number, lambda runs: runs)

    def add(self, began: Mapping[str, int]) -> None:
        """Write down entries that have not run yet, with the moment from which their first run counts.

        Args:
            began: by name; microseconds since the epoch.

        Raises:
            LeaseLost: there is a newer leader.
            BackendUnavailable: a part may be written; adding it again is harmless.
        """
        by_page: dict[int, dict[str, Run]] = {}
        for name, moment in began.items():
            by_page.setdefault(self.page_of(name), {})[name] = Run(moment, due=0, sent=True)
        for page, new in by_page.items():
            self._write(page, lambda known, new=new: new | known)  # type: ignore[misc]

    def page_of(self, name: str) -> int:
        """Return the page of an entry; ticks on one page can be claimed together."""
        return crc32(name.encode("utf-8", "replace")) % _PAGES

    def claim(self, wanted: Sequence[Claim]) -> list[Claim]:
        """Note that these ticks, all of one page, are about to be sent; return those that nobody has claimed before.

        Raises:
            LeaseLost: there is a newer leader.
            BackendUnavailable: nothing is known; to claim again is harmless for a tick that is not sent.
        """
        granted: list[Claim] = []

        def change(runs: dict[str, Run]) -> dict[str, Run]:
            granted[:] = [replace(claim, before=runs.get(claim.name)) for claim in wanted if self._is_free(claim, runs)]
            return runs | {claim.name: claim.run for claim in granted}

        try:
            self._write(self.page_of(wanted[0].name), change)
        except BackendUnavailable:
            # Done or not: should they be found there, they are ours, and not sent.
            self._asked.update((claim.name, claim.run) for claim in wanted)
            raise
        return granted

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Undo claims of ticks that were certainly not sent.

        Raises:
            LeaseLost: there is a newer leader, who has read them already.
            BackendUnavailable: nothing is known.
        """
        by_page: dict[int, list[Claim]] = {}
        for claim in claims:
            by_page.setdefault(self.page_of(claim.name), []).append(claim)
        for page, theirs in by_page.items():
            self._write(page, lambda runs, theirs=theirs: _without(runs, theirs))  # type: ignore[misc]

    def sent(self, name: str, due: int) -> None:
        """Remember that a tick is sent, or never will be; written with the page's next change."""
        self._asked.pop(name, None)
        self._sent[self.page_of(name)][name] = due

    def flush(self) -> None:
        """Write what `sent` has remembered.

        Raises:
            LeaseLost: there is a newer leader.
            BackendUnavailable: nothing is known; flush again later.
        """
        for page, names in enumerate(self._sent):
            if names:
                self._write(page, lambda runs: runs)

    def _is_free(self, claim: Claim, runs: Mapping[str, Run]) -> bool:
        found = runs.get(claim.name)
        # Found as we wrote it: a backend may have lost the answer and asked us again.
        mine = found in (claim.run, self._asked.get(claim.name))
        return found is None or claim.run.due > found.due or mine

    def _write(self, page: int, change: Callable[[dict[str, Run]], dict[str, Run]]) -> None:
        known, sent, token = self._runs[page], dict(self._sent[page]), self._token

        def step(text: str, _: float) -> tuple[str, float, _Page]:
            found = _read(text)
            if found.token > token:
                return text, _KEEP, found
            # No token: the backend has lost the page. Else it is right, also where it knows less than we have read:
            # claims can be given back.
            runs = found.runs if found.token else dict(known)
            new = _Page(token, _bounded(change(_marked(runs, sent))))
            return new.written(), _KEEP, new

        answer = self._update(page, step)
        if answer.token > token:
            raise LeaseLost(f"the schedule {self._name!r} has a newer leader", name=self._name)
        self._runs[page] = answer.runs
        for name in sent:
            del self._sent[page][name]

    def _page(self, number: int) -> _Page:
        return self._update(number, lambda text, _: (text, _KEEP, _read(text)))

    def _update(self, page: int, step: _Step[T]) -> T:
        def timed(text: str, now: float) -> tuple[str, float, tuple[T, float]]:
            new, keep, answer = step(text, now)
            return new, keep, (answer, now)

        asked = time.time()
        answer, now = self._backend.update(f"{self._name}{_TICKS}{page}", timed)
        # While the answer travelled the backend's clock may have gone on: only what is beyond that is a difference.
        self.ahead = max(asked - now, 0.0) or min(time.time() - now, 0.0)
        return answer


def schedule_of(text_name: str) -> str:
    """Return the schedule that a text of the backend is a page of; empty if it is none, as far as its name tells."""
    schedule, _, number = text_name.rpartition(_TICKS)
    return schedule if number.isdecimal() else ""


def runs_in(text: str) -> dict[str, Run]:
    """Return the runs that a page tells of, for who only looks; none for any other text."""
    return _read(text).runs


def _read(text: str) -> _Page:
    """Return what a page says; an empty one for anything else, for what comes from a backend is only data."""
    try:
        page = json.loads(text)
        runs = {name: Run(int(last), int(due), bool(sent)) for name, (last, due, sent) in page["runs"].items()}
        return _Page(int(page["token"]), runs)
    except (ValueError, TypeError, KeyError, AttributeError):
        return _Page(0, {})


def _marked(runs: dict[str, Run], sent: Mapping[str, int]) -> dict[str, Run]:
    done = {name: runs[name] for name, due in sent.items() if name in runs and runs[name].due == due}
    return runs | {name: replace(run, sent=True) for name, run in done.items()}


def _without(runs: Mapping[str, Run], claims: Sequence[Claim]) -> dict[str, Run]:
    kept = dict(runs)
    for claim in claims:
        if kept.get(claim.name) != claim.run:
            continue
        if claim.before is None:
            del kept[claim.name]
        else:
            kept[claim.name] = claim.before
    return kept


def _bounded(runs: dict[str, Run]) -> dict[str, Run]:
    # Counted roughly: a run is two numbers of 16 digits and some signs.
    size = sum(map(len, runs)) + 45 * len(runs)
    if size <= _LONGEST:
        return runs
    newest = sorted(runs, key=lambda name: runs[name].last, reverse=True)
    return {name: runs[name] for name in newest[: len(runs) * 3 // 4]}
