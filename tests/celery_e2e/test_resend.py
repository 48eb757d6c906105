"""A busy task that is sent again is the same task in every respect, only later.

The main process of the worker notes each message as it comes from the broker; a resend is compared with the original.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from tasklocks import LockBusy
from tests.celery_e2e.conftest import Stage
from tests.processes import eventually

OPTIONS = {
    "nothing in particular": {},
    "priority": {"priority": 7},
    "expiry": {"expires": 60},
    "time limits": {"time_limit": 50, "soft_time_limit": 40},
    "a soft limit alone": {"soft_time_limit": 40},
    "shadow name": {"shadow": "a name for people"},
    "stamps": {"stamped_headers": ["customer"], "customer": ["acme"]},
    "headers": {"headers": {"trace": "4bf92f35", "deep": {"list": [1, None]}}},
    "ignored result": {"ignore_result": True},
    "kept result": {"ignore_result": False},
    "pickle": {"serializer": "pickle", "kwargs": {"number": 1 + 2j, "things": {"a"}}},
    "gzip": {"compression": "gzip", "kwargs": {"text": "long " * 1000}},
    "pickle and gzip": {"serializer": "pickle", "compression": "gzip", "kwargs": {"number": 3j}},
    "transient delivery": {"delivery_mode": 1},
    "correlation and message id": {"correlation_id": "my-correlation", "message_id": "my-message"},
    "reply_to": {"reply_to": "my-mailbox"},
    "hidden arguments": {"argsrepr": "<args>", "kwargsrepr": "<kwargs>", "kwargs": {"password": "x"}},
    "an own retry before": {"retries": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_resend_keeps(options, stage, limit):
    _assert_kept(stage, limit, **options)


def test_a_resend_keeps_everything_at_once(stage, limit):
    every = {key: value for options in OPTIONS.values() for key, value in options.items()}
    _assert_kept(stage, limit, **every, link=stage.tasks.collect.s(), link_error=stage.tasks.note_error.s(key=limit))


def test_a_resend_goes_to_the_queue_that_the_caller_chose(stage, limit):
    first = _assert_kept(stage, limit, queue=stage.tasks.OTHER.name)
    assert first["delivery_info"]["routing_key"] in (stage.tasks.OTHER.name, "the.other.key")


def test_a_resend_goes_through_a_topic_exchange_with_the_same_key(stage, limit):
    first = _assert_kept(stage, limit, queue=stage.tasks.JOBS.name, routing_key="jobs.import.de")
    assert first["delivery_info"]["exchange"] == stage.tasks.TOPICS.name
    assert first["delivery_info"]["routing_key"] == "jobs.import.de"


def test_a_child_keeps_its_parent_and_root(stage, limit):
    with stage.held(limit):
        sent = stage.tasks.parent.delay(limit)
        child = sent.get(timeout=20)
        stage.wait_for_resend(child, 2)
    first = _assert_same(stage, child)
    assert first["headers"]["parent_id"] == first["headers"]["root_id"] == sent.id


def test_a_first_task_stays_without_a_parent(stage, limit):
    assert _assert_kept(stage, limit)["headers"]["parent_id"] is None


def test_a_task_that_replaced_another_keeps_its_nesting(stage, limit):
    with stage.held(limit):
        result = stage.tasks.replaced.delay(limit)
        stage.wait_for_resend(result.id, 3)
    assert result.get(timeout=20) == "()"
    first, *_ = _same_parts(stage, result.id)[1:]
    assert first["headers"]["replaced_task_nesting"] == 1
    assert all(later == first for later in _same_parts(stage, result.id)[1:])


def test_members_of_a_group_keep_group_and_index(stage, limit):
    with stage.held(limit):
        members = group(stage.tasks.see.s(limit) for _ in range(3))()
        for member in members:
            stage.wait_for_resend(member.id, 2)
    members.get(timeout=20)
    headers = [_assert_same(stage, member.id)["headers"] for member in members]
    assert [found["group_index"] for found in headers] == [0, 1, 2]
    assert {found["group"] for found in headers} == {members.id}


def test_members_of_a_chord_keep_the_chord_and_steps_of_a_chain_keep_what_follows(stage, limit):
    see, collect = stage.tasks.see, stage.tasks.collect
    with stage.held(limit):
        last = chain(see.si(limit), chord([see.si(f"{limit}-c"), collect.si(1)], collect.s()), collect.s())()
        first = _oldest(last)
        stage.wait_for_resend(first, 2)
    assert last.get(timeout=20) == ["()", 1]
    assert "chord" in _assert_same(stage, first)["payload"]


def test_callbacks_are_called_once_after_waits_and_errbacks_not_at_all(stage, limit):
    calls = {"link": stage.tasks.collect.s(key=limit), "link_error": stage.tasks.note_error.s(key=limit)}
    with stage.held(limit):
        sent = stage.tasks.see.apply_async((limit,), **calls)
        stage.wait_for_resend(sent.id, 3)
    sent.get(timeout=20)
    assert eventually(lambda: stage.record.count("collected", limit), within=10)
    assert stage.record.count("collected", limit) == 1
    assert stage.record.count("errback", limit) == 0


def test_a_task_that_waits_beyond_its_expiry_never_runs(stage, limit):
    with stage.held(limit):
        sent = stage.tasks.see.apply_async((limit,), expires=1)
        with pytest.raises(TaskRevokedError):
            sent.get(timeout=20)
    assert stage.record.count("seen", sent.id) == 0


def test_the_body_sees_its_own_headers_and_no_retries(stage, limit):
    sent = _send(stage, limit, headers={"mine": 1})
    [seen] = stage.record.facts("seen", sent)
    assert seen["request_headers"] == {"mine": 1}
    assert seen["request_retries"] == 0
    assert seen["request_properties"]["correlation_id"] == sent


def test_hidden_arguments_never_appear_in_logs_or_events(stage, limit):
    secret = secrets.token_hex(16)
    sent = _send(stage, limit, kwargs={"password": secret}, argsrepr="<hidden args>", kwargsrepr="<hidden kwargs>")
    assert secret in stage.record.facts("seen", sent)[0]["request_kwargs"].values()
    assert eventually(lambda: stage.events_of(sent, "task-succeeded"), within=10)
    assert {event["kwargs"] for event in stage.events_of(sent, "task-received")} == {"<hidden kwargs>"}
    assert secret not in repr(stage.events)
    assert secret not in stage.worker.log()


def test_the_state_of_a_waiting_task_is_retry_and_names_limit_and_holder(stage, limit):
    holder = stage.tasks.early.delay(limit, hold=1.5)
    assert eventually(lambda: stage.record.count("begin", limit), within=10)
    sent = stage.tasks.see.delay(limit)
    assert eventually(lambda: sent.state == "RETRY", within=10)
    assert isinstance(sent.info, LockBusy)
    _assert_readable(str(sent.info), limit, holder.id)
    sent.get(timeout=20)


def test_the_event_of_a_waiting_task_names_limit_and_holder(stage, limit):
    holder = stage.tasks.early.delay(limit, hold=1.0)
    assert eventually(lambda: stage.record.count("begin", limit), within=10)
    sent = stage.tasks.see.delay(limit)
    assert eventually(lambda: stage.events_of(sent.id, "task-retried"), within=10)
    _assert_readable(stage.events_of(sent.id, "task-retried")[0]["exception"], limit, holder.id)
    sent.get(timeout=20)


def _assert_readable(reason: str, limit: str, holder: str) -> None:
    assert f"limit {limit!r}" in reason.replace("\\'", "'")
    assert f"held by tests.apps.limits.early[{holder}]" in reason
    assert " since " in reason


def _send(stage: Stage, limit: str, **options: Any) -> str:
    """Send a task that is busy twice, let it run, and return its id."""
    with stage.held(limit):
        sent = stage.tasks.see.apply_async((limit,), **options)
        stage.wait_for_resend(sent.id, 2)
    assert eventually(lambda: stage.record.count("seen", sent.id), within=20)
    return sent.id


def _assert_kept(stage: Stage, limit: str, **options: Any) -> dict[str, Any]:
    return _assert_same(stage, _send(stage, limit, **options))


def _assert_same(stage: Stage, task_id: str) -> dict[str, Any]:
    """Insist that each resend equals the original, and return that."""
    first, *later = _same_parts(stage, task_id)
    assert later
    for message in later:
        assert message == first
    return first


def _same_parts(stage: Stage, task_id: str) -> list[dict[str, Any]]:
    return [_without_what_may_differ(fact) for fact in stage.record.facts("message", task_id)]


def _without_what_may_differ(fact: dict[str, Any]) -> dict[str, Any]:
    """The message but for its due time, our mark, who sent it, what the broker numbers, and the time left to live."""
    ours = ("eta", "tasklocks", "origin")
    theirs = ("delivery_tag", "application_headers", "delivery_info", "expiration", "origin", "argsrepr", "kwargsrepr")
    return {
        "headers": {key: value for key, value in fact["headers"].items() if key not in ours},
        "properties": {key: value for key, value in fact["properties"].items() if key not in theirs},
        "delivery_info": {key: fact["delivery_info"][key] for key in ("exchange", "routing_key")},
        "content": fact["content"],
        "payload": fact["payload"],
    }


def _oldest(result: Any) -> str:
    while result.parent is not None:
        result = result.parent
    return result.id
