"""Decides about each message of a locked task: hold it, let it stand in line, let it go. In the event loop's thread."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from typing import Any

from celery.worker import state

from tasklocks import clock
from tasklocks.backoff import adaptive
from tasklocks.celery.admission.aside import Aside
from tasklocks.celery.admission.asking import Answer, Asking
from tasklocks.celery.admission.endings import acknowledge, follow, return_to_broker
from tasklocks.celery.admission.errands import Errands
from tasklocks.celery.admission.held import Held, held, locks_to_hold
from tasklocks.celery.admission.lines import Lines
from tasklocks.celery.admission.loans import Loans
from tasklocks.celery.admission.room import Room
from tasklocks.celery.admission.silent import Silent
from tasklocks.celery.admission.telling import tell_admitted, tell_unreachable, tell_waiting
from tasklocks.celery.calls import LEASES
from tasklocks.celery.inbox import Inbox
from tasklocks.celery.prefetch import Prefetch
from tasklocks.celery.spec import LockSpec
from tasklocks.errors import BackendUnavailable
from tasklocks.leases import Lease
from tasklocks.types import Busy

__all__ = ["Desk"]

_LOOK_AGAIN = 3.0  # seconds between two looks of one that does not listen, at the most
_IDLE = 1.0  # seconds that a task may have leases before it begins
_HOPELESS = 5.0  # seconds of a full pool after which others get what this worker would not have fetched yet by itself
_AT_ONCE = 20  # messages that go back to the broker in one go; the loop has other things to do

_logger = logging.getLogger("tasklocks")


class Desk:
    """The messages that one worker holds.

    Args:
        room: the pool.
        loans: keep the leases of tasks in the pool.
        errands: do what must not be waited for.
        inbox: where threads leave answers, or None if a body has ended.
        prefetch: the prefetch count.
        most: how many messages are held at the most.
        longest: seconds for which one is held at the most.
    """

    def __init__(
        self,
        room: Room,
        loans: Loans,
        errands: Errands,
        inbox: Inbox[Answer | None],
        prefetch: Prefetch,
        *,
        most: int,
        longest: float,
    ) -> None:
        self._room = room
        self._loans = loans
        self._errands = errands
        self._inbox = inbox
        self._most = most
        self._longest = longest
        self._asking = Asking(loans.lease, inbox.put)
        self._locks: dict[str, Sequence[LockSpec]] = {}
        self._silent = Silent()
        self.lines = Lines()
        self.prefetch = prefetch
        self._aside = Aside(self.lines, prefetch, inbox.put, most)

    def received(self, request: Any) -> None:
        """Hold the message of a locked task, pass on any other (stands where Celery gives a task to its pool)."""
        locks = self._locks_of(request.task)
        kept = self._as_held(request, locks) if locks and self._has_space else None
        if kept is None:
            self._room.pass_on(request)
            return
        # A task that waits counts neither for the autoscaler nor as a place of the pool that is taken.
        state.reserved_requests.discard(request)
        self.lines.add(kept)
        self._aside.add(kept)
        self._let_stand()
        if not kept.standing:
            tell_waiting(kept)

    def read_inbox(self) -> None:
        """Act on what the threads say."""
        for message in self._inbox.take():
            if message is not None:
                self._answered(message)
        self._let_stand()

    def look_around(self) -> None:
        """See to what comes with time: a few times a second."""
        now = clock.now()
        for each in self.lines:
            if each.leaving:
                continue
            if each.request.revoked():
                self._let_go(each)
            elif each.until <= now:
                self._to_the_body(each)
        if not self._room.has_place():
            self._step_out()
            self._loans.take_back_idle(now - _IDLE)
            if self._room.stuck_for() > _HOPELESS:
                self._return_some()
        self._let_stand()

    def clear(self) -> Sequence[Held]:
        """Hold nothing any more; return what was held, oldest first."""
        self._aside.finish()
        self.rest()
        left = list(self.lines)
        for each in left:
            self._let_go(each)
        self.give_up()
        return left

    def rest(self) -> None:
        """Stand in no line and hear nothing, until the inbox is opened again."""
        self._step_out()
        for message in self._inbox.shut():
            if message is not None and message.sent is not None:
                self._sent(message.held, message.sent)
            elif message is not None:
                self._give_back(message.leases)

    def give_up(self) -> None:
        """Take back the leases of tasks that the pool has forgotten before they began."""
        self._loans.take_back_idle(math.inf)

    def close(self) -> None:
        """End the threads that ask."""
        self.give_up()
        self._aside.close()
        self._asking.close()

    @property
    def _has_space(self) -> bool:
        return self._most > 0 and not self._loans.full and self.prefetch.has_space(len(self.lines))

    def sees_to(self, task: Any) -> bool:
        """Tell whether messages of that task are held here."""
        return bool(self._locks_of(task))

    def _locks_of(self, task: Any) -> Sequence[LockSpec]:
        if task.name not in self._locks:
            self._locks[task.name] = locks_to_hold(task)
        return self._locks[task.name]

    def _as_held(self, request: Any, locks: Sequence[LockSpec]) -> Held | None:
        try:
            return held(request, locks, self._longest)
        except Exception:
            # A wrong call, a wrong name: the task fails by it in the pool, where an error belongs to its task.
            _logger.debug("the locks of %s are left to its body", request.id, exc_info=True)
            return None

    def _let_stand(self) -> None:
        if not self._room.has_place():
            return
        places = self._room.places - len(self._loans)
        now, silent = clock.now(), self._silent.now()
        for each in self.lines.in_the_way(places, now, silent):
            self._leave(each)
            if each.busy is not None:
                self._look_later(each, each.busy)
        for each in self.lines.next_to_stand(places, now, silent):
            self.lines.stand(each)
            self._asking.ask(each, stay=not self.lines.crowded)
        self._aside.make_way()

    def _step_out(self) -> None:
        """Leave every line: whoever is granted a permit here could not use it."""
        for each in self.lines:
            if each.standing:
                self._leave(each)

    def _return_some(self) -> None:
        """Give to the broker what this worker would not have fetched yet without admission, the newest first."""
        extra = [each for each in self.lines if each.prefetched][-_AT_ONCE:]
        for each in extra:
            self._let_go(each)
        if extra:
            self._room.later(lambda: self._return(extra))

    def _return(self, extra: Sequence[Held]) -> None:
        # First of all, or the broker delivers them here again at once.
        self.prefetch.apply()
        for each in reversed(extra):
            return_to_broker(each)

    def _leave(self, each: Held) -> None:
        """Give up its place in line; the thread that stands there for it finds that out by itself."""
        backend, name = each.key
        self._errands.leave(backend, name, each.owner)
        each.drop_attempt()
        self.lines.step_back(each)

    def _answered(self, answer: Answer) -> None:
        each = answer.held
        if answer.sent is not None:
            self._sent(each, answer.sent)
            return
        if answer.owner != each.owner:
            self._give_back(answer.leases)
            return
        if answer.standing:
            each.heard(answer.busy)
            tell_waiting(each, answer.busy)
            return
        self.lines.step_back(each)
        if answer.leases:
            self._admit(each, answer.leases)
        elif answer.busy is not None:
            self._wait_on(each, answer, answer.busy)
        else:
            self._trouble(each, answer)

    def _sent(self, each: Held, sent: bool) -> None:
        """Acknowledge what went back to the broker."""
        if not each.leaving:
            return  # the connection that it came by is lost, so it is delivered again
        if sent:
            self._forget(each)
            self._room.later(functools.partial(acknowledge, each))
        else:
            self._to_the_body(each)

    def _wait_on(self, each: Held, answer: Answer, busy: Busy) -> None:
        self._silent.answered(each.key[0])
        each.heard(busy)
        tell_waiting(each, busy)
        if answer.first != each.first:
            self.lines.waits_for(each, answer.first)
        else:
            self._look_later(each, busy)

    def _look_later(self, each: Held, busy: Busy) -> None:
        pause = adaptive(busy, 0, each.wants[each.first].spec.permits)
        each.looks_at = clock.now() + min(pause, _LOOK_AGAIN)

    def _trouble(self, each: Held, answer: Answer) -> None:
        """Treat the limit as busy, unless its lock says otherwise, or the error is no backend's."""
        want = each.wants[answer.first]
        if want.spec.on_backend_error == "raise" or not isinstance(answer.error, BackendUnavailable):
            self._to_the_body(each)
            return
        self._silent.failed(want.backend)
        tell_unreachable(each, answer.error)

    def _admit(self, each: Held, leases: Sequence[Lease]) -> None:
        """Give the task to the pool, with its leases."""
        request = each.request
        if request.revoked():
            self._let_go(each)
            self._give_back(leases)
            return
        tell_admitted(each, leases)
        request.request_dict[LEASES] = self._loans.lend(each, leases)
        self._follow(request, each.owner)
        self._aside.goes_on(each)
        self._forget(each)
        state.task_reserved(request)
        self._room.put_first(request)

    def _follow(self, request: Any, owner: str) -> None:
        """See the end of the task, if its body does not say it; one that did not begin never will."""

        def ended() -> None:
            self._loans.over(owner)
            self._inbox.put(None)

        follow(request, ended, lambda: self._loans.take_back(owner))

    def _to_the_body(self, each: Held) -> None:
        """Give the task to the pool without a lease."""
        self._let_go(each)
        each.tell_the_body()
        state.task_reserved(each.request)
        self._room.pass_on(each.request)

    def _let_go(self, each: Held) -> None:
        """Hold it no more."""
        if each.standing:
            self._leave(each)
        self._forget(each)

    def _forget(self, each: Held) -> None:
        each.leaving = False
        self.lines.remove(each)
        self._aside.remove(each)
        state.requests.pop(each.request.id, None)

    def _give_back(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._errands.give_back(lease)
