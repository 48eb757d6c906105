"""Asks the backends for held messages, and stands in line for them, on threads of its own.

A thread takes one message at a time. It waits as every blocking acquire does (`tasklocks.waiting`), and says what came.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasklocks import waiting
from tasklocks.celery.admission.errands import give_back
from tasklocks.celery.admission.held import Held, Want
from tasklocks.errors import LockBusy
from tasklocks.leases import Lease
from tasklocks.types import Busy, Grant

__all__ = ["Answer", "Asking"]

_MOST = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking for a held message.

    Attributes:
        held: for whom was asked.
        leases: all that it wants; empty: not yet.
        first: which of its locks was busy.
        busy: what the backend said then.
        standing: it goes on waiting in line; this is only what it heard so far.
        error: why nothing is known; then the rest says nothing.
    """

    held: Held
    leases: Sequence[Lease] = ()
    first: int = 0
    busy: Busy | None = None
    standing: bool = False
    error: Exception | None = None


class Asking:
    """The threads.

    Args:
        hold: from a grant to a lease that is renewed.
        tell: takes each answer; False: nobody is interested any more.
    """

    def __init__(self, hold: Callable[[Want, Grant], Lease], tell: Callable[[Answer], bool]) -> None:
        self._hold = hold
        self._tell = tell
        self._todo: queue.SimpleQueue[tuple[Held, bool] | None] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0

    def ask(self, held: Held, stay: bool) -> None:
        """Ask for it, soon (called by the event loop).

        Args:
            held: for whom.
            stay: whether to stand in line until there is an answer; else only to ask.
        """
        self._busy += 1
        self._todo.put((held, stay))
        if self._threads < min(self._busy, _MOST):
            self._threads += 1
            threading.Thread(target=self._run, name="tasklocks-standing", daemon=True).start()

    def answered(self) -> None:
        """Note that the event loop has got an answer."""
        self._busy -= 1

    def close(self) -> None:
        """Let the threads end when they have nothing to do any more."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            answer = self._answer(*job)
            if not self._tell(answer):
                for lease in answer.leases:
                    give_back(lease)

    def _answer(self, held: Held, stay: bool) -> Answer:
        first = held.first
        leases: list[Lease] = []
        try:
            leases.append(self._first(held, held.wants[first], stay))
            for index, want in enumerate(held.wants):
                if index != first:
                    first = index
                    leases.append(self._now(held, want))
        except LockBusy as busy:
            self._give_back(leases)
            return Answer(held, (), first, busy.busy)
        except Exception as error:  # noqa: BLE001 - a thread's errors travel as answers
            # Also what the user's capacity function raises: the body fails by it, too, where it belongs.
            self._give_back(leases)
            return Answer(held, (), first, error=error)
        return Answer(held, self._in_order(held, leases))

    def _first(self, held: Held, want: Want, stay: bool) -> Lease:
        request = held.asks_for(want, counted=not stay)

        def go_on(busy: Busy) -> bool:
            interested = self._tell(Answer(held, busy=busy, standing=True))
            return interested and held.stays and not held.gone

        grant = waiting.acquire(want.backend, request, timeout=None if stay else 0.0, go_on=go_on)
        return self._hold(want, grant)

    def _now(self, held: Held, want: Want) -> Lease:
        return self._hold(want, waiting.acquire(want.backend, held.asks_for(want), timeout=0.0))

    def _give_back(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            give_back(lease)

    def _in_order(self, held: Held, leases: Sequence[Lease]) -> Sequence[Lease]:
        """Return the leases in the order of the locks; the one that was waited for came first."""
        by_name = {(lease.backend, lease.name): lease for lease in leases}
        return [by_name[want.key] for want in held.wants]
