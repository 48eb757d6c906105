"""What every backend promises to processes that share it, and to those that fork."""

from __future__ import annotations

import threading

from tasklocks import Lock, connect
from tasklocks.testing.asking import NAME, held
from tasklocks.testing.forks import code, fork, in_fork, is_busy, takes_and_keeps, turns


def test_a_forked_child_shares_the_limits_of_its_parent(process_backend_url: str) -> None:
    lock = Lock(NAME, backend=process_backend_url)
    backend = connect(process_backend_url)
    with lock as lease:
        assert in_fork(lambda: is_busy(lock)) == 0
        assert in_fork(lambda: lease.release() is False) == 0
        assert lease.release() is True
    assert in_fork(lambda: takes_and_keeps(lock)) == 0
    assert len(held(backend).holders) == 1
    backend.close()


def test_parent_and_children_take_turns_after_a_fork(process_backend_url: str) -> None:
    lock = Lock(NAME, backend=process_backend_url)
    with lock:
        children = [fork(lambda: turns(lock, 10)) for _ in range(3)]
    assert turns(lock, 10)
    assert [code(pid) for pid in children] == [0, 0, 0]
    connect(process_backend_url).close()


def test_a_fork_while_threads_use_the_backend_leaves_the_child_usable(process_backend_url: str) -> None:
    lock, stop = Lock(NAME, backend=process_backend_url), threading.Event()

    def churn() -> None:
        while not stop.is_set():
            with Lock(f"{NAME}-{threading.get_ident()}", backend=process_backend_url):
                pass

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert [in_fork(lambda: turns(lock, 3)) for _ in range(8)] == [0] * 8
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    connect(process_backend_url).close()
