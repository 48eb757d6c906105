"""What every backend promises about starts at several rate limits together: all of them, or none."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from tasklocks.backends import Backend
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

_SLOW = Pace(1, 100)


def _requests(*names: str, max_wait: float | None = None, pace: Pace = _SLOW) -> list[ReserveRequest]:
    return [ReserveRequest(name, (pace,), 1.0, max_wait) for name in names]


def _free(backend: Backend, name: str) -> bool:
    """Whether a start at the limit would be now; reserves nothing if not."""
    return isinstance(backend.reserve(ReserveRequest(name, (_SLOW,), 1.0, 0.0)), Slot)


def test_starts_at_several_limits_are_reserved_together(backend: Backend) -> None:
    backend.reserve(ReserveRequest("b", (_SLOW,)))
    answer = backend.reserve_all(_requests("a", "b", "c"))
    assert [round(slot.wait, -1) for slot in answer] == [0, 100, 0]
    assert not any(_free(backend, name) for name in "abc")


def test_if_one_limit_refuses_nothing_is_reserved_at_the_others(backend: Backend) -> None:
    backend.reserve(ReserveRequest("b", (_SLOW,)))
    for _ in range(3):
        answer = backend.reserve_all(_requests("a", "b", "c", max_wait=50))
        assert isinstance(answer, Refused)
        assert (answer.name, 50 < answer.wait <= 100) == ("b", True)
    assert _free(backend, "a")
    assert _free(backend, "c")


def test_a_start_that_was_counted_on_is_not_taken_back(backend: Backend) -> None:
    """Whoever comes in between two of the steps keeps what it was told."""
    backend.reserve(ReserveRequest("z", (_SLOW,)))
    pace = Pace(100, 1.0)

    def refused(_: int) -> object:
        mixed = [ReserveRequest("a", (pace,)), ReserveRequest("z", (_SLOW,), 1.0, 0.0)]
        return backend.reserve_all(mixed)

    def reserved(_: int) -> float:
        slot = backend.reserve(ReserveRequest("a", (pace,)))
        return slot.start if isinstance(slot, Slot) else 0.0

    with ThreadPoolExecutor(8) as pool:
        refusals = pool.map(refused, range(30))
        starts = sorted(pool.map(reserved, range(30)))
        assert all(isinstance(each, Refused) for each in refusals)
    assert all(later - earlier > 0.009 for earlier, later in pairwise(starts))


def test_no_limit_is_exceeded_and_nobody_waits_for_ever_however_the_limits_overlap(backend: Backend) -> None:
    names, pace = "abcd", Pace(50, 1.0)
    taken: dict[str, list[float]] = {name: [] for name in names}

    def draw(number: int) -> None:
        some = sorted(random.Random(number).sample(names, 3))  # noqa: S311 - no secret
        answer = backend.reserve_all(_requests(*some, max_wait=0.3, pace=pace))
        if not isinstance(answer, Refused):
            for name, slot in zip(some, answer, strict=True):
                taken[name].append(slot.start)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(draw, range(120)))
    for starts in map(sorted, taken.values()):
        assert len(starts) >= 10
        assert all(later - earlier > 0.019 for earlier, later in pairwise(starts))
