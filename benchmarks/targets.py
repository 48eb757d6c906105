"""What tasklocks promises about its costs, checked against the rows that were measured."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import Column

__all__ = ["COLUMNS", "TARGETS", "checked"]

Rows = Sequence[Mapping[str, Any]]

COLUMNS = (
    Column("promise", "promise"),
    Column("bound", "bound"),
    Column("measured", "measured", ".2f"),
    Column("kept", "kept"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One promise.

    Attributes:
        promise: in words.
        measure: whose rows tell.
        figure: from these rows to the figure; None if they do not tell.
        is_kept: compares the figure with the bound.
        bound: what the promise says.
    """

    promise: str
    measure: str
    figure: Callable[[Rows], float | None]
    is_kept: Callable[[float, float], bool]
    bound: float


def checked(results: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Return a row for each promise: the figure and whether it is kept; both None if it was not measured."""
    return [_checked(target, results.get(target.measure, ())) for target in TARGETS]


def _checked(target: Target, rows: Rows) -> dict[str, Any]:
    figure = target.figure(rows)
    return {
        "promise": target.promise,
        "bound": f"{_SIGNS[target.is_kept]} {target.bound:g}",
        "measured": figure,
        "kept": None if figure is None else "yes" if target.is_kept(figure, target.bound) else "no",
    }


def _value(key: str, **where: object) -> Callable[[Rows], float | None]:
    """Return what finds `key` in the one row that `where` describes."""
    return lambda rows: next((row[key] for row in rows if where.items() <= row.items()), None)


def _worst(key: str, words: str = "", **where: object) -> Callable[[Rows], float | None]:
    """Return what finds the largest `key` of the rows that `where` describes and that contain `words`."""
    return lambda rows: max(
        (row[key] for row in rows if where.items() <= row.items() and words in row.get("crowd", "")), default=None
    )


def _pair(store: str, of_floor: float, of_peers: float | None = None) -> list[Target]:
    """Return what the uncontended pair of `store` must keep: of the floor's time, and of its fastest peer's."""
    who = {"contestant": f"tasklocks {store}"}
    floor = Target(f"{store}, pair: p50, x floor", "pair", _value("times_floor", **who), operator.le, of_floor)
    if of_peers is None:
        return [floor]
    peer = Target(
        f"{store}, pair: p50, x the fastest peer", "pair", _value("times_fastest_peer", **who), operator.lt, of_peers
    )
    return [floor, peer]


_SIGNS = {operator.le: "≤", operator.lt: "<", operator.ge: "≥", operator.eq: "="}


def _in_line(store: str, sections: float) -> list[Target]:
    who = {"contestant": f"tasklocks {store}", "processes": 50}
    return [
        Target(
            f"{store}, 50 processes: critical sections a second",
            "contended",
            _value("per_second", **who),
            operator.ge,
            sections,
        ),
        Target(
            f"{store}, 50 processes: fewest sections of a process, of the most",
            "contended",
            _value("evenness", **who),
            operator.ge,
            0.8,
        ),
    ]


def _least(key: str, **where: object) -> Callable[[Rows], float | None]:
    """Return what finds the smallest `key` of the rows that `where` describes."""
    return lambda rows: min((row[key] for row in rows if where.items() <= row.items()), default=None)


def _rate(store: str) -> list[Target]:
    """Return what eight processes must get of a rate limit on `store`, and must not exceed."""
    limit = f"{store}, 8 processes at a rate limit of any kind"
    return [
        Target(f"{limit}: admitted, of the limit", "rates", _least("share", store=store), operator.ge, 0.99),
        Target(f"{limit}: the fullest window, of the limit", "rates", _worst("fullest", store=store), operator.le, 1),
    ]


def _decision(case: str) -> list[Target]:
    """Return what a decision must keep: of a bare round trip's time, and of the fastest other library's."""
    who = {"contestant": "tasklocks gcra", "decision": case}
    decision = f"redis, a decision, {case}: p50"
    return [
        Target(f"{decision}, x one PING", "decision", _value("times_floor", **who), operator.le, 1.25),
        Target(f"{decision}, x the fastest peer", "decision", _value("times_fastest_peer", **who), operator.lt, 1),
    ]


def _admitted(scenario: str, **bounds: float) -> list[Target]:
    where = {"scenario": scenario, "way": "admission"}
    return [
        Target(
            f"admission, {scenario}: {key}",
            "admission",
            _value(key, **where),
            operator.le if key in ("executions", "messages") else operator.ge,
            bound,
        )
        for key, bound in bounds.items()
    ]


TARGETS = (
    *_pair("redis", 1.25, 1),
    Target("redis, pair: round trips", "pair", _value("round_trips", contestant="tasklocks redis"), operator.le, 2),
    *_pair("sqlite", 2.5),
    *_pair("mongodb", 1.25),
    *_pair("etcd", 1.25, 0.5),
    *_pair("zookeeper", 1.15, 1),
    Target(
        "redis, pair among up to 10 000 other limits: p50, x the smallest crowd",
        "growth",
        _worst("times_base", "other limits", store="redis"),
        operator.lt,
        1.1,
    ),
    Target(
        "redis, 10 000 waiters of the same limit: p50, x the smallest crowd",
        "growth",
        _worst("times_base", "10000", store="redis"),
        operator.lt,
        2,
    ),
    *_in_line("redis", 1000),
    *_in_line("sqlite", 1700),
    Target("any mutex of tasklocks: overlaps", "contended", _worst("overlaps", role="tasklocks"), operator.eq, 0),
    Target(
        "redis, up to 1 000 leases of a process: threads that renew",
        "renewal",
        _worst("threads", contestant="tasklocks redis"),
        operator.le,
        1,
    ),
    *_rate("sqlite"),
    *_rate("redis"),
    *_rate("mongodb"),
    *_rate("etcd"),
    *_rate("zookeeper"),
    *_decision("admitted"),
    *_decision("refused"),
    *_admitted("mutex, 2 x 2 processes", efficiency=0.9, executions=1.02, messages=1.05, tau=0.99),
    *_admitted("semaphore of 10, 2 x 8 threads", efficiency=0.9),
    *_admitted("free tasks among as many that wait", efficiency=0.95),
    *_admitted("free tasks among as many behind a mutex", efficiency=0.95),
    *_admitted("100000 tasks of 1 ms in the queue", efficiency=0.8),
    Target(
        "redis, `tasklocks ls` over 100 000 held limits: seconds",
        "ls",
        _value("seconds", limits=100_000),
        operator.lt,
        5,
    ),
    Target(
        "redis, the same: longest PING of another client meanwhile, ms",
        "ls",
        _value("longest_ms", limits=100_000),
        operator.lt,
        50,
    ),
    Target(
        "redis, `tasklocks web` over 1 000 limits that change, one viewer: % of a core",
        "page",
        _value("share", limits=1000),
        operator.lt,
        10,
    ),
    Target(
        "memory, a locked task that nobody watches: bytecodes, x without any news",
        "watching",
        _value("times_cut", store="memory", way="nobody watches"),
        operator.lt,
        1.005,
    ),
)
