"""What an operator sees of real workers: on the command line, and by Celery's own `inspect`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.celery_e2e.conftest import Stage
from tests.processes import ROOT, eventually


def celery(stage: Stage, *words: str) -> Any:
    """Run a `celery` command of the stage's app that answers in JSON."""
    command = [sys.executable, "-m", "celery", "-A", stage.worker.settings.app, *words, "--json"]
    env = {**os.environ, **stage.worker.settings.environ, "TEST_RECORD": str(stage.record.path), "C_FORCE_ROOT": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_an_operator_learns_why_a_task_waits_and_who_holds(stage, limit):
    with stage.gate() as gate:
        holder = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        waiter = stage.tasks.until.delay(limit, gate)
        stage.wait_for_resend(waiter.id)
        (answer,) = celery(stage, "limits", "why", waiter.id)
        assert (answer["limit"], answer["does"]) == (limit, "waits")
        assert f"held by tests.apps.limits.until[{holder.id}] on " in answer["sentence"]
        (shown,) = celery(stage, "limits", "show", limit)["limit"]["holders"]
        assert int(shown["who"]["pid"]) in stage.worker.children
    assert waiter.get(timeout=30) > holder.get(timeout=30)


def test_a_task_whose_lease_an_operator_releases_is_told(stage, limit):
    with stage.gate() as gate:
        result = stage.tasks.brief_until.delay(limit, gate)
        stage.wait_for("begin", limit)
        (released,) = celery(stage, "limits", "release", limit, "--holder", result.id, "--yes")["released"]
        assert released["who"]["id"] == result.id
        assert eventually(lambda: result.state == "FAILURE", within=15)
    with pytest.raises(Exception, match="is lost"):
        result.get(timeout=30)


def test_every_worker_tells_which_limits_its_processes_hold_without_asking_the_backend(stage, limit):
    with stage.gate() as gate:
        holder = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        waiter = stage.tasks.waiting_until.delay(limit, gate)
        assert eventually(lambda: len(_told(stage, limit)) == 2, within=30), _told(stage, limit)
        assert {row["task"] for row in _told(stage, limit)} == {holder.id, waiter.id}
        assert {row["pid"] for row in _told(stage, limit)} <= set(stage.worker.children)
    waiter.get(timeout=30)
    assert eventually(lambda: _told(stage, limit) == [], within=30)


def test_a_worker_with_threads_tells_it_too(new_stage, redis_database, limit):
    with new_stage(redis_database, pool="threads") as stage, stage.gate() as gate:
        holder = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        assert _told(stage, limit) == [{"limit": limit, "task": holder.id, "pid": stage.worker.pid}]


def _told(stage: Stage, limit: str) -> list[dict[str, Any]]:
    answers = stage.worker.app.control.inspect(timeout=5)._request("limits") or {}
    return [row for rows in answers.values() for row in rows if row["limit"] == limit]
