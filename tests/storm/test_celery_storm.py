"""Workers killed, frozen and cut off: every task runs as often as Celery promises, and never beside another one."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from kombu import Connection

from tasklocks import connect
from tests.celery_e2e.conftest import REDELIVERY, broker_of
from tests.conftest import BROKERS, empty_redis_database
from tests.processes import eventually
from tests.relay import Relay
from tests.storm.checker import check
from tests.storm.records import Journal, Record, read
from tests.storm.weather import Weather, holder_in
from tests.workers import Settings, Worker, settings, start_worker

WORKERS = 2
TRANSPORT = {
    # A worker that is killed while it puts messages back leaves a mark that keeps others from it, for 5 minutes unless
    # told otherwise.
    "redis": {**REDELIVERY["redis"], "unacked_mutex_expire": 3},
    # Without a confirmation, what is published just before a cut is lost, and what it was made from is acknowledged.
    "rabbitmq": {"confirm_publish": True},
}
SHORT = 5.0
LONG = 150.0
soak = pytest.mark.soak


class Crew:
    """Workers on one queue; one that is killed, or ends by itself, has a successor."""

    def __init__(self, chosen: Settings, journal: Path, relay: Relay) -> None:
        self.chosen = chosen
        self.relay = relay
        self.tasks = chosen.load()
        self.path = journal
        self.journal = Journal(journal)
        self.workers: dict[int, Worker] = {}
        self.lost_workers = 0
        self.mend()

    def mend(self) -> None:
        """Start what is missing, as an init system does."""
        self.workers = {pid: each for pid, each in self.workers.items() if each.process.running}
        while len(self.workers) < WORKERS:
            self.relay.let_go()
            started = start_worker(self.chosen, tasks=self.tasks)
            self.workers[started.pid] = started

    def pids(self) -> list[int]:
        return [pid for each in self.workers.values() for pid in (each.pid, *_children(each))]

    def kill(self, pid: int) -> None:
        """Kill a whole worker, or one of its pool's processes."""
        if pid not in self.workers:
            self._signal(pid, signal.SIGKILL)
            self.journal.killed(pid)
            return
        dead = self.workers.pop(pid)
        children = _children(dead)
        dead.kill()
        self.lost_workers += 1
        for each in children:
            self.journal.killed(each)
        self.mend()

    def freeze(self, pid: int) -> None:
        self.workers[pid].pause() if pid in self.workers else self._signal(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        self.workers[pid].resume() if pid in self.workers else self._signal(pid, signal.SIGCONT)

    def records(self) -> list[Record]:
        """Read what was noted; who is not there any more is gone, also if its worker ended by itself."""
        for pid in {each.pid for each in read(self.path)} - set(self.pids()):
            self.journal.killed(pid)
        return read(self.path)

    def close(self) -> None:
        for each in self.workers.values():
            each.kill()
        self.tasks.app.close()
        self.journal.close()

    def _signal(self, pid: int, number: int) -> None:
        # The process of a pool may be gone by now, its worker with it.
        if pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(worker: Worker) -> list[int]:
    with suppress(FileNotFoundError):
        return worker.children
    return []


class Producer:
    """Sends tasks at a steady pace until it is told to stop; the broker is never cut off from it."""

    def __init__(self, crew: Crew, kind: str, broker: str) -> None:
        self.sent = 0
        self._tasks = itertools.cycle(crew.tasks.TASKS[kind])
        self._broker = broker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Connection(self._broker) as connection:
            while not self._stop.wait(0.15):
                # Now and then one outlasts its first deadline, and the time after which Redis delivers again.
                seconds = 3.0 if self.sent % 20 == 5 else random.uniform(0.01, 0.15)
                options = {"connection": connection, "ignore_result": True, "task_id": f"task-{self.sent}"}
                next(self._tasks).apply_async((self.sent, seconds), **options)
                self.sent += 1


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("admission", [False, True], ids=["body", "admission"])
@pytest.mark.parametrize(
    ("broker", "seconds"), [("redis", SHORT), *(pytest.param(broker, LONG, marks=soak) for broker in BROKERS)]
)
def test_in_a_storm_each_task_with_late_acknowledgement_is_done_at_least_once(
    broker, seconds, admission, request, tmp_path
):
    url = broker_of(request, broker)
    with _crew(request, url, tmp_path, TRANSPORT[broker], admission) as (crew, relay):
        # Redis hands a message over without waiting for a word: cut off at that moment, Celery loses it on its way.
        sent = _storm(crew, [] if broker == "redis" else [relay], "late", url, seconds)
        notes = tmp_path / "notes"
        eventually(lambda: crew.mend() or len(_numbers(notes, "done")) == sent, within=20 + seconds / 2, every=0.5)
        lost = set(map(str, range(sent))) - _numbers(notes, "done").keys()
        # Nor does Redis wait for a worker that is killed while it is being handed a message.
        assert len(lost) <= (crew.lost_workers if broker == "redis" else 0), f"never done: {lost}, {_left(url)}"
        _judge(crew, notes, sent)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("seconds", "admission"),
    [(SHORT, False), pytest.param(LONG, False, marks=soak), pytest.param(LONG, True, marks=soak)],
)
def test_in_a_storm_each_task_with_early_acknowledgement_runs_at_most_once(seconds, admission, request, tmp_path):
    url = broker_of(request, "redis")
    with _crew(request, url, tmp_path, {}, admission) as (crew, _):
        # Cut off before its early acknowledgement, Celery takes a message again that it has started already.
        sent = _storm(crew, [], "early", url, seconds)
        notes = tmp_path / "notes"
        _until_quiet(notes)
        _judge(crew, notes, sent)
        twice = [number for number, times in _numbers(notes, "began").items() if times > 1]
        assert not twice


@contextmanager
def _crew(
    request: pytest.FixtureRequest, broker: str, folder: Path, transport: dict, admission: bool
) -> Iterator[tuple[Crew, Relay]]:
    redis_url = request.getfixturevalue("redis_url")
    with Relay(urlsplit(broker).port) as relay, ExitStack() as stack:
        env = {"TEST_RECORD": str(folder / "notes"), "TEST_LEASES": str(folder / "leases")}
        conf = {"broker_transport_options": transport, "worker_prefetch_multiplier": 1}
        conf["tasklocks_admission"] = admission
        way = broker.replace(f":{urlsplit(broker).port}/", f":{relay.port}/")
        urls = {"broker": way, "backend": redis_url, "locks": empty_redis_database(redis_url)}
        crew = Crew(settings("tests.apps.storm", env=env, **urls, **conf), folder / "leases", relay)
        stack.callback(crew.close)
        yield crew, relay


def _storm(crew: Crew, relays: list[Relay], kind: str, broker: str, seconds: float) -> int:
    """Let it blow while tasks are sent; return how many were."""
    random.seed(time.time_ns())
    ttl = crew.tasks.TTL
    holder = lambda: holder_in(crew.path)  # noqa: E731
    weather = Weather(crew.pids, crew.kill, crew.freeze, crew.thaw, relays, holder, ttl)
    with Producer(crew, kind, broker) as producer:
        weather.blow(seconds)
    crew.mend()
    print(f"\n{kind}: {producer.sent} sent, {Counter(weather.happened)}")
    return producer.sent


def _left(broker: str) -> str:
    if not broker.startswith("redis"):
        return ""
    with redis.Redis.from_url(broker) as client:
        return f"{client.hlen('unacked')} unacknowledged, keys: {client.keys()[:20]}"


def _numbers(notes: Path, kind: str) -> Counter[str]:
    facts = map(json.loads, notes.read_text().splitlines())
    return Counter(fact["key"] for fact in facts if fact["kind"] == kind)


def _until_quiet(notes: Path) -> None:
    """Wait until nothing has begun or ended for a while; what a killed worker had taken is lost."""
    seen = -1
    while seen != (seen := notes.stat().st_size):
        time.sleep(4.0)


def _judge(crew: Crew, notes: Path, sent: int) -> None:
    verdict = check(crew.records(), crew.tasks.CAPACITIES, watched=True)
    began, done = _numbers(notes, "began"), _numbers(notes, "done")
    print(f"{len(began)} began, {len(done)} done, {began.total() - len(began)} times again\n{verdict}")
    assert not verdict.complaints, "\n".join(verdict.complaints[:5])
    assert verdict.killed, verdict
    # With admission a frozen process keeps its lease: the main process renews it.
    assert verdict.lapsed or crew.tasks.app.conf.tasklocks_admission, verdict
    assert len(done) > sent / 2
    backend = connect(crew.chosen.environ["TASKLOCKS_URL"])
    free = lambda: not any(backend.inspect(name).holders for name in crew.tasks.CAPACITIES)  # noqa: E731
    assert eventually(free, within=crew.tasks.TTL + 1)
    backend.close()
