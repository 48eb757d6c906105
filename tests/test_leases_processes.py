"""A lease belongs to the process that took it: forked and spawned children neither end it nor live on it."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
import warnings
from collections.abc import Callable

from tasklocks import Lease, Lock, LockBusy, connect, current_lease, locked
from tasklocks.backends import Backend
from tasklocks.renewal import renewal
from tests.line import free, held

TTL = 0.4


def test_a_child_that_is_forked_inside_a_block_cannot_end_the_lease(new_backend_url):
    backend = connect(new_backend_url("sqlite"))
    with Lock("report", ttl=1, backend=backend) as lease:
        assert _in_fork(lambda: lease.release() is False) == 0
        assert _in_fork(lambda: _leaves(lease)) == 0
        held(backend, "report")
        lease.check()
        assert lease.release() is True
    backend.close()


def test_the_leases_of_a_parent_are_renewed_by_the_parent_only(new_backend_url):
    backend = connect(new_backend_url("sqlite"))
    with Lock("report", ttl=TTL, backend=backend) as lease:
        assert _in_fork(lambda: len(renewal()) == 0) == 0
        assert _in_fork(lambda: time.sleep(2 * TTL) is None) == 0
        assert not lease.lost
    backend.close()


def test_a_child_takes_renews_and_loses_leases_of_its_own(new_backend_url):
    backend = connect(new_backend_url("sqlite"))
    with Lock("parents", ttl=TTL, backend=backend):
        assert _in_fork(lambda: _keeps_alive(backend)) == 0
    assert free(backend, "childs")
    backend.close()


def test_a_child_does_not_take_what_its_parent_holds(new_backend_url):
    url = new_backend_url("sqlite")
    run = locked("report", backend=url)(lambda: "ran")
    with Lock("report", backend=url):
        assert _in_fork(lambda: _is_refused(run)) == 0
    assert _in_fork(lambda: run() == "ran") == 0
    connect(url).close()


def test_a_spawned_process_shares_the_limit_and_not_the_lease(new_backend_url):
    url = new_backend_url("sqlite")
    with Lock("report", backend=url), multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_what_another_process_sees, (url,)) == ("busy", True)
        pool.close()
        pool.join()
    connect(url).close()


def _what_another_process_sees(url: str) -> tuple[str, bool]:
    try:
        Lock("report", backend=url).acquire(blocking=False)
    except LockBusy:
        return "busy", current_lease() is None
    return "free", current_lease() is None


def _leaves(lease: Lease) -> bool:
    lease.__exit__(None, None, None)
    return True


def _keeps_alive(backend: Backend) -> bool:
    with Lock("childs", ttl=TTL, backend=backend) as lease:
        time.sleep(2.5 * TTL)
        lease.check()
        return lease.grant.name == "childs"


def _is_refused(run: Callable[[], str]) -> bool:
    try:
        run()
    except LockBusy:
        return True
    return False


def _in_fork(check: Callable[[], object]) -> int:
    """Fork; the child's exit code is 0 if `check` returned something true."""
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork in a process with threads; Celery's prefork pool does just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
