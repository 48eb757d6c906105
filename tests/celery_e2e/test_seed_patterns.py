"""The patterns of the issue, word for word: alone under contention, and inside a chain, a group and a chord.

Each canvas is run while its limit is busy, so that the canvas has to go on after a resend, or after a skip.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from celery import chain, chord, group

from tests.celery_e2e.conftest import Stage

RETRYING = {"one_at_a_time": ("lock-name", 1), "save_to_storage": ("save-to-storage-task", 10)}


@pytest.fixture(params=sorted(RETRYING))
def retrying(request, stage):
    """A task that is sent again when busy, and its limit with all its permits."""
    limit, capacity = RETRYING[request.param]
    return getattr(stage.tasks, request.param), {"limit": limit, "capacity": capacity, "permits": capacity}


def test_a_locked_task_without_bind_runs_one_at_a_time(stage):
    tags = _tags("one", 12)
    results = [stage.tasks.one_at_a_time.delay(tag) for tag in tags]
    assert [result.get(timeout=30) for result in results] == tags
    assert stage.record.most_at_once("lock-name") == 1
    assert _ran(stage, "lock-name", tags) == sorted(tags)


def test_a_bound_semaphore_task_never_runs_more_often_than_there_are_permits(stage):
    tags = _tags("two", 12)
    with stage.held("save-to-storage-task", capacity=10, permits=8):
        results = [stage.tasks.save_to_storage.delay(tag, hold=0.1) for tag in tags]
        assert [result.get(timeout=30) for result in results] == tags
        assert stage.record.most_at_once("save-to-storage-task") == 2
    assert _ran(stage, "save-to-storage-task", tags) == sorted(tags)


def test_a_locked_task_that_does_not_retry_runs_alone_or_is_skipped(stage):
    tags = _tags("three", 12)
    results = [stage.tasks.import_data.delay(tag, hold=0.1).get for tag in tags]
    answers = [get(timeout=30) for get in results]
    ran = [answer for answer in answers if answer is not None]
    assert ran
    assert None in answers
    assert _ran(stage, "import-data", tags) == sorted(ran)
    assert stage.record.most_at_once("import-data") == 1


def test_fencing_tokens_grow_from_run_to_run(stage):
    for tag in _tags("token", 4):
        stage.tasks.import_data.delay(tag).get(timeout=30)
    tokens = [fact["token"] for fact in stage.record.facts("begin", "import-data")]
    assert tokens == sorted(set(tokens))


def test_a_busy_task_inside_a_chain_hands_on_its_result(stage, retrying):
    task, limit = retrying
    with stage.held(**limit):
        last = chain(stage.tasks.collect.s("through"), task.s(), stage.tasks.collect.s())()
        stage.wait_for_resend(last.parent.id)
    assert last.get(timeout=30) == "through"


def test_a_busy_group_gives_its_results_in_order(stage, retrying):
    task, limit = retrying
    tags = _tags("group", 5)
    with stage.held(**limit):
        result = group(task.s(tag) for tag in tags)()
        for child in result:
            stage.wait_for_resend(child.id)
    assert result.get(timeout=30) == tags


def test_a_busy_chord_calls_its_body_once_with_all_results(stage, retrying, limit):
    task, held = retrying
    tags = _tags(limit, 5)
    with stage.held(**held):
        body = chord(task.s(tag) for tag in tags)(stage.tasks.collect.s(key=limit))
        for child in body.parent:
            stage.wait_for_resend(child.id)
    assert body.get(timeout=30) == tags
    assert stage.record.count("collected", limit) == 1


def test_a_chain_keeps_its_order_when_each_step_is_busy_in_turn(stage, limit):
    step = stage.tasks.step
    steps = [step.s(None, f"{limit}-a", "a"), step.s(f"{limit}-b", "b"), step.s(f"{limit}-c", "c")]
    with stage.held(f"{limit}-c"):
        with stage.held(f"{limit}-a"), stage.held(f"{limit}-b"):
            last = chain(steps)()
            stage.wait_for_resend(last.parent.parent.id)
        stage.wait_for_resend(last.id)
    assert last.get(timeout=30) == ["a", "b", "c"]


def test_a_busy_chord_inside_a_chain_comes_between_the_steps_around_it(stage, limit):
    step = stage.tasks.step
    with stage.held(limit):
        middle = group(step.s(limit, tag) for tag in "bcd")
        last = chain(step.s(None, f"{limit}-a", "a"), middle, step.s(f"{limit}-e", "e"))()
        for child in last.parent:
            stage.wait_for_resend(child.id)
    assert last.get(timeout=30) == [["a", "b"], ["a", "c"], ["a", "d"], "e"]
    assert stage.record.most_at_once(limit) == 1


def test_the_body_of_a_chord_may_be_busy_itself(stage, limit):
    step = stage.tasks.step
    with stage.held(f"{limit}-body"):
        body = chord([step.s(None, limit, "a"), step.s(None, limit, "b")])(step.s(f"{limit}-body", "end"))
        stage.wait_for_resend(body.id)
    assert body.get(timeout=30) == [["a"], ["b"], "end"]
    assert stage.record.count("begin", f"{limit}-body") == 1


def test_a_skipped_task_lets_its_chain_go_on_with_none(stage):
    with stage.held("import-data"):
        last = chain(stage.tasks.collect.s("x"), stage.tasks.import_data.s(), stage.tasks.collect.s())()
        assert last.get(timeout=30) is None
    assert last.successful()


def test_skipped_tasks_of_a_group_give_none(stage):
    with stage.held("import-data"):
        assert group(stage.tasks.import_data.s(tag) for tag in _tags("skip", 3))().get(timeout=30) == [None] * 3


def test_a_chord_over_skipped_and_other_tasks_calls_its_body_once_with_none_in_their_places(stage, limit):
    with stage.held("import-data"):
        header = [stage.tasks.import_data.s("x"), stage.tasks.collect.s("between"), stage.tasks.import_data.s("y")]
        body = chord(header)(stage.tasks.collect.s(key=limit))
        assert body.get(timeout=30) == [None, "between", None]
    assert stage.record.count("collected", limit) == 1


def _tags(word: str, count: int) -> list[str]:
    return [f"{word}-{number}" for number in range(count)]


def _ran(stage: Stage, key: str, tags: Iterable[str]) -> list[str]:
    return sorted(fact["tag"] for fact in stage.record.facts("begin", key) if fact["tag"] in set(tags))
