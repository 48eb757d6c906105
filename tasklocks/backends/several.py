"""A start at each of several rate limits, or at none: also where a store changes one text at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tasklocks.errors import BackendUnavailable
from tasklocks.rates import RateState
from tasklocks.types import Refused, ReserveRequest, Slot

if TYPE_CHECKING:
    from tasklocks.backends.base import Backend, Changes

__all__ = ["Slots", "reserve_in_turn", "reserving"]

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
