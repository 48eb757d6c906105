"""What the lead costs a busy beat: sends for each second of processor time, beside the wrapped scheduler alone."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.beat import PersistentScheduler

from tasklocks.beat import LeaderScheduler

ENTRIES = 1000
ROUNDS = 5
SECONDS = 2.5


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_thousand_entries_each_second_cost_little_more_than_without_a_lead(redis_database, new_backend_url, tmp_path):
    locks = {"plain": None, "redis": new_backend_url("redis"), "sqlite": new_backend_url("sqlite")}
    rates: dict[str, list[float]] = {kind: [] for kind in locks}
    for _ in range(ROUNDS):
        for kind, url in locks.items():
            rates[kind].append(sends_per_second(redis_database, url, tmp_path / f"{kind}-{time.time_ns()}"))
    medians = {kind: statistics.median(found) for kind, found in rates.items()}
    ratios = {kind: medians[kind] / medians["plain"] for kind in ("redis", "sqlite")}
    print(f"\nsends per second of processor time: {medians}, of plain: {ratios}")
    assert min(ratios.values()) > 0.7, rates


def sends_per_second(broker: str, locks: str | None, file: Path) -> float:
    app = Celery("cost", broker=broker, set_as_current=False)
    app.conf.update(result_expires=0, task_default_queue="cost", tasklocks_url=locks)
    app.conf.beat_schedule = {
        f"entry-{n:04}": {"task": "cost.tick", "schedule": 1.0, "args": [n]} for n in range(ENTRIES)
    }
    beat: Any = (LeaderScheduler if locks else PersistentScheduler)(app=app, schedule_filename=str(file))
    while locks and not beat.schedule:
        beat.tick()
    with redis.Redis.from_url(broker) as client:
        client.delete("cost")
        began, end = time.process_time(), time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(max(beat.tick(), 0.0))
        rate = client.llen("cost") / (time.process_time() - began)
        client.delete("cost")
    beat.close()
    app.close()
    return rate
