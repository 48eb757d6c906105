"""Spans of waits and holds, made with OpenTelemetry's own SDK."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tasklocks import ConfigurationError, Lock, connect, locked, news
from tasklocks.celery.watchers import begin
from tasklocks.contrib import otel
from tests.local import as_in_a_worker, local_app, register

URL = "memory://traces"


class Recorded:
    """The spans that ended so far, and a tracer for a span around them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def __call__(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    spans = otel.watch(made.provider)
    yield made
    news.unsubscribe(spans.hear)
    made.provider.shutdown()


def test_a_wait_and_a_hold_are_spans_under_the_current_one(recorded: Recorded) -> None:
    lock = Lock("report", backend=URL)
    holder = lock.acquire()
    threading.Timer(0.2, holder.release).start()
    with recorded.tracer.start_as_current_span("task") as task, lock as lease:
        token = lease.fencing_token
    spans = recorded()
    assert spans["wait for a lock"].end_time - spans["wait for a lock"].start_time >= 0.1e9
    for name in ("wait for a lock", "hold a lock"):
        assert spans[name].parent.span_id == task.get_span_context().span_id
        assert spans[name].attributes["tasklocks.limit"] == "report"
        assert spans[name].attributes["tasklocks.fencing_token"] == token
    assert spans["wait for a lock"].end_time <= spans["hold a lock"].start_time


def test_a_lost_lease_is_an_error_in_its_span(recorded: Recorded) -> None:
    lease = Lock("lost", backend=URL).acquire()
    connect(URL).force_release("lost", lease.owner)
    with pytest.raises(Exception, match="is lost"):
        lease.renew()
    (hold,) = (span for span in recorded().values() if span.name == "hold a lock")
    assert hold.status.status_code is StatusCode.ERROR
    assert "taken away" in hold.status.description


def test_a_skip_is_told_by_the_tasks_own_span(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    app = local_app(monkeypatch, URL)

    @locked("import-{account}", on_busy="skip")
    def imports(account: str) -> str:
        return account

    task = register(app, imports, name="imports")
    holder = Lock("import-a", backend=URL).acquire()
    with recorded.tracer.start_as_current_span("task"):
        assert as_in_a_worker(app, task, "a") is None
    holder.release()
    (event,) = recorded()["task"].events
    assert event.name == "limit skipped"
    assert event.attributes["tasklocks.template"] == "import-{account}"


@pytest.mark.parametrize(
    ("setting", "package", "module"),
    [
        ({"tasklocks_tracing": True}, "opentelemetry", "tasklocks.contrib.otel"),
        ({"tasklocks_metrics_port": 9808}, "prometheus_client", "tasklocks.contrib.exporter"),
    ],
)
def test_a_missing_package_is_named_at_the_workers_start(
    setting: dict[str, object], package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'tasklocks\["):
        begin(local_app(monkeypatch, URL, **setting), shared=False)
