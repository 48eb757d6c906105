"""Prometheus metrics of what happens to limits (extra `tasklocks[prometheus]`).

Each is labelled by the limit's *template*, the name as the decorator has it: `import-{account_id}` is one series,
however many accounts there are. A limit that a function names goes by its task's name. So there are as many series as
the code has limits, and one for all locks of code that is no task.

A worker serves them itself if `tasklocks_metrics_port` is set. Other programs call `watch()`, and serve the registry as
they do anyway.
"""

from __future__ import annotations

from itertools import chain
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from tasklocks import news
from tasklocks.news import Kind, News
from tasklocks.renewal import RAN_OUT

__all__ = ["PLAIN", "Metrics", "watch"]

PLAIN = "(plain code)"
"""The label of locks that belong to no task: their names may be without number."""

_LABELS = ("limit",)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

_COUNTED: dict[str, tuple[str, tuple[Kind, ...]]] = {
    "busy": ("Calls that found a limit busy", ("waiting", "skipped", "refused")),
    "skipped": ("Tasks that ended without running because a limit was busy", ("skipped",)),
    "refused": ("Calls that failed at once because a limit was busy", ("refused",)),
    "timeouts": ("Calls that failed because a limit stayed busy for longer than max_wait", ("timed_out",)),
    "lost": ("Leases that ended although nobody released them", ("lost",)),
    "renewal_failures": ("Renewals of a lease that failed and were tried again", ("unrenewed",)),
    "unreachable": ("Tasks that waited because the backend of a limit did not answer", ("unreachable",)),
}


class Metrics:
    """The metrics in one registry; feed them with `hear`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._wait = _histogram("tasklocks_wait_seconds", "Time from the first asking to the lease", registry)
        self._hold = _histogram("tasklocks_hold_seconds", "Time from the lease to its end", registry)
        # Of living processes: what a killed one held is not held by it any more.
        self._held = _gauge("tasklocks_held", "Permits that are held now", "livesum", registry)
        self._capacity = _gauge("tasklocks_capacity", "Permits of a limit, as last said", "mostrecent", registry)
        self._expired = _counter("tasklocks_expired", "Lost leases whose time ran out before a renewal", registry)
        self._counters: dict[Kind, list[Counter]] = {}
        for name, (meaning, kinds) in _COUNTED.items():
            counter = _counter(f"tasklocks_{name}", meaning, registry)
            for kind in kinds:
                self._counters.setdefault(kind, []).append(counter)
        self._holding: dict[tuple[str, str], int] = {}
        self._labels: set[str] = set()

    def hear(self, told: News) -> None:
        """Count one moment."""
        label = told.about.template or PLAIN
        self.expect(label)
        for counter in self._counters.get(told.kind, ()):
            counter.labels(label).inc()
        if told.kind == "acquired":
            self._began(told, label)
        elif told.kind in ("released", "lost"):
            self._ended(told, label)

    def expect(self, label: str) -> None:
        """Let every series of a limit be there: a first loss that comes as a 1 out of nothing raises no alarm."""
        if label in self._labels:
            return
        self._labels.add(label)
        self._held.labels(label)
        for counter in [self._expired, *chain.from_iterable(self._counters.values())]:
            counter.labels(label)

    def _began(self, told: News, label: str) -> None:
        about = told.about
        self._wait.labels(label).observe(told.waited)
        if about.capacity is not None:
            self._capacity.labels(label).set(about.capacity)
        if not about.rate:
            self._holding[about.limit, about.owner] = about.permits
            self._held.labels(label).inc(about.permits)

    def _ended(self, told: News, label: str) -> None:
        if told.held is not None:
            self._hold.labels(label).observe(told.held)
        if told.kind == "lost" and told.reason == RAN_OUT:
            self._expired.labels(label).inc()
        # Not what began before anybody counted.
        self._held.labels(label).dec(self._holding.pop((told.about.limit, told.about.owner), 0))


def watch(registry: CollectorRegistry = REGISTRY) -> Metrics:
    """Count from now on, in this process and in those that it forks, and return the metrics."""
    metrics = Metrics(registry)
    news.subscribe(metrics.hear)
    return metrics


def _histogram(name: str, meaning: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, meaning, _LABELS, buckets=_BUCKETS, registry=registry)


def _counter(name: str, meaning: str, registry: CollectorRegistry) -> Counter:
    return Counter(name, meaning, _LABELS, registry=registry)


def _gauge(name: str, meaning: str, mode: Literal["livesum", "mostrecent"], registry: CollectorRegistry) -> Gauge:
    return Gauge(name, meaning, _LABELS, registry=registry, multiprocess_mode=mode)
