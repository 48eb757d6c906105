"""What signals raise is held back while a client works that could not stand it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import pytest

from tasklocks import connect
from tasklocks.shield import shielded
from tests.line import free, look


class StruckError(BaseException):
    pass


@pytest.fixture
def strikes():
    """Let SIGALRM raise."""

    def strike(*_):
        raise StruckError

    former = signal.signal(signal.SIGALRM, strike)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


def test_a_strike_rises_when_the_work_is_over(strikes):
    done = []

    def work():
        signal.raise_signal(signal.SIGALRM)
        done.append("all of it")

    with pytest.raises(StruckError):
        shielded(work)
    assert done == ["all of it"]


def test_a_strike_within_a_shield_within_a_shield_waits_for_the_outer_one(strikes):
    done = []

    def work():
        shielded(lambda: signal.raise_signal(signal.SIGALRM))
        done.append("all of it")

    with pytest.raises(StruckError):
        shielded(work)
    assert done == ["all of it"]


def test_without_a_strike_nothing_rises_and_afterwards_strikes_rise_at_once(strikes):
    assert shielded(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        shielded(lambda: 1 / 0)
    with pytest.raises(StruckError):
        signal.raise_signal(signal.SIGALRM)


def test_a_handler_that_is_set_later_counts(strikes):
    shielded(lambda: None)
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append("new"))
    shielded(lambda: signal.raise_signal(signal.SIGALRM))
    assert seen == ["new"]


def test_a_handler_that_calls_the_one_before_it_reaches_that_one(strikes):
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append("first"))
    for name in ("second", "third"):
        shielded(lambda: None)
        before = signal.getsignal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, lambda *facts, name=name, before=before: (seen.append(name), before(*facts)))
    shielded(lambda: signal.raise_signal(signal.SIGALRM))
    assert seen == ["third", "second", "first"]


def test_ctrl_c_is_held_back_as_well():
    with pytest.raises(KeyboardInterrupt):
        shielded(lambda: signal.raise_signal(signal.SIGINT))


def test_signals_that_nobody_handles_are_left_alone():
    shielded(lambda: None)
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_other_threads_work_as_ever(strikes):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(shielded(lambda: 5)))
    thread.start()
    thread.join()
    assert answers == [5]


def test_a_child_that_a_thread_forks_within_a_shield_is_struck_at_once(strikes):
    codes = []

    def fork():
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(signal.SIGALRM)
            except StruckError:
                os._exit(7)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    def work():
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    shielded(work)
    assert codes == [7]


@pytest.mark.timeout(60)
def test_strikes_at_any_moment_do_not_lock_pymongo_for_ever(new_backend_url, strikes):
    backend = connect(new_backend_url("mongodb"))
    free(backend)
    struck = 0
    ends = time.monotonic() + 4
    for number, delay in zip(itertools.count(), itertools.cycle([0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003])):
        if time.monotonic() > ends:
            break
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            look(backend, "mine", f"limit-{number % 10}")
            backend.release(f"limit-{number % 10}", "mine")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except StruckError:
            struck += 1
    assert struck > 20
    assert free(backend)
    backend.close()
