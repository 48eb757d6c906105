"""The bootstep that puts admission into a worker's consumer."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery import bootsteps

from tasklocks.celery.admission.desk import Desk
from tasklocks.celery.admission.door import Door
from tasklocks.celery.admission.endings import return_to_broker
from tasklocks.celery.admission.errands import Errands
from tasklocks.celery.admission.given import Lender
from tasklocks.celery.admission.held import Held
from tasklocks.celery.admission.loans import FarLoans, Loans, NearLoans
from tasklocks.celery.admission.room import Room
from tasklocks.celery.admission.turns import turns_of
from tasklocks.celery.admission.where import is_on, longest_hold
from tasklocks.celery.conf import admission_settings_of
from tasklocks.celery.prefetch import prefetch_of
from tasklocks.celery.watch import watch_of_this_worker

__all__ = ["AdmissionStep"]

_REQUEST = 1.5  # seconds; longer than Redis holds a request for the next message


class AdmissionStep(bootsteps.StartStopStep):
    """Stands between the consumer and the pool."""

    label = "Admission"
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def include_if(self, c: Any) -> bool:
        """Tell whether this worker is one for it: a process may run several workers of an app, one after the other."""
        return is_on(c.controller)

    def create(self, c: Any) -> None:
        """Stand there."""
        self._errands = Errands()
        self._door: Door | None = None
        self._turns = turns = turns_of(c)
        settings = admission_settings_of(c.app)
        room = Room(c, turns.enter, turns.later)
        self.desk = Desk(
            room,
            self._loans(),
            self._errands,
            turns.inbox,
            prefetch_of(c),
            most=settings.most,
            longest=longest_hold(c),
        )
        # Strategies look it up later, timers of ETA and of Celery's own rate limits each time.
        c.on_task_request = turns.begin(self.desk)

    def start(self, c: Any) -> None:
        """Begin with a new connection to the broker."""
        self.desk.prefetch.begin()
        _spare_the_collector()
        self._turns.start()

    def register_with_event_loop(self, c: Any, hub: Any) -> None:
        """Hear the threads, and look around now and then (called by Celery, for each connection)."""
        self._turns.register(hub)

    def stop(self, c: Any) -> None:
        """Hold nothing any more: the connection is lost, or the worker stops."""
        left = self._turns.clear()
        if c.blueprint.state != bootsteps.RUN:
            _give_to_broker(c, left)

    terminate = stop

    def shutdown(self, c: Any) -> None:
        """End the threads: no task runs any more."""
        self._turns.close()
        self.desk.close()
        self._errands.close()
        if self._door is not None:
            self._door.close()

    def all_held(self) -> Sequence[Held]:
        """Return what is held, oldest first (called where Celery answers remote control)."""
        held: Sequence[Held] = self._turns.read(lambda: list(self.desk.lines))
        return held

    def _loans(self) -> Loans:
        if Lender.table is None:
            Lender.near = NearLoans(self._errands)
            return Lender.near
        watch = watch_of_this_worker()
        assert watch is not None  # noqa: S101 - the table is made only where there is one
        loans = FarLoans(Lender.table, self._errands, lambda: self._turns.inbox.put(None))
        watch.on_gone.append(loans.gone)
        self._door = Door(watch.folder, loans.ended)
        return loans


def _spare_the_collector() -> None:
    """Let full garbage collections pass over what is there before the first message: it stays anyway.

    They stop the event loop, and many held messages cause them: 56 ms without any message, 99 ms with a thousand.
    Where somebody has frozen something already, that is left as it is; so is a process that is not the worker's own.
    """
    if threading.current_thread() is threading.main_thread() and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def _give_to_broker(c: Any, left: Sequence[Held]) -> None:
    """Let other workers have the messages now, not when the last task of this one has ended."""
    if not left or c.connection is None:
        return
    with suppress(*c.connection_errors, *c.channel_errors):
        c.task_consumer.cancel()
    # The newest first: each goes to the head of its queue.
    for each in reversed(left):
        return_to_broker(each)
    if c.connection.transport.driver_type == "redis":
        # A request for the next message is still out, and may have got one of these. Without a consumer it goes back.
        with suppress(OSError, *c.connection_errors):
            c.connection.drain_events(timeout=_REQUEST)
