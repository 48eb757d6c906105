"""Waits and holds are spans of OpenTelemetry, in the trace of the task that waits and holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasklocks import Lock
from tests.processes import eventually
from tests.workers import worker


def test_a_workers_spans_stand_under_those_of_its_tasks(redis_database: str, tmp_path: Path) -> None:
    file, locks = tmp_path / "spans", f"sqlite:///{tmp_path}/locks.db"

    def spans(name: str) -> list[dict[str, Any]]:
        lines = file.read_text().splitlines() if file.exists() else []
        return [span for span in map(json.loads, lines) if span["name"] == name]

    options = {"env": {"TEST_SPANS": str(file)}, "tasklocks_tracing": True, "concurrency": 1}
    with worker("tests.apps.traced", broker=redis_database, backend=redis_database, locks=locks, **options) as running:
        with Lock("import-a", backend=locks):
            result = running.tasks.imports.delay("a")
            assert eventually(lambda: len(spans("run/tests.apps.traced.imports")) >= 2, within=15)
        assert result.get(timeout=20) == "a"
        assert eventually(lambda: spans("hold import-{account}"), within=10)
    (hold,), (wait,) = spans("hold import-{account}"), spans("wait for import-{account}")
    run = spans("run/tests.apps.traced.imports")[-1]
    assert hold["parent_id"] == wait["parent_id"] == run["context"]["span_id"]
    assert hold["context"]["trace_id"] == run["context"]["trace_id"]
    assert run["start_time"] <= hold["start_time"] < hold["end_time"] <= run["end_time"]
    # It began in an earlier delivery.
    assert wait["start_time"] < run["start_time"]
    assert hold["attributes"]["tasklocks.limit"] == "import-a"
    assert hold["attributes"]["tasklocks.task_id"] == result.id
    assert hold["attributes"]["tasklocks.fencing_token"] > 0
