"""With admission, tasks start in the order in which their messages came, over all workers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks.admission import tau
from tests.celery_e2e.conftest import Stage, broker_of, make_stage
from tests.celery_e2e.two_workers import started_again
from tests.processes import eventually

FIRST, ALL = 20, 40


@pytest.mark.parametrize("locks", ["sqlite", "mongodb"])
def test_what_a_worker_holds_starts_before_what_another_one_has_fetched_since(
    request, new_backend_url, redis_url, tmp_path, limit, locks
):
    options = {"locks": new_backend_url(locks), "tasklocks_admission": True}
    with make_stage(broker_of(request, "redis"), redis_url, tmp_path, **options) as stage:
        with ExitStack() as other:
            with stage.held(limit):
                results = sent(stage, limit, range(FIRST))
                other.enter_context(started_again(stage))
                results += sent(stage, limit, range(FIRST, ALL))
            assert sum(result.get(timeout=60) for result in results) == sum(number**2 for number in range(ALL))
        came = sorted(range(ALL), key=lambda number: stage.record.facts("message", results[number].id)[0]["at"])
        order = [came.index(fact["tag"]) for fact in stage.record.facts("begin", limit)]
        assert tau(order) >= 0.95, str(order)


def sent(stage: Stage, limit: str, numbers: range) -> list:
    """Send tasks, and wait until their messages have come."""
    results = [stage.tasks.item.delay(limit, number) for number in numbers]
    assert eventually(lambda: all(stage.record.count("message", each.id) for each in results), within=20)
    return results
