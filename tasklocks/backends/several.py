"""A start at each of several rate limits, with a lock or without, or at none: also where a store does one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasklocks.errors import BackendUnavailable
from tasklocks.rates import RateState
from tasklocks.types import AcquireRequest, Busy, Grant, Refused, ReserveRequest, Slot, Taken

if TYPE_CHECKING:
    from tasklocks.backends.base import Backend, Changes

__all__ = ["Slots", "begins_soon", "reserve_in_turn", "reserving", "take_in_turn", "taken"]

_logger = logging.getLogger("tasklocks")

Slots = tuple[Slot, ...]
"""Starts, in the order in which they were asked for."""


def reserving(requests: Sequence[ReserveRequest], retention: float) -> Changes[Slots | Refused]:
    """Return the change that reserves a start at each limit, for texts that change together.

    Args:
        requests: of different limits.
        retention: seconds for which a text is kept beyond its last start.
    """

    def change(texts: Sequence[str], now: float) -> tuple[Sequence[str], float, Slots | Refused]:
        states = [RateState.read(text) for text in texts]
        slots = []
        for state, request in zip(states, requests, strict=True):
            answer = state.reserve(request.paces, request.cost, now, request.max_wait)
            if isinstance(answer, Refused):
                return texts, 0.0, Refused(answer.wait, request.name)
            slots.append(answer)
        return (
            [state.written() for state in states],
            max(state.lasts(now) for state in states) + retention,
            tuple(slots),
        )

    return change


def reserve_in_turn(backend: Backend, requests: Sequence[ReserveRequest], retention: float) -> Slots | Refused:
    """Reserve a start at one limit after the other, and take them back if one refuses.

    A start is taken back if nobody has reserved behind it meanwhile: then the limit is as it was. Otherwise it stays
    unused, for whoever came behind has a start that counts on it. So a limit can lose a start, and never gains one.
    """
    slots: list[Slot] = []
    undo: list[Callable[[], None]] = []
    try:
        for request in requests:
            answer, take_back = _reserved(backend, request, retention)
            if isinstance(answer, Refused):
                _take_back(undo)
                return Refused(answer.wait, request.name)
            slots.append(answer)
            undo.append(take_back)
    except BackendUnavailable:
        _take_back(undo)
        raise
    return tuple(slots)


def begins_soon(slots: Slots, within: float) -> bool:
    """Tell whether the latest of the starts comes within so many seconds."""
    return max(slot.wait for slot in slots) <= within


def taken(
    acquire: Callable[[Callable[[], bool]], Grant | Busy | None], reserve: Callable[[], Slots | Refused], within: float
) -> Taken | Busy | Refused:
    """Return what `Backend.take_all` answers, for a store that keeps everybody else away until its step is done.

    Args:
        acquire: does as `Backend.acquire`, but asks what it is given before it grants; None: that said no.
        reserve: reserves the starts.
        within: seconds; a later start gets no lease.
    """
    answers: list[Slots | Refused] = []

    def begins() -> bool:
        answers.append(reserve())
        return not isinstance(answers[0], Refused) and begins_soon(answers[0], within)

    answer = acquire(begins)
    if isinstance(answer, Busy):
        return answer
    (slots,) = answers
    return slots if isinstance(slots, Refused) else Taken(answer, slots)


def take_in_turn(
    backend: Backend, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
) -> Taken | Busy | Refused:
    """Take the lock, then the starts; give the lock back if they are refused, or too far away.

    The lock comes first, so that no start is used up while it is busy. A caller that is killed in between leaves a
    lease, which ends within its ttl.
    """
    grant = backend.acquire(request)
    if isinstance(grant, Busy):
        return grant
    try:
        answer = backend.reserve_all(rates) if len(rates) > 1 else backend.reserve(rates[0])
    except BaseException:
        _release(backend, request)
        raise
    slots = (answer,) if isinstance(answer, Slot) else answer
    if not isinstance(slots, Refused) and begins_soon(slots, within):
        return Taken(grant, slots)
    _release(backend, request)
    return Refused(slots.wait, slots.name or rates[0].name) if isinstance(slots, Refused) else Taken(None, slots)


def _release(backend: Backend, request: AcquireRequest) -> None:
    try:
        backend.release(request.name, request.owner)
    except BackendUnavailable as down:
        _logger.warning("%r ends by itself within %.0f s: %s", request.name, request.ttl, down)


def _reserved(backend: Backend, request: ReserveRequest, retention: float) -> tuple[Slot | Refused, Callable[[], None]]:
    """Return the answer, and what takes the start back."""

    def change(text: str, now: float) -> tuple[str, float, tuple[Slot | Refused, str, str]]:
        state = RateState.read(text)
        answer = state.reserve(request.paces, request.cost, now, request.max_wait)
        if isinstance(answer, Refused):
            return text, 0.0, (answer, text, text)
        written = state.written()
        return written, state.lasts(now) + retention, (answer, text, written)

    answer, before, after = backend.update(request.name, change)

    def restore(text: str, now: float) -> tuple[str, float, None]:
        return (before if text == after else text), RateState.read(before).lasts(now) + retention, None

    return answer, lambda: backend.update(request.name, restore)


def _take_back(undo: Sequence[Callable[[], None]]) -> None:
    try:
        for each in reversed(undo):
            each()
    except BackendUnavailable as down:
        _logger.warning("starts that are not needed stay reserved: %s", down)
