"""Waits and holds are spans of OpenTelemetry, in the trace of the task that waits and holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasklocks import Lock
from tests.processes import eventually
from tests.workers import Worker, worker

RUN = "run/tests.apps.traced.imports"
HOLD, WAIT = "hold import-{account}", "wait for import-{account}"

Spans = Callable[[str], list[dict[str, Any]]]


@contextmanager
def traced(broker: str, folder: Path, **options: Any) -> Iterator[tuple[Worker, Spans]]:
    """Run a worker, and read the spans that its processes write."""
    file = folder / "spans"

    def spans(name: str) -> list[dict[str, Any]]:
        lines = file.read_text().splitlines() if file.exists() else []
        return [span for span in map(json.loads, lines) if span["name"] == name]

    locks = f"sqlite:///{folder}/locks.db"
    conf = {"env": {"TEST_SPANS": str(file)}, "tasklocks_tracing": True, "concurrency": 1, **options}
    with worker("tests.apps.traced", broker=broker, backend=broker, locks=locks, **conf) as running:
        yield running, spans


def test_a_workers_spans_stand_under_those_of_its_tasks(redis_database: str, tmp_path: Path) -> None:
    with traced(redis_database, tmp_path, tasklocks_admission=False) as (running, spans):
        with Lock("import-a", backend=running.settings.environ["TASKLOCKS_URL"]):
            result = running.tasks.imports.delay("a")
            assert eventually(lambda: len(spans(RUN)) >= 2, within=15)
        assert result.get(timeout=20) == "a"
        # The run that held ends after the result is known.
        assert eventually(lambda: any(map(succeeded, spans(RUN))), within=10)
        (hold,), (wait,), (run,) = spans(HOLD), spans(WAIT), filter(succeeded, spans(RUN))
    assert hold["parent_id"] == wait["parent_id"] == run["context"]["span_id"]
    assert hold["context"]["trace_id"] == run["context"]["trace_id"]
    assert run["start_time"] <= hold["start_time"] < hold["end_time"] <= run["end_time"]
    # It began in an earlier delivery.
    assert wait["start_time"] < run["start_time"]
    assert hold["attributes"]["tasklocks.limit"] == "import-a"
    assert hold["attributes"]["tasklocks.task_id"] == result.id
    assert hold["attributes"]["tasklocks.fencing_token"] > 0


def succeeded(run: dict[str, Any]) -> bool:
    return run["attributes"].get("celery.state") == "SUCCESS"


def test_with_admission_they_are_in_the_trace_of_the_sender(redis_database: str, tmp_path: Path) -> None:
    sender = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with traced(redis_database, tmp_path, tasklocks_admission=True) as (running, spans):
        result = running.tasks.imports.apply_async(["a"], headers=sender)
        assert result.get(timeout=20) == "a"
        assert eventually(lambda: spans(HOLD) and spans(RUN), within=10)
        (hold,), (run,) = spans(HOLD), spans(RUN)
    assert hold["parent_id"] == "0xb7ad6b7169203331"
    assert hold["context"]["trace_id"] == run["context"]["trace_id"] == "0x0af7651916cd43dd8448eb211c80319c"
