"""However a task ends, its permit is free at once, and never while its body still runs.

With `TASKLOCKS_WRITE_DOCS=1` the matrix of endings and pools goes into `docs/endings.md`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import celery
import pytest
from celery.exceptions import WorkerLostError

from tasklocks import Lock, connect
from tests.celery_e2e.conftest import POOLS, STAGES, Stage, broker_of, make_stage, new_locks
from tests.processes import eventually

TTL = 8.0  # as in the app
AT_ONCE = 2.0  # seconds; far from the lease's ttl, also on a busy machine
PAGE = Path(__file__).parents[2] / "docs" / "endings.md"

START = "<!-- measured -->"

measured: dict[tuple[str, str], float] = {}


@dataclass
class Successor:
    """Somebody who waits for the limit, and notes when it was free."""

    stage: Stage
    limit: str
    freed_at: float = 0.0
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()
        assert eventually(lambda: self._lock._backend.inspect(self.limit).waiters, within=10)

    @property
    def _lock(self) -> Lock:
        return Lock(self.limit, ttl=TTL, backend=self.stage.locks)

    def _wait(self) -> None:
        with self._lock.acquire(timeout=2 * TTL):
            self.freed_at = time.monotonic()

    def freed(self) -> float:
        self.thread.join()
        return self.freed_at


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker of each pool."""
    broker, locks = STAGES[POOLS.index(request.param) % len(STAGES)]
    folder = tmp_path_factory.mktemp(f"endings-{request.param}")
    options = {"app": "tests.apps.endings", "pool": request.param, "locks": new_locks(locks, folder, redis_url)}
    with make_stage(broker_of(request, broker), redis_url, folder, **options) as made:
        made.kind = request.param
        yield made


@pytest.fixture(params=STAGES, ids="-".join)
def own(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A prefork worker that the test may do harm to."""
    broker, locks = request.param
    locks = new_locks(locks, tmp_path, redis_url)
    with make_stage(broker_of(request, broker), redis_url, tmp_path, app="tests.apps.endings", locks=locks) as made:
        made.kind = "prefork"
        yield made


BY_ITSELF = ["return", "error", "retry", "ignore", "reject", "replace"]


@pytest.mark.parametrize("ending", BY_ITSELF)
def test_a_task_that_ends_by_itself_frees_its_permit_at_once(pool, limit, ending):
    pool.tasks.work.delay(limit, ending)
    [ended] = pool.wait_for("end", limit)
    with Lock(limit, ttl=TTL, backend=pool.locks).acquire(timeout=2 * TTL):
        freed = time.monotonic() - ended["at"]
    _note(pool, ending, freed)
    assert freed < AT_ONCE


def _note(pool: Stage, ending: str, freed: float) -> None:
    measured[ending, pool.kind] = freed


# From here on a successor waits for the permit while the task runs.


def _ends(pool: Stage, limit: str, ending: str, end: Callable[[dict], None], what: str = "never", **options) -> float:
    """Run a task until `end` ends it; return for how long its permit was taken after its body had ended."""
    task_id = pool.tasks.work.apply_async((limit, what), **options).id
    [begun] = pool.wait_for("begin", limit)
    begun["id"] = task_id
    successor = Successor(pool, limit)
    end(begun)
    freed_at = successor.freed()
    ends = pool.record.facts("end", limit)
    freed = freed_at - (ends[0]["at"] if ends else begun.get("ended_at", freed_at))
    _note(pool, ending, freed)
    assert freed > -0.05, "freed while the body still ran"
    return freed


def _wait(_: dict) -> None:
    """It ends by a limit that is set already."""


def in_pools(*kinds: str) -> pytest.MarkDecorator:
    """The pools of which Celery offers this ending."""
    return pytest.mark.parametrize("pool", kinds, indirect=True)


@in_pools("prefork")
def test_a_soft_limit_frees_the_permit_at_once(pool, limit):
    assert _ends(pool, limit, "soft limit", _wait, soft_time_limit=1) < AT_ONCE


@in_pools("prefork", "gevent")
def test_a_hard_limit_frees_the_permit_when_the_body_has_ended(pool, limit):
    assert _ends(pool, limit, "hard limit", _wait, time_limit=1) < AT_ONCE


@in_pools("prefork")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGQUIT", "SIGUSR1"])
def test_a_revoked_task_frees_the_permit_when_its_body_has_ended(pool, limit, number):
    ended = _ends(pool, limit, f"revoke {number}", lambda begun: _revoke(pool, begun["id"], number))
    assert ended < AT_ONCE


@in_pools("prefork")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGUSR2"])
def test_a_task_revoked_without_mercy_frees_the_permit_when_its_process_is_gone(pool, limit, number):
    assert _ends(pool, limit, f"revoke {number}", lambda begun: _and_gone(pool, begun, number)) < AT_ONCE


def _revoke(pool: Stage, task_id: str, number: str) -> None:
    pool.worker.app.control.revoke(task_id, terminate=True, signal=number)


def _and_gone(pool: Stage, begun: dict, number: str) -> None:
    _revoke(pool, begun["id"], number)
    assert eventually(lambda: not _runs(begun["pid"]), within=10)
    begun["ended_at"] = time.monotonic()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="this Celery cannot revoke a greenlet that runs")
@in_pools("gevent")
def test_a_revoked_greenlet_frees_the_permit_at_once(pool, limit):
    assert _ends(pool, limit, "revoke SIGTERM", lambda begun: _revoke(pool, begun["id"], "SIGTERM")) < AT_ONCE


@in_pools("prefork")
def test_a_killed_child_frees_the_permit_at_once(pool, limit):
    assert _ends(pool, limit, "child killed", _kill) < AT_ONCE


def _kill(begun: dict) -> None:
    os.kill(begun["pid"], signal.SIGKILL)
    begun["ended_at"] = time.monotonic()


@in_pools("prefork")
def test_a_child_that_exits_frees_the_permit_at_once(pool, limit):
    pool.tasks.work.delay(limit, "exit")
    [ended] = pool.wait_for("end", limit)
    with Lock(limit, ttl=TTL, backend=pool.locks).acquire(timeout=2 * TTL):
        freed = time.monotonic() - ended["at"]
    _note(pool, "sys.exit()", freed)
    assert freed < AT_ONCE


@pytest.mark.parametrize("how", ["hard limit", "revoke"])
def test_no_successor_starts_while_the_finally_of_a_task_that_celery_gave_up_still_runs(own, limit, how):
    options = {"time_limit": 1} if how == "hard limit" else {}
    result = own.tasks.work.apply_async((limit, "never", True), **options)
    own.wait_for("begin", limit)
    successor = Successor(own, limit)
    if how == "revoke":
        _revoke(own, result.id, "SIGTERM")
    freed_at = successor.freed()
    signs = own.record.facts("alive", limit)
    assert signs
    assert all(sign["at"] < freed_at for sign in signs)
    assert freed_at - signs[-1]["at"] < AT_ONCE


def test_a_child_that_is_replaced_after_each_task_leaves_nothing_behind(redis_url, request, tmp_path, limit):
    locks = new_locks("redis", tmp_path, redis_url)
    broker = broker_of(request, "redis")
    options = {"locks": locks, "worker_max_tasks_per_child": 1, "concurrency": 2, "app": "tests.apps.endings"}
    with make_stage(broker, redis_url, tmp_path, **options) as stage:
        results = [stage.tasks.work.delay(limit, "return") for _ in range(6)]
        assert [result.get(timeout=60) for result in results] == ["done"] * 6
        assert "is gone" not in stage.worker.log()


@in_pools("prefork")
def test_a_stubborn_task_that_lost_its_lease_is_killed_if_it_asked_for_that(pool, limit):
    result = pool.tasks.stubborn.delay(limit)
    [begun] = pool.wait_for("begin", limit)
    connect(pool.locks).force_release(limit)
    with pytest.raises(WorkerLostError):
        result.get(timeout=30)
    assert not _runs(begun["pid"])
    assert pool.record.count("rose", limit) == 0


@in_pools("threads", "solo", "gevent")
def test_where_tasks_share_a_process_it_is_not_killed_but_told(pool, limit):
    result = pool.tasks.stubborn.delay(limit)
    pool.wait_for("begin", limit)
    connect(pool.locks).force_release(limit)
    assert result.get(timeout=30) == "raised"
    assert [fact["error"] for fact in pool.record.facts("rose", limit)] == ["LeaseLost"]


def test_a_task_whose_broker_is_gone_frees_its_permit_when_it_ends(redis_server, redis_url, tmp_path, limit):
    locks = new_locks("redis", tmp_path, redis_url)
    with make_stage(redis_server.url, redis_url, tmp_path, app="tests.apps.endings", locks=locks) as stage:
        stage.kind = "prefork"
        assert _ends(stage, limit, "broker gone", lambda _: redis_server.stop(), "soon") < AT_ONCE
        redis_server.start()


@pytest.mark.parametrize("way", ["warm", "cold"])
def test_a_worker_that_is_shut_down_leaves_no_permit_taken(own, limit, way):
    own.tasks.work.delay(limit, "return" if way == "warm" else "never", way == "warm")
    own.wait_for("begin", limit)
    successor = Successor(own, limit)
    os.kill(own.worker.pid, signal.SIGTERM if way == "warm" else signal.SIGQUIT)
    freed_at = successor.freed()
    ends = own.record.facts("end", limit)
    freed = freed_at - (ends[0]["at"] if ends else freed_at)
    _note(own, f"{way} shutdown", freed)
    assert -0.05 < freed < AT_ONCE
    assert eventually(lambda: not own.worker.process.running, within=20)


@pytest.mark.parametrize("kind", ["threads", "solo", "gevent"])
def test_a_worker_of_another_pool_that_is_shut_down_leaves_no_permit_taken(kind, redis_url, request, tmp_path, limit):
    broker, locks = broker_of(request, "redis"), new_locks("redis", tmp_path, redis_url)
    options = {"app": "tests.apps.endings", "locks": locks, "pool": kind}
    with make_stage(broker, redis_url, tmp_path, **options) as stage:
        stage.kind = kind
        freed = _shut_down(stage, limit, signal.SIGTERM, "soon")
        _note(stage, "warm shutdown", freed)
        assert -0.05 < freed < AT_ONCE


@pytest.mark.skipif(celery.VERSION < (5, 5), reason="this Celery has no soft shutdown")
@pytest.mark.parametrize("what", ["soon", "never"])
def test_a_worker_that_is_shut_down_softly_leaves_no_permit_taken(what, redis_url, request, tmp_path, limit):
    broker, locks = broker_of(request, "redis"), new_locks("redis", tmp_path, redis_url)
    options = {"app": "tests.apps.endings", "locks": locks, "worker_soft_shutdown_timeout": 4}
    with make_stage(broker, redis_url, tmp_path, **options) as stage:
        stage.kind = "prefork"
        freed = _shut_down(stage, limit, signal.SIGQUIT, what)
        _note(stage, "soft shutdown", freed)
        assert -0.05 < freed < AT_ONCE


def _shut_down(stage: Stage, limit: str, number: int, what: str) -> float:
    """Send the worker a signal while a task runs; return for how long the permit was taken after the body's end."""
    stage.tasks.work.delay(limit, what)
    stage.wait_for("begin", limit)
    successor = Successor(stage, limit)
    os.kill(stage.worker.pid, number)
    freed_at = successor.freed()
    [ended] = stage.record.facts("end", limit)
    assert eventually(lambda: not stage.worker.process.running, within=20)
    return freed_at - ended["at"]


@pytest.mark.parametrize("own", STAGES[:1], indirect=True, ids="-".join)
def test_a_killed_worker_frees_its_permits_within_the_ttl(own, limit):
    own.tasks.work.delay(limit, "never")
    own.wait_for("begin", limit)
    successor = Successor(own, limit)
    killed_at = time.monotonic()
    own.worker.kill()
    freed = successor.freed() - killed_at
    _note(own, "worker killed", freed)
    assert freed < TTL + AT_ONCE


def test_the_page_in_the_docs_shows_what_was_measured():
    """Last in the file: it reads what the others measured."""
    if os.environ.get("TASKLOCKS_WRITE_DOCS"):
        PAGE.write_text(f"{PAGE.read_text().partition(START)[0]}{START}\n{_matrix()}\n", "utf-8")
    shown = _cells(PAGE.read_text("utf-8").partition(START)[2])
    assert measured.keys() <= shown, measured.keys() - shown


def _matrix() -> str:
    endings = list(dict.fromkeys(ending for ending, _ in measured))
    rows = [["ending", *POOLS], ["---"] * (len(POOLS) + 1)]
    rows += [[ending, *(_cell(measured.get((ending, pool))) for pool in POOLS)] for ending in endings]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(freed: float | None) -> str:
    # What is below a hundredth is below what the successor's clock can tell.
    return "" if freed is None else f"{max(freed, 0):.2f}"


def _cells(table: str) -> set[tuple[str, str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()]
    return {(row[0], pool) for row in rows[2:] for pool, cell in zip(rows[0][1:], row[1:], strict=True) if cell}
