"""Celery events tell what happens to limits, through the worker's dispatcher, and only while somebody wants them."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from celery.events.state import State

from tests.celery_e2e.conftest import Stage, capturing
from tests.processes import eventually

# Prefork without admission is what the shared stages have.
WATCHED = [
    pytest.param({"tasklocks_admission": True}, id="prefork-admission"),
    pytest.param({"pool": "threads"}, id="threads", marks=pytest.mark.soak),
    pytest.param({"pool": "gevent"}, id="gevent"),
    pytest.param({"pool": "solo"}, id="solo", marks=pytest.mark.soak),
]


@pytest.fixture(params=WATCHED)
def watched(
    request: pytest.FixtureRequest, new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str
) -> Iterator[Stage]:
    """A worker whose events are enabled from its start, with each pool."""
    with new_stage(redis_database, args=["-E"], **request.param) as stage, capturing(stage):
        yield stage


def locks(stage: Stage, task_id: str) -> list[str]:
    """The kinds of lock events of a task, oldest first."""
    events = sorted(stage.events_of(task_id, "task-lock-"), key=lambda event: event["timestamp"])
    return [event["type"].removeprefix("task-lock-") for event in events]


def test_a_task_that_waited_is_told_of_with_names_and_waits(stage: Stage, limit: str) -> None:
    with stage.held(limit):
        result = stage.tasks.see.delay(limit, secret := secrets.token_hex(8))
        stage.wait_for_resend(result.id)
        assert eventually(lambda: stage.events_of(result.id, "task-retried"), within=10)
    result.get(timeout=20)
    assert eventually(lambda: stage.events_of(result.id, "task-succeeded"), within=10)
    assert locks(stage, result.id)[-2:] == ["acquired", "released"]
    assert set(locks(stage, result.id)[:-2]) == {"waiting"}
    events = stage.events_of(result.id, "task-lock-")
    assert all((event["limit"], event["template"]) == (limit, "{limit}") for event in events)
    assert all(event["name"] == "tests.apps.limits.see" for event in events)
    assert secret not in repr(events)
    waiting, acquired = events[0], next(event for event in events if event["type"] == "task-lock-acquired")
    assert waiting["place"] == 0
    assert f"limit '{limit}' (capacity 1) is held by" in waiting["reason"]
    assert 0 < acquired["waited"] < 20
    assert acquired["token"] > 0


def test_celerys_state_and_flower_take_the_events(stage: Stage, limit: str) -> None:
    state = State()
    with stage.held(limit):
        result = stage.tasks.see.delay(limit)
        stage.wait_for_resend(result.id)
        assert eventually(lambda: stage.events_of(result.id, "task-retried"), within=10)
        # Whatever else it says, a task that waits is in state RETRY.
        state_of(stage, state, result.id, until="task-retried")
        assert state.tasks[result.id].state == "RETRY"
    result.get(timeout=20)
    assert eventually(lambda: stage.events_of(result.id, "task-succeeded"), within=10)
    state_of(stage, state, result.id)
    task = state.tasks[result.id]
    assert task.state == "SUCCESS"
    assert task.name == "tests.apps.limits.see"
    assert task.worker.hostname == stage.events_of(result.id, "task-lock-acquired")[0]["hostname"]


def state_of(stage: Stage, state: State, task_id: str, until: str = "") -> None:
    """Let `state` hear what was sent about a task, in order, up to the first event of that type."""
    for event in stage.events_of(task_id):
        state.event(dict(event))
        if event["type"] == until:
            return


def test_every_pool_sends_them(watched: Stage, limit: str) -> None:
    with watched.held(limit):
        skipped = watched.tasks.skipping.delay(limit)
        assert eventually(lambda: locks(watched, skipped.id) == ["skipped"], within=10), watched.events
    ran = watched.tasks.see.delay(limit)
    ran.get(timeout=20)
    assert eventually(lambda: locks(watched, ran.id) == ["acquired", "released"], within=10), watched.events
    assert watched.events_of(ran.id, "task-lock-released")[0]["held"] >= 0


@pytest.mark.parametrize("watched", WATCHED[:1], indirect=True)
def test_a_worker_that_stops_sends_what_its_last_tasks_say(watched: Stage, limit: str) -> None:
    with watched.gate() as gate:
        last = watched.tasks.until.delay(limit, gate)
        watched.wait_for("begin", limit)
        watched.worker.process.send(signal.SIGTERM)
        watched.worker.wait_for("Warm shutdown")
    watched.worker.process.wait(20)
    assert eventually(lambda: locks(watched, last.id) == ["acquired", "released"], within=5), watched.events


def test_nothing_is_sent_until_events_are_enabled_nor_after_they_are_disabled(
    new_stage: Callable[..., AbstractContextManager[Stage]], redis_database: str
) -> None:
    with new_stage(redis_database) as stage, capturing(stage):
        control = stage.worker.app.control

        def run(limit: str) -> str:
            result = stage.tasks.see.delay(limit)
            result.get(timeout=20)
            return result.id

        def watched(wanted: bool) -> bool:
            # In the process that runs a task.
            return eventually(lambda: stage.tasks.is_watched.delay().get(timeout=10) == wanted, within=10)

        before = run("before")
        control.enable_events(reply=True)
        assert watched(True)
        heard = run("between")
        control.disable_events(reply=True)
        assert watched(False)
        after = run("after")
        control.enable_events(reply=True)
        assert watched(True)
        # They come in order: with its events, those of earlier tasks would be here.
        last = run("last")
        assert eventually(lambda: locks(stage, last) == ["acquired", "released"], within=10)
        assert locks(stage, heard) == ["acquired", "released"]
        assert locks(stage, before) == locks(stage, after) == []
