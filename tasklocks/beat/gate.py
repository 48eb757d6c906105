"""The gate through which a wrapped scheduler sends: only the leader, each tick once, and as its entry wishes.

The wrapped scheduler decides what is due, as it always does, and has moved the entry's last run on by the time it
sends. What must not be sent now, but later (the lead is in doubt, the backend does not answer), is put back: the entry
gets its old last run again.
"""

from __future__ import annotations

import heapq
import logging
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from celery.beat import ScheduleEntry

from tasklocks.backends.base import Backend
from tasklocks.beat.book import Book, Claim, Run
from tasklocks.beat.due import aware, due_after, missed_until
from tasklocks.beat.last import micros, moment, set_last_run
from tasklocks.beat.lead import Lead, clock_text
from tasklocks.beat.wishes import Wish, wish_of, without_wishes
from tasklocks.celery import runs
from tasklocks.errors import BackendUnavailable, ConfigurationError, LeaseLost, TaskLocksError

__all__ = ["Gate"]

_IDS = uuid.UUID("5f2c7d8e-6a0b-4c39-9d0e-2f6b1f6f9a57")
_ALL_AT_MOST = 100
_BEHIND = 0.5
"""Seconds of lateness from which on ticks are claimed together, because a claim each would make it later still."""

_TOGETHER = 10
"""How many are claimed in one step then: the most that a leader which is killed can leave in doubt."""

_logger = logging.getLogger("tasklocks.beat")


class Gate:
    """Stands between one wrapped scheduler and the broker.

    Args:
        inner: the wrapped scheduler; from now on it sends through this gate.
        book: the ticks, opened.
        lead: this process's lead.
        backend: where runs that may not overlap are marked.
        late: seconds after which a tick counts as missed.
        astray: seconds by which this host's clock may differ from the backend's.
    """

    def __init__(self, inner: Any, book: Book, lead: Lead, backend: Backend, *, late: float, astray: float) -> None:
        self.trouble: TaskLocksError | None = None
        self._inner = inner
        self._book = book
        self._lead = lead
        self._backend = backend
        self._name = lead.name
        self._late = late
        self._astray = astray
        self._declared = inner.app.conf.beat_schedule or {}
        self._held: dict[str, Claim] = {}
        self._first: list[ScheduleEntry] = []
        self._owed: list[tuple[ScheduleEntry, datetime]] = []
        self._reserved: ScheduleEntry | None = None
        self._send, self._reserve = inner.apply_async, inner.reserve
        inner.apply_async, inner.reserve = self.apply_async, self.reserve

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        """Let the wrapped scheduler move an entry on, and remember how."""
        self._reserved = self._reserve(entry)
        return self._reserved

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send what is due of an entry, in the place of the wrapped scheduler's own `apply_async`."""
        moved = None if advance else self._reserved
        result = None
        if (run := self._newer_run(entry)) is not None and moved is not None:
            self._put_back(entry, moved, moment(max(run.last, run.due)))
            return None
        try:
            for due in self._dues(entry):
                if self._claimed(entry, due):
                    result = self._pass(entry, due, producer=producer, **kwargs)
        except (BackendUnavailable, LeaseLost) as error:
            self.trouble = error
            self._put_back(entry, moved, entry.last_run_at)
            return None
        if advance:
            self.reserve(entry)
        return result

    def _newer_run(self, entry: ScheduleEntry) -> Run | None:
        """Return an entry's last run, if the entry was made anew from a row that knows only an earlier one."""
        run = self._book.run_of(entry.name)
        if run is None or entry.name in self._held or entry.last_run_at is None:
            return None
        last = aware(entry.last_run_at)
        # Mostly this is enough to know, and costs nothing.
        up_to_date = micros(last) >= run.due or micros(due_after(entry.schedule, last)) > run.due
        return None if up_to_date else run

    def restore(self) -> None:
        """Give the entries of the wrapped scheduler the last runs that are in the book, and note those that are not.

        Raises:
            LeaseLost: there is a newer leader.
            BackendUnavailable: the backend does not answer.
        """
        known, began = self._book.runs(), {}
        for name, entry in self._inner.schedule.items():
            if name in known:
                set_last_run(entry, self._last_of(entry, known[name]))
                self._settle(entry, known[name])
            elif entry.last_run_at is not None:
                began[name] = micros(aware(entry.last_run_at))
        # Their first interval goes on under the next leader, too.
        self._book.add(began)
        self._inner._heap = None

    def _last_of(self, entry: ScheduleEntry, run: Run) -> int:
        now = datetime.now(timezone.utc)
        unsure = self._book.remade and due_after(entry.schedule, moment(run.last)) <= now
        # Between our last look and the loss of the book its leader may have sent what is due since.
        return micros(now) if unsure and self._wish(entry).delivery == "at_most_once" else run.last

    def look_again(self) -> None:
        """Let the wrapped scheduler see first, at its next ticks, what was put back or is claimed already."""
        first, self._first = {id(entry) for entry in self._first}, []
        heap = getattr(self._inner, "_heap", None)
        if first and heap:
            self._inner._heap = [event._replace(time=0.0) if id(event.entry) in first else event for event in heap]
            heapq.heapify(self._inner._heap)

    def catch_up(self) -> None:
        """Send what is owed: ticks of entries that are to be sent at least once, whose leader died meanwhile."""
        owed, self._owed = self._owed, []
        while owed:
            entry, due = owed.pop()
            try:
                self._pass(entry, due)
            except (BackendUnavailable, LeaseLost) as error:
                self.trouble = error
                self._owed = [*owed, (entry, due)]
                return
            except Exception:
                _logger.exception("entry %r: the tick of %s could not be sent", entry.name, due)

    def close(self) -> None:
        """Give back what was claimed and not sent, and write down what was sent."""
        held, self._held = list(self._held.values()), {}
        try:
            self._book.give_back(held)
            self._book.flush()
        except (BackendUnavailable, LeaseLost) as error:
            if held:
                _logger.warning("ticks that were claimed and not sent: %s: %s", [claim.name for claim in held], error)

    def _settle(self, entry: ScheduleEntry, run: Run) -> None:
        """See to a tick that an earlier leader has claimed and perhaps not sent."""
        if run.sent:
            return
        due = moment(run.due)
        if self._wish(entry).delivery == "at_least_once":
            self._owed.append((entry, due))
        else:
            _logger.warning("entry %r: the tick of %s may not have been sent; its leader ended then", entry.name, due)
            self._book.sent(entry.name, run.due)

    def _dues(self, entry: ScheduleEntry) -> list[datetime]:
        now = datetime.now(timezone.utc)
        if entry.last_run_at is None:
            # RedBeat: it has never run, and runs at once.
            return [now.replace(microsecond=0)]
        last = aware(entry.last_run_at)
        due, wish, run = due_after(entry.schedule, last), self._wish(entry), self._book.run_of(entry.name)
        if wish.missed == "once" or run is None or not run.due:
            return [due]
        if wish.missed == "all":
            return missed_until(entry.schedule, last, now, _ALL_AT_MOST) or [due]
        if (now - due).total_seconds() > self._late:
            _logger.info("entry %r: the tick of %s was missed and is skipped", entry.name, due)
            return []
        return [due]

    def _claimed(self, entry: ScheduleEntry, due: datetime) -> bool:
        self._check_lead()
        wanted = micros(due)
        if not self._holds(entry.name, wanted):
            self._held |= {claim.name: claim for claim in self._book.claim(self._wanted(entry, due))}
        if not self._holds(entry.name, wanted):
            _logger.warning("entry %r: the tick of %s was sent before, or is in doubt", entry.name, due)
        return self._holds(entry.name, wanted)

    def _holds(self, name: str, due: int) -> bool:
        return name in self._held and self._held[name].run.due == due

    def _wanted(self, entry: ScheduleEntry, due: datetime) -> list[Claim]:
        """Return claims of a tick and, if the beat is behind, of others that are due and stand on the same page."""
        now = datetime.now(timezone.utc)
        wanted = [_claim(entry.name, now, due)]
        if (now - due).total_seconds() >= _BEHIND and not self._held:
            for other, its_due in islice(self._due_with(entry, now), _TOGETHER - 1):
                wanted.append(_claim(other.name, now, its_due))
                # They come next, so that no more than these are ever in doubt.
                self._first.append(other)
        return wanted

    def _due_with(self, entry: ScheduleEntry, now: datetime) -> Iterator[tuple[ScheduleEntry, datetime]]:
        moment, page = now.timestamp(), self._book.page_of(entry.name)
        for when, _, other in getattr(self._inner, "_heap", None) or ():
            if when > moment or other is entry or self._book.page_of(other.name) != page:
                continue
            dues = self._dues(other) if self._wish(other).missed == "once" else []
            if dues and dues[0] <= now:
                yield other, dues[0]

    def _pass(self, entry: ScheduleEntry, due: datetime, **kwargs: Any) -> Any:
        wish, original = self._wish(entry), entry.options
        options = without_wishes(original)
        options.setdefault("task_id", str(uuid.uuid5(_IDS, f"{self._name}/{entry.name}/{due.isoformat()}")))
        may_run = wish.overlap == "allow" or self._may_run(entry, wish, options)
        try:
            # Last of all: frozen meanwhile, or the backend took long. The claim is kept, and given back if it can be.
            self._check_lead()
        except LeaseLost:
            self._unmark(entry, wish, options)
            raise
        self._held.pop(entry.name, None)
        entry.options = options
        try:
            result = self._send(entry, advance=False, **kwargs) if may_run else None
        except Exception:
            self._refused(entry, due, wish, options)
            raise
        finally:
            entry.options = original
        self._book.sent(entry.name, micros(due))
        return result

    def _refused(self, entry: ScheduleEntry, due: datetime, wish: Wish, options: dict[str, Any]) -> None:
        """See to a tick that the broker did not take."""
        if wish.delivery == "at_least_once":
            self._owed.append((entry, due))
        self._unmark(entry, wish, options)

    def _unmark(self, entry: ScheduleEntry, wish: Wish, options: dict[str, Any]) -> None:
        """Let a run that is not sent stand in nobody's way."""
        if wish.overlap != "allow":
            runs.end(self._backend, runs.key_of(self._name, entry.name), options["task_id"])

    def _may_run(self, entry: ScheduleEntry, wish: Wish, options: dict[str, Any]) -> bool:
        key = runs.key_of(self._name, entry.name)
        options["headers"][runs.HEADER] = key
        lasts = runs.lasts_at_most(options, wish.overlap_expires)
        others = runs.begin(self._backend, key, options["task_id"], wish.overlap, lasts)
        if others:
            _logger.info("entry %r: not sent, earlier runs are not over yet: %s", entry.name, ", ".join(others))
        return not others

    def check_clock(self) -> None:
        """Do nothing while this host's clock is that of the backend, about.

        Raises:
            LeaseLost: it is not; hours of ticks would be sent early, and none for as long when it is set right.
        """
        if abs(self._book.ahead) > self._astray:
            raise LeaseLost(clock_text(self._book.ahead), name=self._name)

    def _check_lead(self) -> None:
        self.check_clock()
        if not self._lead.has_room():
            raise LeaseLost(f"the lead of {self._name!r} is lost, or about to be", name=self._name)

    def _put_back(self, entry: Any, moved: Any, last: datetime | None) -> None:
        """Undo what the wrapped scheduler has noted before it sent: the entry has last run at `last`."""
        if moved is None or last is None:
            return
        set_last_run(moved, micros(aware(last)))
        for each in (moved, getattr(moved, "model", moved)):
            each.total_run_count = entry.total_run_count
        self._first.append(moved)

    def _wish(self, entry: ScheduleEntry) -> Wish:
        try:
            declared = self._declared.get(entry.name)
            options = declared.get("options") if isinstance(declared, dict) else None
            return wish_of(entry.name, entry.options, options or {})
        except ConfigurationError as error:
            # A row of a database: the others must go on.
            _logger.error("%s; it is treated as if it said nothing", error)  # noqa: TRY400 - the message says it all
            return Wish()


def _claim(name: str, now: datetime, due: datetime) -> Claim:
    return Claim(name, Run(micros(now), micros(due)))
