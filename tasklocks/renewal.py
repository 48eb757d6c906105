"""Keeps the leases of this process alive: one thread, one batch a backend, a third of each ttl apart.

A renewal ends in public. One failed call proves nothing, so it is tried again while the lease can still be ours;
then the lease is told that it is lost. The thread starts with the first lease and sleeps while there is none. A second
one, just as idle, watches the deadlines of what is being renewed: a backend may keep silent for longer than they last.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from tasklocks import clock, logs
from tasklocks.backends.base import Backend
from tasklocks.errors import BackendUnavailable
from tasklocks.fork import PerProcess
from tasklocks.types import Grant

__all__ = ["RAN_OUT", "Renewable", "Renewal", "renewal"]

RAN_OUT = "its time ran out before it could be renewed"
"""Why a lease is lost whose time is over."""

_RETRY = 1.0  # seconds between attempts while the backend does not answer, at most

_logger = logging.getLogger("tasklocks")


class Renewable(Protocol):
    """What the renewal keeps alive."""

    backend: Backend
    grant: Grant
    hold_until: float
    """Local clock; it is not renewed any more from then on. Infinity: as long as it is held."""

    def renewed(self, grant: Grant) -> None:
        """Take over the new deadline."""

    def end(self, reason: str) -> None:
        """The lease is lost, and why."""

    def unrenewed(self, reason: str) -> None:
        """The renewal failed, and is tried again."""

    def release(self) -> bool:
        """End the lease."""


class Renewal:
    """The leases of one process and the thread that renews them."""

    def __init__(self) -> None:
        # `with` on the condition itself runs Python code, and an exception that strikes there (a soft time limit) would
        # leave it locked for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._due: dict[Renewable, float] = {}
        self._wakes_at = -math.inf
        self._thread: threading.Thread | None = None
        self._asking = threading.Condition()
        self._asked: Sequence[Renewable] = ()

    def add(self, lease: Renewable) -> None:
        """Keep `lease` alive until `remove`, or until it is lost."""
        due = _next_due(lease, clock.now())
        with self._lock:
            self._due[lease] = due
            # A lease that is due later than the thread wakes anyway need not disturb it: with many short holds
            # that is the usual case, and a wake-up costs more than the rest of an acquire.
            if due < self._wakes_at:
                # In this order: an exception that strikes in between must not leave a time at which nobody wakes.
                self._changed.notify()
                self._wakes_at = due
            # Not alive: the start of the last one was struck by an exception.
            elif self._thread is None or not self._thread.is_alive():
                self._thread = _started(self._run, "tasklocks-renewal")
                _started(self._watch, "tasklocks-renewal-deadlines")

    def remove(self, lease: Renewable) -> None:
        """Leave `lease` alone from now on."""
        with self._lock:
            self._due.pop(lease, None)

    def of(self, owner: str) -> Sequence[Renewable]:
        """Return what is kept alive for `owner`."""
        with self._lock:
            return [lease for lease in self._due if lease.grant.owner == owner]

    def leases(self) -> Sequence[Renewable]:
        """Return all that is kept alive."""
        with self._lock:
            return list(self._due)

    def __len__(self) -> int:
        return len(self._due)

    def _run(self) -> None:
        while True:
            due = self._wait_for_due()
            for backend, leases in _by_backend(due).items():
                self._renew(backend, leases)

    def _wait_for_due(self) -> list[Renewable]:
        with self._lock:
            while True:
                now = clock.now()
                first = min(self._due.values(), default=math.inf)
                if first <= now:
                    # What is due soon comes along: many leases with one ttl soon share one round trip.
                    return [lease for lease, when in self._due.items() if when <= now + lease.grant.ttl / 6]
                # A short hold is over before this thread is awake. It keeps its next hour all the same: without one,
                # each of many short holds would have to wake it again.
                if self._due or self._wakes_at <= now:
                    self._wakes_at = first
                self._changed.wait(None if self._wakes_at == math.inf else self._wakes_at - now)

    def _renew(self, backend: Backend, leases: Sequence[Renewable]) -> None:
        now = clock.now()
        overdue = [lease for lease in leases if now >= _end(lease)]
        for lease in overdue:
            self._lose(lease, _why_overdue(lease, now))
        kept = [lease for lease in leases if lease not in overdue]
        try:
            answers = self._ask(backend, kept) if kept else []
        except BackendUnavailable as error:
            _logger.warning("renewal of %d leases failed, trying again: %s", len(kept), error)
            self._postpone(kept, str(error))
        except Exception as fault:
            # A fault of a backend must not end the thread: every other lease of the process depends on it.
            _logger.exception("renewal of %d leases failed, trying again", len(kept))
            self._postpone(kept, repr(fault))
        else:
            self._take_over(kept, answers)

    def _ask(self, backend: Backend, leases: Sequence[Renewable]) -> Sequence[Grant | None]:
        self._being_asked(leases)
        try:
            return backend.renew([lease.grant for lease in leases])
        finally:
            self._being_asked(())

    def _being_asked(self, leases: Sequence[Renewable]) -> None:
        with self._asking:
            self._asked = leases
            self._asking.notify()

    def _watch(self) -> None:
        while True:
            for lease in self._wait_for_silence():
                self._lose(lease, _why_overdue(lease, clock.now()))

    def _wait_for_silence(self) -> list[Renewable]:
        """Wait until time runs out for what is being asked about, and return it."""
        with self._asking:
            while True:
                now = clock.now()
                overdue = [lease for lease in self._asked if _end(lease) <= now]
                if overdue:
                    self._asked = [lease for lease in self._asked if lease not in overdue]
                    return overdue
                first = min(map(_end, self._asked), default=math.inf)
                self._asking.wait(None if first == math.inf else first - now)

    def _take_over(self, leases: Sequence[Renewable], answers: Sequence[Grant | None]) -> None:
        for lease, answer in zip(leases, answers, strict=True):
            if answer is None:
                self._lose(lease, "it expired or was taken away")
            else:
                lease.renewed(answer)
                self._schedule(lease, _next_due(lease, clock.now()))

    def _postpone(self, leases: Sequence[Renewable], why: str) -> None:
        now = clock.now()
        for lease in leases:
            lease.unrenewed(why)
            pause = min(_RETRY, max(lease.grant.ttl / 10, 0.05))
            self._schedule(lease, min(now + pause, lease.grant.deadline))

    def _schedule(self, lease: Renewable, due: float) -> None:
        with self._lock:
            # Released while its renewal was under way: it stays out.
            if lease in self._due:
                self._due[lease] = due

    def _lose(self, lease: Renewable, reason: str) -> None:
        with self._lock:
            held = self._due.pop(lease, None) is not None
        if not held:
            return
        try:
            lease.end(reason)
        except Exception:
            # Whoever is told may fail; the thread must go on for the others.
            _logger.exception("the loss of a lease of %r could not be told", lease.grant.name)


def _made() -> Renewal:
    # The first lease of a process: by now it has set up its logging.
    logs.follow()
    return Renewal()


renewal = PerProcess(_made)
"""Return this process's renewal."""


def _started(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _end(lease: Renewable) -> float:
    return min(lease.hold_until, lease.grant.deadline)


def _next_due(lease: Renewable, now: float) -> float:
    third = now + max(lease.grant.deadline - now, 0.0) / 3
    return min(third, lease.hold_until)


def _why_overdue(lease: Renewable, now: float) -> str:
    if now >= lease.hold_until:
        return "it was held for longer than max_hold"
    return RAN_OUT


def _by_backend(leases: Sequence[Renewable]) -> dict[Backend, list[Renewable]]:
    groups: dict[Backend, list[Renewable]] = defaultdict(list)
    for lease in leases:
        groups[lease.backend].append(lease)
    return groups
