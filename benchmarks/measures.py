"""What is measured: one table; a new comparison is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import (
    admission,
    contended,
    decision,
    growth,
    handoff,
    herd,
    listing,
    rates,
    renewal,
    served_page,
    uncontended,
    unwatched,
)
from benchmarks.plan import Plan, Scale
from benchmarks.tables import Column

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison.

    Attributes:
        title: what it is, in a line.
        run: measures and returns the rows.
        columns: of its table.
        seconds: how long each contestant is measured.
        packages: distributions whose versions belong to the figures, beyond those of the plan's contestants.
    """

    title: str
    run: Callable[[Plan], list[dict[str, Any]]]
    columns: Sequence[Column]
    seconds: Callable[[Scale], float] = lambda scale: scale.seconds
    packages: Sequence[str] = ()


_WHO = (Column("store", "store"), Column("contestant", "contestant"))

MEASURES: Mapping[str, Measure] = {
    "pair": Measure(
        "Uncontended acquire and release",
        uncontended.measure,
        (
            *_WHO,
            Column("p50_us", "p50 µs", ".1f"),
            Column("times_floor", "x floor", ".2f"),
            Column("p99_us", "p99 µs", ".0f"),
            Column("per_second", "pairs/s", ".0f"),
            Column("round_trips", "round trips", ".1f"),
            Column("client_cpu_us", "client CPU µs", ".0f"),
            Column("server_cpu_us", "server CPU µs", ".0f"),
        ),
    ),
    "growth": Measure(
        "A step among many other holders and waiters",
        growth.measure,
        (
            Column("store", "store"),
            Column("crowd", "step, crowd"),
            Column("p50_us", "p50 µs", ".1f"),
            Column("times_base", "x the smallest crowd", ".2f"),
            Column("p99_us", "p99 µs", ".0f"),
        ),
    ),
    "contended": Measure(
        "Many processes on one mutex, no hold time",
        contended.measure,
        (
            Column("processes", "processes", "d"),
            *_WHO,
            Column("per_second", "sections/s", ".0f"),
            Column("evenness", "min/max", ".2f"),
            Column("fewest", "fewest", "d"),
            Column("most", "most", "d"),
            Column("p99_wait_ms", "p99 wait ms", ".1f"),
            Column("longest_wait_ms", "longest ms", ".0f"),
            Column("overlaps", "overlaps", "d"),
        ),
    ),
    "handoff": Measure(
        "From release to the next waiter inside",
        handoff.measure,
        (
            *_WHO,
            Column("p50_ms", "p50 ms", ".2f"),
            Column("p99_ms", "p99 ms", ".2f"),
            Column("longest_ms", "longest ms", ".2f"),
            Column("handoffs", "hand-offs", "d"),
        ),
    ),
    "herd": Measure(
        "What one release costs when many wait",
        herd.measure,
        (
            Column("store", "store"),
            Column("permits", "permits", "d"),
            Column("waiters", "waiters", "d"),
            Column("requests", "requests", ".1f"),
            Column("messages", "messages", ".1f"),
            Column("kilobytes", "kB", ".1f"),
        ),
    ),
    "renewal": Measure(
        "Keeping leases alive in one process",
        renewal.measure,
        (
            Column("leases", "leases", "d"),
            *_WHO,
            Column("threads", "threads", "d"),
            Column("trips_per_second", "round trips/s", ".1f"),
            Column("cpu_ms_per_second", "CPU ms/s", ".1f"),
        ),
    ),
    "rates": Measure(
        "Eight processes that ask one rate limit as fast as they can",
        rates.measure,
        (
            Column("store", "store"),
            Column("asking", "limit"),
            Column("asked_per_second", "asked/s", ".0f"),
            Column("admitted", "admitted", "d"),
            Column("share", "of the limit", ".4f"),
            Column("fullest", "fullest window", ".3f"),
            Column("state", "backend's state"),
        ),
        seconds=lambda scale: scale.rate_seconds,
    ),
    "decision": Measure(
        "One decision of a rate limit",
        decision.measure,
        (
            Column("decision", "decision"),
            Column("contestant", "contestant"),
            Column("p50_us", "p50 µs", ".1f"),
            Column("times_floor", "x PING", ".2f"),
            Column("times_bare", "x bare PING", ".2f"),
            Column("times_fastest_peer", "x peer", ".2f"),
            Column("p99_us", "p99 µs", ".0f"),
            Column("round_trips", "round trips", ".1f"),
            Column("client_cpu_us", "client CPU µs", ".0f"),
            Column("server_cpu_us", "server CPU µs", ".0f"),
        ),
        packages=decision.PACKAGES,
    ),
    "admission": Measure(
        "Tasks of 50 ms behind a limit, beside free ones, and in a long queue, on two workers",
        admission.measure,
        (
            Column("scenario", "limit, workers"),
            Column("way", "way of waiting"),
            Column("tasks", "tasks", "d"),
            Column("efficiency", "efficiency", ".2f"),
            Column("executions", "executions a task", ".2f"),
            Column("messages", "messages a task", ".2f"),
            Column("tau", "Kendall tau", ".3f"),
            Column("most", "most at once", "d"),
            Column("per_second", "tasks/s", ".0f"),
            Column("memory", "MB", ".0f"),
        ),
    ),
    "ls": Measure(
        "A list of all limits that are held",
        listing.measure,
        (
            Column("store", "store"),
            Column("limits", "limits", "d"),
            Column("seconds", "seconds", ".1f"),
            Column("longest_ms", "longest PING of another meanwhile, ms", ".1f"),
            Column("longest_alone_ms", "and before, ms", ".1f"),
        ),
    ),
    "watching": Measure(
        "What a locked task pays for those who may watch it",
        unwatched.measure,
        (
            Column("store", "store"),
            Column("way", "who watches"),
            Column("bytecodes", "bytecodes a task", ".0f"),
            Column("times_cut", "x without any", ".4f"),
            Column("instructions", "machine instructions a task", ".0f"),
        ),
    ),
    "page": Measure(
        "The page of limits that change all the time, with one viewer",
        served_page.measure,
        (
            Column("store", "store"),
            Column("limits", "limits", "d"),
            Column("share", "% of a core", ".1f"),
            Column("share_alone", "and with no viewer", ".1f"),
            Column("kilobytes", "kB/s to the viewer", ".1f"),
        ),
    ),
}
