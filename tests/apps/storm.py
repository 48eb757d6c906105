"""Limited tasks that note all that they know of their leases, for workers in bad weather."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasklocks import Lease, LeaseLost, clock, current_lease, locked
from tasklocks.fork import PerProcess
from tasklocks.types import Grant
from tests.apps import make_app
from tests.apps.record import note
from tests.storm.records import Journal

app = make_app("tests.apps.storm")

TTL = 2.0
CAPACITIES = {"alone": 1, "some": 2}
# What Celery needs to be told, so that a late task is done although whatever happens to who does it.
AT_LEAST_ONCE = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "autoretry_for": (LeaseLost,),
    "default_retry_delay": 0,
    "max_retries": None,
}

_journal = PerProcess(lambda: Journal(Path(os.environ["TEST_LEASES"])))


def work(number: int, seconds: float) -> None:
    note("began", str(number))
    # A task that may be delivered again has to stop when it is done: one that takes longer than Redis waits for its
    # acknowledgement would come back for ever.
    done = Path(f"{os.environ['TEST_RECORD']}-{number}")
    with _noted(current_lease()) as lease:
        known, end = lease.grant, time.monotonic() + seconds
        while time.monotonic() < end and not done.exists():
            time.sleep(0.02)
            known = _look(lease, known)
        done.touch()
    note("done", str(number))


@contextmanager
def _noted(lease: Lease) -> Iterator[Lease]:
    try:
        _journal().note("granted", lease.grant)
        yield lease
    except LeaseLost:
        _journal().note("told", lease.grant)
        raise
    finally:
        _journal().released(lease.name, lease.owner)


def _look(lease: Lease, known: Grant) -> Grant:
    # In this order: where the main process renews, the lease hears of it when it is asked.
    asked, lost, grant = clock.now(), lease.lost, lease.grant
    if grant is not known:
        _journal().note("renewed", grant)
    if not lost:
        _journal().note("sure", grant, asked)
    return grant


def _task(limit: str, **options: object) -> object:
    """Each limit's task for each kind of acknowledgement."""
    kind = "late" if options else "early"

    @app.task(name=f"{kind}-{limit}", **options)
    @locked(limit, CAPACITIES[limit], ttl=TTL, countdown=0.3)
    def task(number: int, seconds: float) -> None:
        work(number, seconds)

    return task


TASKS = {
    "late": [_task(limit, **AT_LEAST_ONCE) for limit in CAPACITIES],
    "early": [_task(limit) for limit in CAPACITIES],
}
