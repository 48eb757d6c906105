"""`map`, `starmap` and `chunks`: one message with many items, each of which takes its own lease and waits in place."""

from __future__ import annotations

from itertools import chain

import pytest
from celery import group

from tasklocks import LockBusy, LockTimeout
from tests.processes import eventually

ITEMS = 20
SQUARES = [number * number for number in range(ITEMS)]


def test_starmap_waits_in_place_and_runs_each_item_once(stage, limit):
    mapped = stage.tasks.item.starmap([(limit, number) for number in range(ITEMS)])
    assert _busy_in_the_middle(stage, limit, mapped) == SQUARES
    assert _numbers(stage, limit) == list(range(ITEMS))


def test_map_waits_in_place_and_runs_each_item_once(stage):
    mapped = stage.tasks.single_item.map(range(ITEMS))
    assert _busy_in_the_middle(stage, "one-item", mapped) == SQUARES
    assert _numbers(stage, "one-item") == list(range(ITEMS))


def test_chunks_side_by_side_never_overlap_and_run_each_item_once(stage, limit):
    chunks = stage.tasks.item.chunks([(limit, number) for number in range(ITEMS)], 5).group()
    with stage.held(limit):
        result = chunks.apply_async()
        assert not eventually(result.ready, within=0.3)
    assert [*chain.from_iterable(result.get(timeout=30))] == SQUARES
    assert sorted(_numbers(stage, limit)) == list(range(ITEMS))
    assert stage.record.most_at_once(limit) == 1


def test_maps_in_a_group_exclude_each_other(stage, limit):
    maps = group(stage.tasks.item.starmap([(limit, number) for number in range(5)]) for _ in range(3))
    assert maps().get(timeout=30) == [SQUARES[:5]] * 3
    assert stage.record.count("begin", limit) == 15
    assert stage.record.most_at_once(limit) == 1


def test_a_skipped_item_of_a_map_gives_none_in_its_place(stage, limit):
    with stage.held(limit):
        mapped = stage.tasks.skipping.starmap([(limit,), (f"{limit}-free",)])
        assert mapped.delay().get(timeout=30) == [None, "ran"]


def test_a_busy_item_that_does_not_wait_fails_the_map(stage, limit):
    with stage.held(limit), pytest.raises(LockBusy, match=limit):
        stage.tasks.raising.map([limit]).delay().get(timeout=30)


def test_an_item_that_waits_beyond_its_bound_fails_the_map(stage, limit):
    with stage.held(limit), pytest.raises(LockTimeout, match=limit):
        stage.tasks.patient_for_a_while.map([limit]).delay().get(timeout=30)


def _busy_in_the_middle(stage, limit, mapped):
    """Run a map whose limit is taken away between two of its items; return what it returns."""
    result = mapped.delay()
    stage.wait_for("begin", limit, times=2)
    with stage.held(limit):
        done = stage.record.count("begin", limit)
        assert done < ITEMS
        assert not eventually(lambda: stage.record.count("begin", limit) > done, within=0.3)
    return result.get(timeout=30)


def _numbers(stage, limit):
    return [fact["tag"] for fact in stage.record.facts("begin", limit)]
