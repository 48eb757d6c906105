"""OpenTelemetry spans for waits and holds (extra `tasklocks[otel]`: its API alone; your app sets up the SDK).

A worker makes them if `tasklocks_tracing` is set, other programs after `watch()`. Spans belong to the span that is
current where the limit is taken: with Celery's instrumentation that is the run of the task. A wait may have begun
before that, in an earlier delivery of the task; its span says so by its start. With admission the leases are taken
before the task runs: there the spans belong to the message's sender, if the message says who that is.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider

from tasklocks import news
from tasklocks.news import About, News

__all__ = ["Spans", "watch"]

_ABOUT = ("limit", "template", "owner", "backend", "task", "task_id", "permits", "capacity")
_UNDONE = ("skipped", "refused", "timed_out", "unreachable")


class Spans:
    """Makes spans of what it hears.

    Args:
        provider: where its tracer comes from; None: the global one.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tasklocks", tracer_provider=provider)
        self._holds: dict[tuple[str, str], Span] = {}

    def hear(self, told: News) -> None:
        """Begin or end spans at one moment."""
        if told.kind == "acquired":
            self._began(told)
        elif told.kind in ("released", "lost"):
            self._ended(told)
        elif told.kind in _UNDONE:
            # No lease, no span of its own: the task's span says what became of it.
            trace.get_current_span().add_event(f"limit {told.kind}", _attributes(told))

    def _began(self, told: News) -> None:
        now, about = time.time_ns(), told.about
        around: dict[str, Any] = {"context": _context(about), "attributes": _attributes(told)}
        if told.waited > 0:
            began = now - int(told.waited * 1e9)
            self._tracer.start_span(f"wait for {_named(told)}", start_time=began, **around).end(now)
        if not about.rate:
            hold = self._tracer.start_span(f"hold {_named(told)}", start_time=now, **around)
            self._holds[about.limit, about.owner] = hold

    def _ended(self, told: News) -> None:
        span = self._holds.pop((told.about.limit, told.about.owner), None)
        if span is None:
            return
        if told.kind == "lost":
            span.set_status(Status(StatusCode.ERROR, f"lost: {told.reason}"))
        span.end()


def watch(provider: TracerProvider | None = None) -> Spans:
    """Make spans from now on, in this process and in those that it forks, and return what makes them."""
    spans = Spans(provider)
    news.subscribe(spans.hear)
    return spans


def _context(about: About) -> Context | None:
    """Return to what a span belongs: to the message if no task runs yet, else (None) to what is current."""
    if about.carrier is None or trace.get_current_span().get_span_context().is_valid:
        return None
    return propagate.extract(about.carrier)


def _named(told: News) -> str:
    # Never the limit's own name: there may be any number of them.
    return told.about.template or "a lock"


def _attributes(told: News) -> dict[str, Any]:
    facts = news.facts(told)
    said = {f"tasklocks.{name}": facts[name] for name in _ABOUT if facts[name] not in (None, "")}
    said["tasklocks.waited"] = told.waited
    if told.token is not None:
        said["tasklocks.fencing_token"] = told.token
    return said
