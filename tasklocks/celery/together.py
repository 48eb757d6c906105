"""Asks for a lock together with the starts of the same call, where one backend has them."""

from __future__ import annotations

import math
from collections.abc import Callable

from tasklocks.backends import Backend
from tasklocks.celery.calls import Kind
from tasklocks.celery.policy import patience
from tasklocks.celery.slots import SHORT
from tasklocks.celery.starts import Starts, refused
from tasklocks.errors import TaskLocksError
from tasklocks.types import AcquireRequest, Busy, Grant, Refused

__all__ = ["StartsLaterError", "asking"]


class StartsLaterError(TaskLocksError):
    """The lock is free and the starts are reserved, but they are later: there is no lease until then."""


def asking(starts: Starts, backend: Backend) -> Callable[[AcquireRequest], Grant | Busy] | None:
    """Return what asks for a lock and the starts that are on the same backend.

    None if there are none, or if the call has some already: then it is the lock's turn alone.
    """
    together = [] if starts.booked else starts.missing(backend)
    if not together:
        return None
    asked = [(wish, patience(starts.call, wish.spec)) for wish in together[0]]

    def ask(request: AcquireRequest) -> Grant | Busy:
        answer = backend.take_all(request, [wish.request(bound) for wish, bound in asked], _within(starts))
        if isinstance(answer, Busy):
            return answer
        if isinstance(answer, Refused):
            raise refused(answer, asked)
        for (wish, _), slot in zip(asked, answer.slots, strict=True):
            starts.note(wish, slot)
        if answer.grant is None:
            raise StartsLaterError
        return answer.grant

    return ask


def _within(starts: Starts) -> float:
    """Return for how long the lock may be held until the start: who waits in place holds it, as it waits there."""
    goes_away = starts.call.kind is Kind.BODY and all(wish.spec.on_busy != "wait" for wish in starts.wishes)
    return SHORT if goes_away else math.inf
