"""What users call, on each of our backends."""

from tasklocks import Lock
from tasklocks.testing.forks import in_fork, is_busy
from tasklocks.testing.locks import *  # noqa: F403
from tasklocks.testing.processes import *  # noqa: F403


def test_a_forked_child_of_a_memory_backend_starts_with_no_limits():
    lock = Lock("limit", backend="memory://forked")
    with lock:
        assert in_fork(lambda: lock.acquire(blocking=False).release()) == 0
        assert is_busy(lock)
