"""A series of failovers under a schedule of 200 entries, and what it shows: ticks twice, ticks lost, and the pauses."""

from __future__ import annotations

import itertools
import math
import re
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.beat.beats import Beat, Field, Tick
from tests.beat.contenders import Contender
from tests.processes import eventually
from tests.servers import Server

# About 27 ticks a second, which two busy cores keep up with beside the beats that start.
COUNTS = {1.0: 10, 5.0: 40, 10.0: 70, 30.0: 70}
ENTRIES = {f"every-{every:g}-{n}": {"every": every} for every, count in COUNTS.items() for n in range(count)} | {
    f"minute-{n}": {"cron": "* * * * *"} for n in range(10)
}
BUSY = 5.0
"""Seconds that a tick may be late on two cores that others use, too, before the next one counts as lost."""

_IN_DOUBT = re.compile(r"entry '([^']+)': the tick of .* may not have been sent")


@dataclass(frozen=True)
class Takeover:
    """One end of a leader: when it was, when the next one said that it leads, and when the next tick was sent."""

    began: float
    led: float
    sent: float


@dataclass(frozen=True)
class Outcome:
    """What a series showed.

    Attributes:
        times: how many failovers.
        ticks: how many were sent.
        twice: how many were sent again.
        lost: how many never were, apart from those that the log names as in doubt.
        in_doubt: how many those are.
        in_doubt_lost: how many of those were never sent indeed.
        patience: seconds after which a takeover was not waited for any longer.
        leads: seconds until the next one led, of each failover.
        sends: seconds until the next tick, of each failover.
    """

    times: int
    ticks: int
    twice: int
    lost: int
    in_doubt: int
    in_doubt_lost: int
    patience: float
    leads: list[float] = field(default_factory=list)
    sends: list[float] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        """The row of the table, without its first cells."""
        counts = [self.times, self.ticks, self.twice, self.lost]
        doubt = f"{self.in_doubt}, {self.in_doubt_lost} lost" if self.in_doubt_lost else f"{self.in_doubt}"
        return [*map(str, counts), doubt, *self._p50_and_max(self.leads), *self._p50_and_max(self.sends)]

    def _p50_and_max(self, seconds: Sequence[float]) -> list[str]:
        if not seconds:
            return ["", ""]
        found = statistics.median(seconds), max(seconds)
        return [f"{each:.2f} s" if each < math.inf else f"> {self.patience:.0f} s" for each in found]


class Series:
    """Ends the leader of a field again and again in one way.

    Args:
        field: the beats.
        contender: what they are.
        end: the name of a signal, or `restart`.
        server: the one that elects.
    """

    def __init__(self, field: Field, contender: Contender, end: str, server: Server | None) -> None:
        self.field = field
        self.contender = contender
        self.end = end
        self.server = server
        self.takeovers: list[Takeover] = []

    def run(self) -> Outcome:
        """Run it; a takeover that never came counts as an endless one."""
        self._two_beats()
        began = self._next_sent(0.0, self.contender.patience)
        time.sleep(8.0)
        for _ in range(self.contender.times[self.end]):
            self._two_beats()
            time.sleep(1.0)
            self.takeovers.append(self._restart() if self.end == "restart" else self._fail_over())
        time.sleep(8.0)
        return outcome(self.field, self.contender, self.takeovers, (began, time.time()))

    def _two_beats(self) -> None:
        while sum(beat.process.running for beat in self.field.beats) < 2:
            beat = self.field.start(scheduler=self.contender.scheduler)
            ready = (self.contender.waits, self.contender.leads)
            eventually(lambda: any(text in beat.log() for text in ready) or not beat.process.running, within=30)  # noqa: B023
            # Its log says so before its first attempt.
            time.sleep(2.0)

    def _leader(self) -> Beat:
        pid = max(self.field.ticks, key=lambda tick: tick.at).pid
        running = [beat for beat in self.field.beats if beat.process.running]
        return next((beat for beat in running if beat.process.pid == pid), running[0])

    def _fail_over(self) -> Takeover:
        old = self._leader()
        others = [beat for beat in self.field.beats if beat is not old and beat.process.running]
        before = {beat: beat.log().count(self.contender.leads) for beat in others}
        began = time.time()
        old.process.send(getattr(signal, self.end), group=True)
        led = _moment(
            lambda: any(beat.log().count(self.contender.leads) > before[beat] for beat in others),
            self.contender.patience,
        )
        pids = {beat.process.pid for beat in others}
        sent = self._next_sent(began, self.contender.patience, pids) if led < math.inf else math.inf
        self._see_off(old)
        return Takeover(began, led, sent)

    def _see_off(self, old: Beat) -> None:
        if self.end == "SIGSTOP":
            time.sleep(1.0)
            old.process.resume()
            time.sleep(2.0)
        elif not eventually(lambda: not old.process.running, within=10):
            old.process.kill()

    def _restart(self) -> Takeover:
        began = time.time()
        self.server.restart()
        return Takeover(began, math.nan, self._next_sent(time.time(), self.contender.patience))

    def _next_sent(self, since: float, within: float, pids: set[int] | None = None) -> float:
        """Wait for the first tick after `since`, from one of `pids`; return when it was sent."""
        found: list[Tick] = []

        def look() -> bool:
            found[:] = [tick for tick in self.field.ticks if tick.sent > since and (not pids or tick.pid in pids)]
            return bool(found)

        return min(tick.sent for tick in found) if eventually(look, within=within) else math.inf


def outcome(field: Field, contender: Contender, takeovers: Sequence[Takeover], whole: tuple[float, float]) -> Outcome:
    """Return what a series showed that lasted from the first to the second moment of `whole`."""
    ticks = field.ticks
    doubtful = Counter(_IN_DOUBT.findall(field.logs_in_full()))
    gone = Counter(lost(ticks, takeovers, *whole))
    close = {name: found for name, sent in _by_entry(ticks).items() if (found := too_close(name, sent))}
    # A send that a freeze struck comes late, and close to the next tick; by its id it is no second one.
    twice = len(field.twice()) if contender.ids_name_ticks else sum(map(len, close.values()))
    print(f"again: {field.twice()}, {close}; gone: {gone}; takeovers: {takeovers}")
    beyond = (gone - doubtful).total()
    return Outcome(
        times=len(takeovers),
        ticks=len(ticks),
        twice=twice,
        lost=beyond,
        in_doubt=doubtful.total(),
        in_doubt_lost=gone.total() - beyond,
        patience=contender.patience,
        leads=[each.led - each.began for each in takeovers if not math.isnan(each.led)],
        sends=[each.sent - each.began for each in takeovers],
    )


def too_close(name: str, sent: Sequence[float]) -> list[float]:
    """Return when an entry was sent again too early: for a minute twice, or for an interval after less than 0.4 of it.

    Not of the quickest ones, whose ticks a busy machine brings together.
    """
    every = ENTRIES[name].get("every")
    pairs = list(itertools.pairwise(sorted(sent)))
    if every is None:
        return [after for before, after in pairs if before // 60 == after // 60]
    return [after for before, after in pairs if every >= 5 and after - before < 0.4 * every]


def lost(ticks: Sequence[Tick], takeovers: Sequence[Takeover], began: float, ended: float) -> list[str]:
    """Return the entry of each tick that was never sent, by the gaps that no takeover explains.

    One run for all ticks that were due during a takeover is what is promised, so a gap may last for the entry's
    interval, the takeovers in it, and a few busy seconds.
    """
    times = _by_entry(ticks)
    pauses = [(each.began, each.sent) for each in takeovers]
    gone = []
    for name, said in ENTRIES.items():
        every = said.get("every", 60.0)
        for before, after in itertools.pairwise([began, *sorted(times.get(name, [])), ended]):
            gap = after - before - sum(max(0.0, min(after, to) - max(before, since)) for since, to in pauses)
            if gap > every + BUSY:
                gone += [name] * max(1, round(gap / every) - 1)
    return gone


def _by_entry(ticks: Sequence[Tick]) -> Mapping[str, list[float]]:
    times: dict[str, list[float]] = defaultdict(list)
    for tick in ticks:
        times[tick.entry].append(tick.sent)
    return times


def _moment(condition: Callable[[], bool], within: float) -> float:
    return time.time() if eventually(condition, within=within, every=0.005) else math.inf
