"""`decision`: the cost of asking a rate limit on Redis once, beside a bare round trip and other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.deciders import DECIDERS, Decider, prove_decisions
from benchmarks.measure import Block, Subject, in_rounds, ratio, summary
from benchmarks.plan import Plan
from benchmarks.stores import Store, through
from benchmarks.wire import RoundTrips

__all__ = ["PACKAGES", "measure"]

PACKAGES = tuple(dict.fromkeys(each.package for each in DECIDERS if each.role == "peer"))
"""What it needs beyond what the other comparisons do."""

_COUNTED = 20
_SPACE = 901  # not one that another comparison uses
_CASES = ("admitted", "refused")

Blocks = Mapping[tuple[str, str], Sequence[Block]]


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return two rows for each decider that is installed: for what may start, and for what may not."""
    store = plan.stores.get("redis")
    if store is None:
        return []
    there = [each for each in DECIDERS if _release(each)]
    subjects = {key: subject for each in there for key, subject in _subjects(store, each)}
    blocks = in_rounds(subjects, plan.scale.seconds)
    return [_row(store, each, case, blocks) for case in _CASES for each in there]


def _release(decider: Decider) -> str:
    try:
        return version(decider.package)
    except PackageNotFoundError:
        return ""


def _subjects(store: Store, decider: Decider) -> Iterator[tuple[tuple[str, str], Subject]]:
    limits = decider.make(store.another(_SPACE))
    prove_decisions(decider, limits)
    for case, call in zip(_CASES, (limits.free, limits.full), strict=True):
        yield (decider.name, case), Subject(call, store.server_cpu or (lambda: 0.0))


def _row(store: Store, decider: Decider, case: str, blocks: Blocks) -> dict[str, Any]:
    mine = blocks[decider.name, case]
    ping, _, bare = (each.name for each in DECIDERS[:3])
    return {
        "store": "redis",
        "contestant": decider.name,
        "role": decider.role,
        "release": _release(decider),
        "decision": case,
        **summary(mine),
        "times_floor": ratio(mine, blocks[ping, case]),
        "times_bare": ratio(mine, blocks[bare, case]),
        "times_fastest_peer": _beside_peers(decider, case, blocks),
        "round_trips": _round_trips(store, decider, case),
    }


def _beside_peers(decider: Decider, case: str, blocks: Blocks) -> float | None:
    """Return how many times as long as the fastest peer it takes: gcra beside all, the others beside their kind."""
    peers = [each.name for each in DECIDERS if each.role == "peer" and decider.algorithm in ("gcra", each.algorithm)]
    found = [ratio(blocks[decider.name, case], blocks[peer, case]) for peer in peers if (peer, case) in blocks]
    return max(found, default=None) if decider.role == "tasklocks" else None


def _round_trips(store: Store, decider: Decider, case: str) -> float:
    with RoundTrips(store.port or 0) as wire:
        limits = decider.make(through(store, wire.port))
        call = limits.free if case == "admitted" else limits.full
        call()
        before = wire.count
        for _ in range(_COUNTED):
            call()
        return (wire.count - before) / _COUNTED
