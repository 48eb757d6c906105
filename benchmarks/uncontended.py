"""`pair`: one acquire and one release that nobody competes with, beside the bare commands and other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.contestants import Contestant, floor_of, release_of
from benchmarks.measure import Block, Subject, in_rounds, ratio, summary
from benchmarks.pair import Pair
from benchmarks.plan import Plan
from benchmarks.stores import through
from benchmarks.wire import RoundTrips

__all__ = ["measure"]

_COUNTED = 20


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each contestant."""
    subjects = {each.name: _subject(plan, each) for each in plan.contestants}
    blocks = in_rounds(subjects, plan.scale.seconds)
    return [_row(plan, each, blocks) for each in plan.contestants]


def _subject(plan: Plan, contestant: Contestant) -> Subject:
    store = plan.stores[contestant.store]
    return Subject(_both(contestant.make(store.url, f"pair of {contestant.name}")), store.server_cpu or _unknown)


def _unknown() -> float:
    return 0.0


def _both(pair: Pair) -> Callable[[], None]:
    acquire, release = pair.acquire, pair.release

    def once() -> None:
        # A contestant that is refused here has done half of the work only.
        if not acquire(False):
            raise RuntimeError("a mutex that nobody else uses was busy")
        release()

    return once


def _row(plan: Plan, contestant: Contestant, blocks: Mapping[str, Sequence[Block]]) -> dict[str, Any]:
    mine = blocks[contestant.name]
    figures: dict[str, float | None] = {**summary(mine)}
    if plan.stores[contestant.store].server_cpu is None:
        figures["server_cpu_us"] = None
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "release": release_of(contestant),
        **figures,
        "times_floor": ratio(mine, blocks[floor_of(contestant.store).name]),
        "times_fastest_peer": _beside_peers(plan, contestant, blocks),
        "round_trips": _round_trips(plan, contestant),
    }


def _beside_peers(plan: Plan, contestant: Contestant, blocks: Mapping[str, Sequence[Block]]) -> float | None:
    """Return how many times as long as the fastest other library it takes; None if there is no other one."""
    peers = [each.name for each in plan.contestants if each.role == "peer" and each.store == contestant.store]
    ours = contestant.role == "tasklocks"
    return max((ratio(blocks[contestant.name], blocks[peer]) for peer in peers), default=None) if ours else None


def _round_trips(plan: Plan, contestant: Contestant) -> float | None:
    """Return how many times a pair goes to the server and back; None if there is no server."""
    store = plan.stores[contestant.store]
    if store.port is None:
        return None
    with RoundTrips(store.port) as wire:
        once = _both(contestant.make(through(store, wire.port), f"trips of {contestant.name}"))
        once()
        before = wire.count
        for _ in range(_COUNTED):
            once()
        return (wire.count - before) / _COUNTED
