"""Many rate-limited tasks at once: how evenly they start, what they cost, and what the workers hold of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.celery_e2e.conftest import Stage, broker_of, make_stage
from tests.celery_e2e.test_rates import most_in, starts, tags
from tests.celery_e2e.two_workers import held_by_workers, started_again
from tests.processes import eventually
from tests.workers import Worker

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

_OFTEN = {"visibility_timeout": 60, "unacked_restore_interval": 5, "unacked_restore_throttle": 1}


@pytest.fixture(params=["redis", "rabbitmq"])
def pair(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """One of two workers with two processes each."""
    options: dict[str, Any] = {"app": "tests.apps.rates", "locks": redis_url, "concurrency": 2}
    if request.param == "redis":
        options["broker_transport_options"] = _OFTEN
    with make_stage(broker_of(request, request.param), redis_url, tmp_path, **options) as made:
        yield made


def memory_of(worker: Worker) -> float:
    """The main process's memory, in megabytes."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def test_two_thousand_tasks_start_evenly_and_other_tasks_are_not_delayed(pair, second, limit):
    began = time.monotonic()
    for _ in range(2000):
        pair.tasks.paced_fast.delay(limit)
    sent = time.monotonic()
    pair.tasks.free.delay(f"{limit}-free").get(timeout=20)
    free = time.monotonic() - sent
    times = starts(pair, limit, 2000, within=60)
    messages = len(pair.record.facts_of("message")) - 1
    late = sorted(at - times[0] - number / 100 for number, at in enumerate(times))
    p99 = late[int(len(late) * 0.99)] - late[0]
    print(f"{times[-1] - began:.2f} s, {messages / 2000:.2f} messages, p99 {1000 * p99:.0f} ms, other {free:.2f} s")
    assert times[-1] - began <= 20 * 1.03 + 0.5
    assert messages <= 2.05 * 2000
    assert p99 < 0.1
    assert free < 2


def test_ten_thousand_tasks_are_not_in_the_workers_memory_and_survive_them(pair, second, limit):
    before = max(memory_of(pair.worker), memory_of(second))
    for number in range(10_000):
        pair.tasks.paced_for_long.delay(limit, number)
    starts(pair, limit, 1500, within=120)
    held, memory = held_by_workers(pair), max(memory_of(pair.worker), memory_of(second))
    assert held < 50 * 30 * 1.5
    assert memory - before < 40
    pair.worker.kill()
    second.kill()
    time.sleep(2)
    with started_again(pair), started_again(pair):
        assert eventually(lambda: tags(pair, limit) == set(range(10_000)), within=400, every=2)
    times = starts(pair, limit, 10_000)
    print(f"held {held}, {memory - before:.0f} MB more, {len(times) - 10_000} ran twice, {times[-1] - times[0]:.0f} s")
    assert most_in(times, 1.0) <= 50 + 13 + 2
    assert most_in(times, 10.0) <= 500 + 13 + 2
