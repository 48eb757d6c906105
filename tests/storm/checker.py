"""Reads the record of all leases of a run, and says what must not have happened.

A holder *believes* in its lease from the moment at which it heard of it until it released it, was told of its loss, or
reached the end that it knew, whichever came first. What its process did not run through counts as well: it goes on
with the belief that it had. Beliefs are what must never overlap beyond the capacity.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.storm.records import Record

__all__ = ["Verdict", "check"]


@dataclass
class _Life:
    """One lease, as its holder knew it."""

    first: Record
    news: list[Record] = field(default_factory=list)
    spans: list[list[float]] = field(default_factory=list)
    end: Record | None = None

    def hear(self, record: Record) -> None:
        """Take over a grant or a renewal."""
        self.news.append(record)
        if self.spans and record.at <= self.spans[-1][1]:
            self.spans[-1][1] = record.deadline
        elif record.at < record.deadline:
            self.spans.append([record.at, record.deadline])

    def close(self, record: Record) -> None:
        self.end = record
        if self.spans:
            self.spans[-1][1] = min(self.spans[-1][1], record.at)

    def believed(self, at: float) -> bool:
        return any(start <= at < end for start, end in self.spans)

    @property
    def lapsed(self) -> bool:
        """Whether its time ran out before its holder, which lives, ended it or was told."""
        lives = self.end is not None and self.end.what != "killed"
        return lives and (not self.spans or self.spans[-1][1] < self.end.at)

    def __str__(self) -> str:
        spans = ", ".join(f"{start:.4f} to {end:.4f}" for start, end in self.spans) or "never"
        return f"token {self.first.token} of {self.first.limit} (process {self.first.pid}, held {spans})"


@dataclass(frozen=True)
class Verdict:
    """What a record says.

    Attributes:
        complaints: what must not have happened.
        leases: how many were granted.
        renewals: how often one was extended.
        told: leases whose holder was told of the loss.
        lapsed: leases whose time ran out first, because their process, which lives, was frozen or cut off.
        killed: processes that were killed.
        wrote: writes that the fenced store took.
        refused: writes of late holders that it refused.
        at_once: the most permits that were held at one moment, by limit.
    """

    complaints: tuple[str, ...]
    leases: int
    renewals: int
    told: int
    lapsed: int
    killed: int
    wrote: int
    refused: int
    at_once: Mapping[str, int]


def check(records: Sequence[Record], capacities: Mapping[str, int], *, watched: bool = False) -> Verdict:
    """Check the records of a run; they are in the order of their times.

    Args:
        records: all of them.
        capacities: how many permits each limit has.
        watched: whether a killed process's permits are given back as soon as it is gone, before they lapse.
    """
    lives = _lives(records, watched)
    by_limit: dict[str, list[_Life]] = defaultdict(list)
    for life in lives.values():
        by_limit[life.first.limit].append(life)
    killed = {record.pid for record in records if record.what == "killed"}
    at_once, complaints = {}, []
    for limit, those in by_limit.items():
        at_once[limit], crowds = _crowds(those, capacities[limit])
        complaints += [*crowds, *_tokens(those, capacities[limit])]
    complaints += [*_unfounded(records, lives), *_endless(lives.values(), killed), *_written_twice(records)]
    return Verdict(tuple(complaints), len(lives), *_counts(records, lives.values(), len(killed)), at_once)


def _lives(records: Sequence[Record], watched: bool) -> dict[tuple[str, str, int], _Life]:
    lives: dict[tuple[str, str, int], _Life] = {}
    of_owner: dict[tuple[str, str], list[_Life]] = defaultdict(list)
    of_process: dict[int, list[_Life]] = defaultdict(list)
    for record in records:
        key = (record.limit, record.owner, record.token)
        if record.what == "granted" and key not in lives:
            life = lives[key] = _Life(record)
            of_owner[key[:2]].append(life)
            of_process[record.pid].append(life)
        for life in _meant(record, lives.get(key), of_owner, of_process, watched):
            # What arrives after the end, such as the answer to a renewal under way, is not taken over.
            if life.end is None:
                (life.hear if record.what in ("granted", "renewed") else life.close)(record)
    return lives


def _meant(
    record: Record,
    life: _Life | None,
    of_owner: Mapping[tuple[str, str], list[_Life]],
    of_process: Mapping[int, list[_Life]],
    watched: bool,
) -> Iterable[_Life]:
    """Return the leases whose state a record changes."""
    if record.what == "released":
        return of_owner.get((record.limit, record.owner), ())
    if record.what == "killed":
        return of_process.get(record.pid, ()) if watched else ()
    return [life] if life is not None and record.what in ("granted", "renewed", "told") else ()


def _crowds(lives: Sequence[_Life], capacity: int) -> tuple[int, list[str]]:
    """Return the most permits held at once, and a complaint for each moment with more than there are."""
    steps = [(start, 1, life) for life in lives for start, _ in life.spans]
    steps += [(end, 0, life) for life in lives for _, end in life.spans]
    held: dict[int, _Life] = {}
    most, complaints = 0, []
    for at, begins, life in sorted(steps, key=lambda step: step[:2]):
        if not begins:
            held.pop(id(life), None)
            continue
        held[id(life)] = life
        total = sum(each.first.permits for each in held.values())
        most = max(most, total)
        if total > capacity:
            who = " and ".join(map(str, held.values()))
            complaints.append(f"{total} permits of {capacity} were held at {at:.4f}: {who}")
    return most, complaints


def _tokens(lives: Sequence[_Life], capacity: int) -> list[str]:
    """Complain of tokens that do not grow.

    The order of two grants is known if one was heard before the other was asked for; and if both leases cannot live at
    once, the one that was believed in first came first. A grant that was heard too late tells nothing of the second.
    """
    complaints = _told_too_small(lives)
    largest: dict[int, _Life] = {}
    for life in sorted((life for life in lives if life.spans), key=lambda life: life.spans[0][0]):
        rivals = [other for permits, other in largest.items() if permits + life.first.permits > capacity]
        complaints += [_not_larger(life, other) for other in rivals if other.first.token >= life.first.token]
        before = largest.get(life.first.permits)
        if before is None or before.first.token < life.first.token:
            largest[life.first.permits] = life
    return complaints


def _told_too_small(lives: Sequence[_Life]) -> list[str]:
    steps = [(life.first.at, 1, life) for life in lives]
    steps += [(life.first.asked, 0, life) for life in lives if life.first.asked]
    complaints, largest, seen = [], None, {}
    for _, heard, life in sorted(steps, key=lambda step: step[:2]):
        if heard:
            if (twin := seen.setdefault(life.first.token, life)) is not life:
                complaints.append(f"one token was given twice: {twin} and {life}")
            if largest is None or largest.first.token < life.first.token:
                largest = life
        elif largest is not None and life.first.token <= largest.first.token:
            complaints.append(_not_larger(life, largest))
    return complaints


def _not_larger(life: _Life, earlier: _Life) -> str:
    return f"{life} came later than {earlier}, but its token is not larger"


def _unfounded(records: Sequence[Record], lives: Mapping[tuple[str, str, int], _Life]) -> list[str]:
    """Complain of holders that were sure without reason, and of writes refused to those who held."""
    complaints = []
    for record in records:
        life = lives.get((record.limit, record.owner, record.token))
        if record.what in ("sure", "wrote", "refused") and life is None:
            complaints.append(f"{record} is about a lease that nobody was granted")
        elif record.what == "sure" and not _reason(record, life):
            complaints.append(f"its holder was sure at {record.at:.4f} without reason: {life}")
        elif record.what == "refused" and life.believed(record.at):
            complaints.append(f"a write was refused at {record.at:.4f} although its holder held: {life}")
    return complaints


def _reason(record: Record, life: _Life) -> bool:
    # It was sure at some moment between the two times: some news that it had by then must have lasted until then.
    known = any(news.at <= record.at and record.asked < news.deadline for news in life.news)
    over = life.end is not None and life.end.what == "released" and life.end.at < record.asked
    return known and not over


def _endless(lives: Iterable[_Life], killed: set[int]) -> list[str]:
    left = [life for life in lives if life.end is None and life.first.pid not in killed]
    return [f"it was never given back, but its process was not killed: {life}" for life in left]


def _written_twice(records: Sequence[Record]) -> list[str]:
    seen: set[tuple[str, int]] = set()
    complaints = []
    for record in (record for record in records if record.what == "wrote"):
        if (record.limit, record.token) in seen:
            complaints.append(f"it wrote twice with one token: {record}")
        seen.add((record.limit, record.token))
    return complaints


def _counts(records: Sequence[Record], lives: Iterable[_Life], killed: int) -> tuple[int, int, int, int, int, int]:
    count = Counter(record.what for record in records)
    lapsed = sum(life.lapsed for life in lives)
    return count["renewed"], count["told"], lapsed, killed, count["wrote"], count["refused"]
