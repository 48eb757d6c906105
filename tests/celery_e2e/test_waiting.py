"""Waiting is not failing: what becomes of a busy task, for as long as its limit is busy."""

from __future__ import annotations

import time

import pytest
from celery import chord, group
from celery.exceptions import ChordError, TaskRevokedError

from tasklocks import LockBusy, LockTimeout, connect
from tests.processes import eventually

FAILING = ["failing", "failing_automatically"]


def test_fifty_waits_leave_a_task_its_three_retries(stage, limit):
    results = {name: _failing_after_waits(stage, f"{limit}-{name}", name, failures=3) for name in FAILING}
    for name, result in results.items():
        assert result.get(timeout=30) == 3
        assert _retries(stage, f"{limit}-{name}") == [0, 1, 2, 3]


def test_a_task_that_waited_fails_by_its_own_error_alone(stage, limit):
    results = {name: _failing_after_waits(stage, f"{limit}-{name}", name, failures=4, waits=5) for name in FAILING}
    for name, result in results.items():
        with pytest.raises(OSError, match="own error 3"):
            result.get(timeout=30)
        assert _retries(stage, f"{limit}-{name}") == [0, 1, 2, 3]


def test_each_of_a_tasks_own_retries_waits_again_with_a_bound_of_its_own(stage, limit):
    with stage.held(limit):
        result = stage.tasks.retrying_with_a_bound.delay(limit, limit)
        _wait_longer_than_half_the_bound(stage, result)
    stage.wait_for("attempt", limit)
    with stage.held(limit):
        _wait_longer_than_half_the_bound(stage, result)
    assert result.get(timeout=30) == "done"
    assert _retries(stage, limit) == [0, 1]


def test_the_bound_of_a_wait_counts_over_all_resends_and_from_the_first(stage, limit):
    with stage.held(limit):
        result = stage.tasks.patient_for_a_while.delay(limit)
        with pytest.raises(LockTimeout, match=rf"gave up after 0.5 s of waiting: limit '{limit}' .* is held by"):
            result.get(timeout=30)
    assert result.state == "FAILURE"
    assert stage.record.count("begin", limit) == 0
    marks = [message["headers"].get("tasklocks") for message in stage.record.facts("message", result.id)]
    assert marks[0] is None
    assert [mark["times"] for mark in marks[1:]] == list(range(1, len(marks)))
    assert len({mark["since"] for mark in marks[1:]}) == 1
    assert len(marks) > 2


def test_a_task_whose_limit_comes_free_in_time_runs_within_its_bound(stage, limit):
    with stage.held(limit):
        result = stage.tasks.patient_for_a_while.delay(limit)
        stage.wait_for_resend(result.id)
    assert result.get(timeout=30) == "ran"


def test_a_task_that_gave_up_calls_its_errback_once(stage, limit):
    with stage.held(limit):
        result = stage.tasks.patient_for_a_while.apply_async(
            (limit,), link_error=stage.tasks.note_error.s(key=limit).set(queue=stage.tasks.QUEUE)
        )
        with pytest.raises(LockTimeout):
            result.get(timeout=30)
        stage.wait_for("errback", limit)
    assert stage.record.count("errback", limit) == 1


def test_a_chord_of_which_a_member_gave_up_fails_once_and_says_why(stage, limit):
    with stage.held(limit):
        header = [stage.tasks.patient_for_a_while.s(limit), stage.tasks.see.s(f"{limit}-free")]
        body = chord(header)(stage.tasks.collect.s(key=limit))
        assert eventually(lambda: body.state == "FAILURE", within=20)
    assert isinstance(body.result, ChordError)
    assert "LockTimeout" in str(body.result)
    assert stage.record.count("collected", limit) == 0


def test_on_busy_wait_waits_in_the_worker_and_is_sent_once(stage, limit):
    with stage.held(limit):
        results = [stage.tasks.waiting.delay(limit, tag) for tag in "abc"]
        assert eventually(lambda: len(connect(stage.locks).inspect(limit).waiters) == 3, within=10)
        assert stage.record.count("begin", limit) == 0
    assert [result.get(timeout=30) for result in results] == ["a", "b", "c"]
    assert [stage.sent_again(result.id) for result in results] == [0, 0, 0]
    assert stage.record.most_at_once(limit) == 1


def test_on_busy_wait_ends_with_its_bound(stage, limit):
    with stage.held(limit):
        result = stage.tasks.waiting_briefly.delay(limit)
        with pytest.raises(LockTimeout, match=limit):
            result.get(timeout=30)
    assert stage.sent_again(result.id) == 0
    assert not connect(stage.locks).inspect(limit).waiters


def test_on_busy_raise_fails_at_once_and_names_the_holder(stage, limit):
    with stage.gate() as gate:
        holder = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        result = stage.tasks.raising.delay(limit)
        with pytest.raises(LockBusy, match=rf"limit '{limit}' .* is held by tests.apps.limits.until.{holder.id}"):
            result.get(timeout=30)
    assert not isinstance(result.result, LockTimeout)
    assert stage.sent_again(result.id) == 0


def test_on_busy_skip_ends_without_its_body_and_says_so(stage, limit):
    with stage.held(limit):
        result = stage.tasks.skipping.delay(limit)
        assert result.get(timeout=30) is None
    assert result.state == "SUCCESS"
    assert stage.record.count("begin", limit) == 0
    assert f"{result.id}] is skipped: limit '{limit}'" in stage.worker.log()
    assert eventually(lambda: stage.events_of(result.id, "task-lock-skipped"), within=10)
    assert stage.events_of(result.id, "task-lock-skipped")[0]["limit"] == limit


@pytest.mark.parametrize("name", ["waiting", "waiting_briefly", "raising", "skipping", "patient_for_a_while"])
def test_a_free_limit_runs_the_task_at_once_whatever_it_does_when_busy(name, stage, limit):
    result = getattr(stage.tasks, name).delay(limit)
    assert result.get(timeout=30) == "ran"
    assert stage.sent_again(result.id) == 0


def test_a_task_with_an_eta_runs_not_before_it_and_waits_after_it(stage, limit):
    with stage.held(limit):
        result = stage.tasks.see.apply_async((limit,), countdown=1)
        stage.wait_for_resend(result.id, 2)
    result.get(timeout=30)
    first, second, *_ = stage.record.facts("message", result.id)
    assert second["at"] - first["at"] > 0.9


def test_a_revoked_waiter_ends_and_those_behind_it_get_their_turn(stage, limit):
    with stage.held(limit):
        revoked, other = stage.tasks.see.delay(limit), stage.tasks.see.delay(limit)
        stage.wait_for_resend(revoked.id, 2)
        stage.wait_for_resend(other.id)
        revoked.revoke()
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=30)
        sent = stage.sent_again(revoked.id)
    assert other.get(timeout=30) == "()"
    assert stage.sent_again(revoked.id) == sent
    assert stage.record.count("seen", revoked.id) == 0


def test_a_terminated_waiter_in_the_worker_does_not_keep_the_permit(stage, limit):
    with stage.held(limit):
        revoked = stage.tasks.waiting.delay(limit)
        assert eventually(lambda: connect(stage.locks).inspect(limit).waiters, within=10)
        revoked.revoke(terminate=True, signal="SIGKILL")
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=30)
    assert stage.tasks.early.delay(limit).get(timeout=30) == "ran"
    assert stage.record.count("begin", limit) == 1


def test_inspect_answers_while_tasks_wait_and_shows_them(stage, limit):
    inspect = stage.worker.app.control.inspect(timeout=1, limit=1)
    with stage.held(limit):
        waiters = group(stage.tasks.see.s(limit) for _ in range(3))()
        for waiter in waiters:
            stage.wait_for_resend(waiter.id)
        assert eventually(lambda: _ids(inspect.scheduled()) & {waiter.id for waiter in waiters}, within=10)
        assert inspect.ping()
    waiters.get(timeout=30)


def _failing_after_waits(stage, limit, name, *, failures, waits=50):
    """Send a task, let it wait, then let it go; the task fails so many times then."""
    task = getattr(stage.tasks, name)
    with stage.held(limit):
        result = task.delay(limit, limit, failures)
        stage.wait_for_resend(result.id, waits)
        assert stage.record.count("attempt", limit) == 0
    return result


def _wait_longer_than_half_the_bound(stage, result):
    sent = stage.sent_again(result.id)
    began = time.monotonic()
    assert eventually(lambda: time.monotonic() - began > 1.1 and stage.sent_again(result.id) > sent + 2, within=20)


def _retries(stage, key):
    return [fact["retries"] for fact in stage.record.facts("attempt", key)]


def _ids(scheduled):
    return {entry["request"]["id"] for entries in (scheduled or {}).values() for entry in entries}
