"""What the suite does in other processes and threads, and how long it waits for them."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tasklocks import Lock, LockBusy
from tasklocks.types import Busy

__all__ = ["code", "eventually", "fork", "in_fork", "in_threads", "is_busy", "takes_and_keeps", "turns"]


def eventually(condition: Callable[[], object], *, within: float, every: float = 0.02) -> bool:
    """Return whether `condition` became true within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())


def in_threads(count: int, work: Callable[[], None], *, within: float = 60.0) -> None:
    """Do the same in so many threads at once; what one of them raises is raised here."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result(timeout=within)


def in_fork(check: Callable[[], object]) -> int:
    """Return the exit code of a forked child: 0 if `check` returned something true there."""
    return code(fork(check))


def fork(check: Callable[[], object]) -> int:
    """Fork; return the child's pid. Its exit code is 0 if `check` returned something true."""
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork in a process with threads; Celery's prefork pool does just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        result = 1
        try:
            result = 0 if check() else 2
        except BaseException:  # noqa: BLE001 - nothing may carry the child back into the tests
            traceback.print_exc()
        finally:
            os._exit(result)
    return pid


def code(pid: int) -> int:
    """Wait for a child; return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def turns(lock: Lock, count: int) -> bool:
    """Take the lock and give it back, so many times."""
    for _ in range(count):
        with lock.acquire(timeout=30) as lease:
            lease.check()
    return True


def is_busy(lock: Lock) -> bool:
    """Whether a stranger finds the lock taken."""
    try:
        lock.acquire(blocking=False).release()
    except LockBusy as error:
        return isinstance(error.busy, Busy)
    return False


def takes_and_keeps(lock: Lock) -> bool:
    """Take the lock and never give it back."""
    return lock.acquire(timeout=5).fencing_token > 0
