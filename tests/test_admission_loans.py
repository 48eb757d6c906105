"""A lease that was lost before its task began is none: the body takes one of its own, instead of failing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import pytest

from tasklocks import clock, connect
from tasklocks.celery.admission.errands import Errands
from tasklocks.celery.admission.given import Lender, given_leases
from tasklocks.celery.admission.held import Want
from tasklocks.celery.admission.loans import NearLoans
from tasklocks.celery.admission.table import Table
from tasklocks.celery.calls import LEASES, Call, Kind
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.waited import Waited
from tasklocks.celery.work import Work
from tasklocks.errors import LeaseLost
from tasklocks.leases import Lease
from tasklocks.types import AcquireRequest
from tests.processes import eventually

BACKEND = connect("memory://loans")
SPEC = SimpleNamespace(
    max_hold=None, at_least=0.0, on_lost="raise", backend=BACKEND, where="task", key=lambda args, kwargs: args[0]
)
SETTINGS = SimpleNamespace(backend=lambda own, where: BACKEND)


@pytest.fixture
def errands() -> Iterator[Errands]:
    made = Errands()
    yield made
    made.close()


@pytest.mark.parametrize("lost", [False, True])
def test_a_lease_that_is_lost_before_a_thread_begins_is_not_used(errands, lost):
    name = f"near-{lost}"
    loans = NearLoans(errands)
    want = Want(SPEC, BACKEND, name, 30.0)
    lease = loans.lease(want, BACKEND.acquire(AcquireRequest(name, "me", ttl=30.0)))
    loans.lend(SimpleNamespace(owner="me"), [lease])
    if lost:
        lease.end("its time ran out")
    begun = loans.begin("me")
    assert list(begun) == ([] if lost else [lease])
    loans.over("me")
    errands.close()
    assert not BACKEND.inspect(name).holders


@pytest.fixture
def give(monkeypatch) -> Callable[..., Sequence[Lease]]:
    """Return a function that begins a run as in a process of a pool, with a lease that has so many seconds left."""

    def leases(run: Interruptible, left: float) -> Sequence[Lease]:
        table = Table(1)
        index, serial = table.take(clock.now() + left)
        monkeypatch.setattr(Lender, "table", table)
        request = SimpleNamespace(**{LEASES: ["me", [[index, "far", serial, 1, 30.0, 7]]]})
        call = Call(Kind.BODY, None, SimpleNamespace(request=request), "task", Waited())
        return given_leases(call, [SPEC], SETTINGS, Work(print, ("far",), {}, ("far",)), run)

    return leases


@pytest.mark.parametrize("left", [10.0, -1.0])
def test_a_lease_that_ran_out_before_a_process_begins_is_not_used(give, left):
    given = give(Interruptible(), left)
    assert [lease.name for lease in given] == (["far"] if left > 0 else [])


def test_a_lease_that_runs_out_just_before_its_body_begins_keeps_it_from_beginning(give):
    run, began = Interruptible(), []
    given = give(run, 0.2)
    assert eventually(lambda: given[0].lost, within=5)
    time.sleep(0.1)  # who watches over it has seen it as well
    with pytest.raises(LeaseLost):
        run.run(lambda: began.append(1), given)
    assert began == []


def test_a_body_whose_main_process_renews_nothing_is_told_in_time(give):
    run = Interruptible()
    given = give(run, 0.3)
    with pytest.raises(LeaseLost):
        run.run(lambda: time.sleep(20), given)
