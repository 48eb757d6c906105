"""A worker serves figures of its limits, for all processes of its pool, by template and never by key."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tasklocks.celery.marks import limits_of
from tests.celery_e2e.conftest import Stage
from tests.processes import ROOT, eventually
from tests.workers import settings, start_worker

TEMPLATE = "{limit}"
KINDS = {
    "prefork": {"tasklocks_admission": False},
    "prefork-admission": {"tasklocks_admission": True},
    "threads": {"pool": "threads"},
}


@pytest.fixture(params=KINDS)
def measured(
    request: pytest.FixtureRequest, new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str
) -> Iterator[Stage]:
    """A worker that serves metrics on a port of the system's choice."""
    with new_stage(redis_database, tasklocks_metrics_port=0, **KINDS[request.param]) as stage:
        yield stage


def scraped(stage: Stage) -> dict[str, dict[str, float]]:
    """What the worker says now: by metric, by limit (and the bucket's bound)."""
    address = re.search(r"metrics are at (http://127\.0\.0\.1:\d+/metrics)", stage.worker.log())
    assert address, stage.worker.log()
    with urllib.request.urlopen(address[1], timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    figures: dict[str, dict[str, float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name.startswith("tasklocks_") and sample.labels.get("le", "+Inf") == "+Inf":
            figures.setdefault(sample.name, {})[sample.labels["limit"]] = sample.value
    return figures


def eventually_scraped(stage: Stage, name: str, value: float) -> bool:
    return eventually(lambda: scraped(stage).get(name, {}).get(TEMPLATE) == value, within=10, every=0.2)


def test_a_worker_counts_what_its_pool_does(measured: Stage, limit: str) -> None:
    for account in range(30):
        measured.tasks.see.delay(f"{limit}-{account}").get(timeout=20)
    with measured.held(limit):
        measured.tasks.skipping.delay(limit).get(timeout=20)
    with measured.gate() as gate:
        holder = measured.tasks.until.delay(limit, gate)
        measured.wait_for("begin", limit)
        assert eventually_scraped(measured, "tasklocks_held", 1)
    holder.get(timeout=20)
    assert eventually_scraped(measured, "tasklocks_held", 0)
    assert eventually_scraped(measured, "tasklocks_hold_seconds_count", 31)
    figures = scraped(measured)
    # Other tests of this process have shared tasks of their own.
    known = [task for task in measured.worker.app.tasks.values() if task.__module__.startswith("tests.apps.")]
    templates = {spec.template for task in known for spec in limits_of(task)}
    assert {label for by_limit in figures.values() for label in by_limit} == templates
    assert figures["tasklocks_wait_seconds_count"][TEMPLATE] == 31
    assert figures["tasklocks_capacity"][TEMPLATE] == 1
    assert figures["tasklocks_skipped_total"][TEMPLATE] == 1
    assert figures["tasklocks_busy_total"][TEMPLATE] == 1
    # A series that is not there before its first 1 raises no alarm at it.
    assert figures["tasklocks_lost_total"][TEMPLATE] == 0


def test_what_a_killed_process_held_counts_no_more_and_what_it_did_still_does(
    new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str, limit: str
) -> None:
    with new_stage(redis_database, tasklocks_metrics_port=0, concurrency=1) as stage, stage.gate() as gate:
        stage.tasks.until.delay(limit, gate)
        (begun,) = stage.wait_for("begin", limit)
        assert eventually_scraped(stage, "tasklocks_held", 1)
        stage.worker.kill_child(begun["pid"])
        assert eventually_scraped(stage, "tasklocks_held", 0)
        assert scraped(stage)["tasklocks_wait_seconds_count"][TEMPLATE] == 1


def test_every_figure_of_the_dashboard_and_the_alarms_is_served(measured_names: set[str]) -> None:
    examples = ROOT / "examples" / "grafana"
    dashboard = json.loads((examples / "tasklocks.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    groups = yaml.safe_load((examples / "alerts.yml").read_text())["groups"]
    queries += [rule["expr"] for group in groups for rule in group["rules"]]
    asked = {name for query in queries for name in re.findall(r"\btasklocks_\w+", query)}
    assert len(queries) >= 10
    assert asked <= measured_names
    assert {figure(name) for name in measured_names} == {figure(name) for name in asked}, "no panel shows all"


def figure(series: str) -> str:
    """The metric of a series."""
    return re.sub(r"_(bucket|sum|count)$", "", series)


@pytest.fixture
def measured_names(
    new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str, limit: str
) -> set[str]:
    """The names of all series that a worker serves which ran one task."""
    with new_stage(redis_database, tasklocks_metrics_port=0, concurrency=1) as stage:
        stage.tasks.see.delay(limit).get(timeout=20)
        assert eventually_scraped(stage, "tasklocks_hold_seconds_count", 1)
        address = re.search(r"metrics are at (\S+)", stage.worker.log())[1]
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
    return {name for name in re.findall(r"^(tasklocks_\w+)", text, re.M) if not name.endswith("_created")}


def test_a_port_in_use_costs_the_figures_and_not_the_work(
    new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str, limit: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with new_stage(redis_database, tasklocks_metrics_port=port, concurrency=1) as stage:
            stage.worker.wait_for(f"no metrics: 127.0.0.1 port {port} cannot be used")
            assert stage.tasks.see.delay(limit).get(timeout=20)


def test_a_port_that_is_none_stops_the_worker_with_its_setting(redis_database: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"env": {"TEST_RECORD": str(tmp_path / "record")}, "tasklocks_metrics_port": "9808"}
    chosen["env"]["C_FORCE_ROOT"] = "1"
    with pytest.raises(RuntimeError, match="tasklocks_metrics_port must be a port"):
        start_worker(settings("tests.apps.limits", broker=redis_database, backend=redis_database, **chosen))
