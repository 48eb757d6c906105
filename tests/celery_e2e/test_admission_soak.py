"""Admission under load while something breaks: a backend that is away for a minute, workers that are killed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.celery_e2e.conftest import Stage, broker_of, make_stage, new_locks
from tests.celery_e2e.test_admission import most_at_once_of_the_living
from tests.celery_e2e.two_workers import started_again
from tests.conftest import BROKERS, empty_redis_database
from tests.processes import eventually
from tests.servers import RedisServer

ADMISSION = {"tasklocks_admission": True}
OFTEN = {"visibility_timeout": 30, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}

ENDS: dict[str, tuple[Callable[[RedisServer], object], Callable[[RedisServer], object]]] = {
    "it stops": (RedisServer.pause, RedisServer.resume),
    "it is killed": (RedisServer.kill, RedisServer.start),
}
# How long, and how late the event loop may be, in seconds. The bound that is promised is for a machine of one's own.
AWAY = [(3.0, 1.0), pytest.param((60.0, 0.1), marks=[pytest.mark.soak, pytest.mark.timeout(300)])]


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.soak)])
@pytest.mark.parametrize("away", AWAY, ids=lambda pair: f"{pair[0]:g}s")
@pytest.mark.parametrize("end", ENDS)
def test_a_backend_that_is_away_loses_no_task_and_never_holds_up_the_loop(redis_url, tmp_path, limit, end, away, pool):
    lose, bring_back = ENDS[end]
    seconds, late = away
    with RedisServer(tmp_path / "locks") as server, stage_of(redis_url, tmp_path, server.url, pool) as stage:
        assert stage.tasks.early.delay(limit).get(timeout=20) == "ran"
        with Pulse() as pulse:
            begun = len(late_by(stage))
            results = send_for(stage, limit, 1.0)
            lose(server)
            results += send_for(stage, limit, seconds)
            bring_back(server)
            results += send_for(stage, limit, 1.0)
            for limited, free in results:
                assert free.get(timeout=60) == "free"
                assert limited.get(timeout=120) == "ran"
        loop = max(late_by(stage)[begun:], default=0.0)
        print(f"{end}: {len(results)} each, loop late by {1000 * loop:.0f} ms, others by {1000 * pulse.late:.0f} ms")
        assert stage.record.most_at_once(limit) == 1
        assert len(stage.record.facts("begin", limit)) == len(results) + 1
        assert loop < late + 2 * pulse.late
        # A full collection of a worker with a thousand messages takes 0.1 s, most of it for what was there before them.
        assert stage.record.facts("passed over", "loop")[0]["objects"] > 10_000


class Pulse:
    """How late others are on this machine meanwhile: a thread that sleeps as long as the loop's timer."""

    def __init__(self) -> None:
        self.late = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + 0.02
        while not self._stop.wait(0.02):
            now = time.monotonic()
            self.late, due = max(self.late, now - due), now + 0.02


def stage_of(redis_url: str, folder: Path, locks: str, pool: str) -> AbstractContextManager[Stage]:
    broker = empty_redis_database(redis_url)
    return make_stage(broker, redis_url, folder, locks=locks, pool=pool, env={"TEST_LOOP": "1"}, **ADMISSION)


def send_for(stage: Stage, limit: str, seconds: float) -> list:
    """Send a limited and a free task, twenty times a second, for so long; return their results."""
    until, sent = time.monotonic() + seconds, []
    for number in itertools.count(1):
        sent.append((stage.tasks.early.delay(limit, 0.01), stage.tasks.collect.delay("free")))
        time.sleep(max(0.0, until - seconds + number / 20 - time.monotonic()))
        if time.monotonic() >= until:
            return sent
    raise AssertionError


def late_by(stage: Stage) -> list[float]:
    return [fact["seconds"] for fact in stage.record.facts("late", "loop")]


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", BROKERS)
def test_five_hundred_messages_that_killed_workers_held_all_run_and_nothing_twice_at_once(
    request, redis_url, tmp_path, limit, broker
):
    conf = {"broker_transport_options": OFTEN} if broker == "redis" else {}
    locks = new_locks("redis", tmp_path, redis_url)
    url = broker_of(request, broker)
    # Late, so that also those run again that ran when their worker was killed.
    with make_stage(url, redis_url, tmp_path, locks=locks, task_acks_late=True, **conf, **ADMISSION) as stage:
        with started_again(stage) as other:
            with stage.held(limit):
                results = [stage.tasks.early.delay(limit, 0.02) for _ in range(500)]
                assert eventually(lambda: len(stage.record.facts_of("message")) >= 500, within=30)
            stage.wait_for("begin", limit, times=5)
            stage.worker.kill()
            other.kill()
        ran = stage.record.count("end", limit)
        with started_again(stage), started_again(stage):
            assert eventually(lambda: all(result.ready() for result in results), within=180, every=1)
    print(
        f"{ran} had run, {len(stage.record.facts_of('message'))} messages, {stage.record.count('begin', limit)} began"
    )
    assert [result.get(timeout=1) for result in results] == ["ran"] * 500
    assert most_at_once_of_the_living(stage, limit) == 1
