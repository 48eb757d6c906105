"""Exceptions that strike anywhere (a soft time limit, a lost lease, Ctrl-C) leave no permit taken and nobody deaf.

Instead of waiting for bad luck, each test strikes at every line that runs, one after the other.
"""

from __future__ import annotations

import contextvars
import gc
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

import tasklocks
from tasklocks import Lock, LockBusy, connect, locked
from tasklocks.backends import Backend
from tasklocks.renewal import renewal
from tests.line import LONG, NAME, Line, taken
from tests.local import as_in_a_worker, local_app, register

OURS = str(Path(tasklocks.__file__).parent)


class StruckError(BaseException):
    pass


class Strike:
    """Raises at the `number`-th line of ours that this thread runs inside `with`."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __enter__(self) -> Strike:
        # What earlier tests left is collected at any line, and a finalizer of ours would be struck in the act's place.
        gc.disable()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> bool:
        sys.settrace(None)
        gc.enable()
        return False

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line" and not _leaves_lock(frame):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise StruckError(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self._trace


def _leaves_lock(frame: FrameType) -> bool:
    """Whether this may be the end of a `with` block of a lock, where Python lets nothing strike but a tracer."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line.startswith("with ") and "lock" in line


@pytest.fixture
def backend(redis_database: str) -> Iterator[Backend]:
    connected = connect(redis_database)
    yield connected
    connected.close()


def everywhere(act: Callable[[Strike], object], check: Callable[[], object]) -> list[str]:
    """Let `act` be struck at each of its lines in turn, and return where it was and `check` found something left."""
    bad = []
    for number in range(1, 3000):
        where = _struck(act, number)
        if where is None:
            assert number > 20
            return bad
        if found := check():
            bad.append(f"{where}: {found}")
    raise AssertionError("it never came to its end")


def _struck(act: Callable[[Strike], object], number: int) -> str | None:
    """Return where `act` was struck; None if it came to its end before."""
    try:
        act(Strike(number))
    except StruckError as struck:
        return str(struck).removeprefix(OURS)
    return None


def left_of(backend: Backend) -> Callable[[], object]:
    def look() -> object:
        state = backend.inspect(NAME)
        found = (state.holders, state.waiters, len(renewal()))
        backend.force_release(NAME)
        for owner in [each.owner for each in state.holders]:
            for lease in renewal().of(owner):
                lease.release()
        return found if found != ((), (), 0) else None

    return look


def test_a_struck_acquire_leaves_no_permit_taken(backend):
    lock = Lock(NAME, ttl=LONG, backend=backend)

    def act(strike: Strike) -> None:
        with strike:
            lease = lock.acquire()
        lease.release()

    assert everywhere(act, left_of(backend)) == []


def test_a_struck_release_leaves_no_permit_taken(backend):
    lock = Lock(NAME, ttl=LONG, backend=backend)

    def act(strike: Strike) -> None:
        lease = lock.acquire()
        try:
            with strike:
                lease.release()
        except StruckError:
            lease.release()
            raise

    assert everywhere(act, left_of(backend)) == []


def test_a_struck_call_of_a_locked_function_leaves_no_permit_taken(backend):
    @locked(NAME, ttl=LONG, backend=backend)
    def work() -> None:
        pass

    def act(strike: Strike) -> None:
        with strike:
            work()

    assert everywhere(act, left_of(backend)) == []


def test_a_struck_waiter_leaves_the_line_and_lets_others_hear(backend):
    lock = Lock(NAME, ttl=LONG, backend=backend)

    def act(strike: Strike) -> None:
        taken(backend, "holder")
        release = threading.Timer(0.01, lambda: backend.release(NAME, "holder"))
        release.start()
        try:
            with strike:
                lease = lock.acquire(timeout=5)
            lease.release()
        finally:
            release.join()

    def check() -> object:
        if found := left_of(backend)():
            return found
        taken(backend, "other")
        with Line(backend) as line:
            waiting = line.join("next")
            backend.release(NAME, "other")
            heard = waiting.hears(within=10)
            waiting.leave()
        return None if heard else "deaf"

    assert everywhere(act, check) == []


def test_a_released_lease_in_a_copied_context_lets_nobody_share_it(backend):
    @locked(NAME, ttl=LONG, backend=backend, reentrant=True)
    def work(copy: bool = False) -> contextvars.Context | None:
        return contextvars.copy_context() if copy else None

    left_behind = work(copy=True)
    taken(backend, "other")
    with pytest.raises(LockBusy):
        left_behind.run(work)


def test_a_soft_time_limit_while_a_task_is_sent_again_fails_it_and_it_does_not_wait_on(backend, monkeypatch):
    app = local_app(monkeypatch, "memory://")

    @locked(NAME, ttl=LONG, backend=backend)
    def work() -> None:
        pass

    task = register(app, work)

    def publish(*_: object, **__: object) -> None:
        raise SoftTimeLimitExceeded  # it strikes where most of the time goes: a broker that does not answer

    taken(backend, "holder")
    monkeypatch.setattr(app.amqp, "send_task_message", publish)
    assert isinstance(as_in_a_worker(app, task), SoftTimeLimitExceeded)
    assert [each.owner for each in backend.inspect(NAME).holders] == ["holder"]
