"""Asks the backends for held messages, and stands in line for them, on threads of its own.

A thread takes one message at a time. It waits as every blocking acquire does (`tasklocks.waiting`), and says what came.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasklocks import waiting
from tasklocks.celery.admission.held import Held, Want, note_clock
from tasklocks.errors import LockBusy
from tasklocks.leases import Lease, give_back
from tasklocks.types import Busy, Grant

__all__ = ["Answer", "Asking"]

_MOST = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking for a held message.

    Attributes:
        held: for whom was asked.
        owner: in whose name; the message may have another one meanwhile.
        leases: all that it wants; empty: not yet.
        first: which of its locks was busy.
        busy: what the backend said then.
        standing: it goes on waiting in line; this is only what it heard so far.
        error: why nothing is known; then the rest says nothing.
        sent: whether it went back to the broker, if that was asked for; then the rest says nothing.
    """

    held: Held
    owner: str
    leases: Sequence[Lease] = ()
    first: int = 0
    busy: Busy | None = None
    standing: bool = False
    error: Exception | None = None
    sent: bool | None = None


class Asking:
    """The threads.

    Args:
        hold: from a grant to a lease that is renewed.
        tell: takes each answer; False: nobody is interested any more.
    """

    def __init__(self, hold: Callable[[Want, Grant], Lease], tell: Callable[[Answer], bool]) -> None:
        self._hold = hold
        self._tell = tell
        self._todo: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def ask(self, held: Held, stay: bool) -> None:
        """Ask for it, soon (called by the event loop).

        Args:
            held: for whom.
            stay: whether to stand in line until there is an answer; else only to ask.
        """
        self._todo.put(_Attempt(held, held.owner, stay, self._hold, self._tell))
        with self._lock:
            if self._todo.qsize() <= self._idle or self._threads >= _MOST:
                return
            self._threads += 1
        threading.Thread(target=self._run, name="tasklocks-standing", daemon=True).start()

    def close(self) -> None:
        """Let the threads end when they have nothing to do any more."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _run(self) -> None:
        while (attempt := self._next()) is not None:
            answer = attempt.answer()
            # One that has left its line meanwhile need not be told: the loop may be busy with a body for long (solo).
            if answer.owner != answer.held.owner or not self._tell(answer):
                _give_back(answer.leases)

    def _next(self) -> _Attempt | None:
        with self._lock:
            self._idle += 1
        try:
            return self._todo.get()
        finally:
            with self._lock:
                self._idle -= 1


@dataclass(frozen=True, slots=True)
class _Attempt:
    """To get all that a message wants, in the name of one owner."""

    held: Held
    owner: str
    stay: bool
    hold: Callable[[Want, Grant], Lease]
    tell: Callable[[Answer], bool]

    def answer(self) -> Answer:
        first = self.held.first
        leases: list[Lease] = []
        try:
            leases.append(self._in_line(self.held.wants[first]))
            for index, want in enumerate(self.held.wants):
                if index != first:
                    first = index
                    leases.append(self._now(want))
        except LockBusy as busy:
            _give_back(leases)
            return Answer(self.held, self.owner, (), first, busy.busy)
        except Exception as error:  # noqa: BLE001 - a thread's errors travel as answers
            # Also what the user's capacity function raises: the body fails by it, too, where it belongs.
            _give_back(leases)
            return Answer(self.held, self.owner, (), first, error=error)
        return Answer(self.held, self.owner, self._in_order(leases))

    def _in_line(self, want: Want) -> Lease:
        if self.stay and self.held.waits_since(want.backend) is None:
            # A place keeps the time with which it was taken, so the backend's clock must be known before.
            try:
                return self._now(want)
            except LockBusy as busy:
                note_clock(want.backend, busy.busy)
        request = self.held.asks_for(want, self.owner, counted=not self.stay)
        timeout = None if self.stay else 0.0
        return self.hold(want, waiting.acquire(want.backend, request, timeout=timeout, go_on=self._goes_on))

    def _goes_on(self, busy: Busy) -> bool:
        heard = self.tell(Answer(self.held, self.owner, busy=busy, standing=True))
        return heard and self.held.owner == self.owner

    def _now(self, want: Want) -> Lease:
        return self.hold(want, waiting.acquire(want.backend, self.held.asks_for(want, self.owner), timeout=0.0))

    def _in_order(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Return the leases in the order of the locks; the one that was waited for came first."""
        by_name = {(lease.backend, lease.name): lease for lease in leases}
        return [by_name[want.key] for want in self.held.wants]


def _give_back(leases: Sequence[Lease]) -> None:
    for lease in leases:
        give_back(lease)
