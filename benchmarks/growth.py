"""`growth`: whether a step gets slower when many others hold and wait; each crowd in a space of its own, in turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.measure import Block, Subject, in_rounds, ratio, summary
from benchmarks.plan import Plan
from tasklocks import connect
from tasklocks.backends import Backend
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["measure"]

_LONG = 3600.0
_NAME = "measured"
_THREADS = 8


@dataclass(frozen=True, slots=True)
class _Case:
    """One crowd and what is done amid it.

    Attributes:
        crowd: in words.
        base: the crowd that it is compared to.
        set_up: brings the crowd into an empty backend and returns the step to measure.
        size: of the crowd.
    """

    crowd: str
    base: str
    set_up: Callable[[Backend, int], Callable[[], object]]
    size: int


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each store and crowd."""
    return [row for each in plan.ours() for row in _on(plan, each)]


def _on(plan: Plan, contestant: Contestant) -> list[dict[str, Any]]:
    store, cases = plan.stores[contestant.store], _cases(plan)
    subjects = {
        case.crowd: Subject(case.set_up(connect(store.another(number)), case.size))
        for number, case in enumerate(cases, 1)
    }
    blocks = in_rounds(subjects, plan.scale.seconds)
    return [_row(contestant, case, blocks) for case in cases]


def _cases(plan: Plan) -> list[_Case]:
    few, most = plan.scale.crowd[0], plan.scale.crowd[-1]
    alone = f"pair, {few} other limits"
    short = f"turn of the line, {few} waiting"
    others = [_Case(f"pair, {size} other limits", alone, _other_limits, size) for size in plan.scale.crowd]
    return [
        *others,
        _Case(f"pair, {most} away waiters of this limit", alone, _away, most),
        _Case(short, short, _line, few),
        _Case(f"turn of the line, {most} waiting", short, _line, most),
    ]


def _row(contestant: Contestant, case: _Case, blocks: Mapping[str, list[Block]]) -> dict[str, Any]:
    mine = summary(blocks[case.crowd])
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "crowd": case.crowd,
        "size": case.size,
        "p50_us": mine["p50_us"],
        "p99_us": mine["p99_us"],
        "times_base": ratio(blocks[case.crowd], blocks[case.base]),
    }


def _other_limits(backend: Backend, size: int) -> Callable[[], object]:
    """Let `size` other limits have one holder and one waiter each."""
    address = backend.listen("crowd").address

    def occupy(number: int) -> None:
        _ask(backend, f"other-{number}", f"holder-{number}")
        _queue(backend, f"other-{number}", f"waiter-{number}", address)

    _for_each(occupy, size)
    return _pair(backend)


def _away(backend: Backend, size: int) -> Callable[[], object]:
    """Let `size` waiters that come back by themselves be in line for the measured limit."""
    _ask(backend, _NAME, "first")
    _for_each(lambda number: _queue(backend, _NAME, f"waiter-{number}", None), size)
    backend.release(_NAME, "first")
    return _pair(backend)


def _line(backend: Backend, size: int) -> Callable[[], object]:
    """Let `size` waiters listen; a turn: the holder leaves, the head enters, the one that left waits at the end."""
    address = backend.listen("crowd").address
    line = deque(f"waiter-{number}" for number in range(size + 1))
    for owner in line:
        _queue(backend, _NAME, owner, address)

    def turn() -> None:
        leaving = line.popleft()
        line.append(leaving)
        backend.release(_NAME, leaving)
        entered = isinstance(_queue(backend, _NAME, line[0], address), Grant)
        if not entered or isinstance(_queue(backend, _NAME, leaving, address), Grant):
            raise RuntimeError("a line did not move by one")

    return turn


def _pair(backend: Backend) -> Callable[[], object]:
    request = AcquireRequest(_NAME, "measured")

    def pair() -> None:
        backend.acquire(request)
        # What is not a lease of ours is not there to be released.
        if not backend.release(_NAME, "measured"):
            raise RuntimeError("a limit that nobody else holds was busy")

    return pair


def _for_each(work: Callable[[int], object], size: int) -> None:
    # Not measured, so it may be done by several at once: with a slow store it takes minutes otherwise.
    with ThreadPoolExecutor(_THREADS) as pool:
        deque(pool.map(work, range(size)), maxlen=0)


def _ask(backend: Backend, name: str, owner: str) -> Grant | Busy:
    return backend.acquire(AcquireRequest(name, owner, ttl=_LONG))


def _queue(backend: Backend, name: str, owner: str, address: str | None) -> Grant | Busy:
    return backend.acquire(AcquireRequest(name, owner, ttl=_LONG, place=Place(owner, _LONG, address)))
