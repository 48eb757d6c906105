"""`LeaseLost` rises in the task that holds the lease, while it runs, once, and nowhere else."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from tasklocks import LeaseLost, Lock
from tasklocks.celery.interrupt import _SIGNAL, Interruptible, _BySignal

LOCK = Lock("interrupt", backend="memory://")
BODY = 0.001


def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def in_main_thread(function):
    return function()


def in_other_thread(function):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(function()))
    thread.start()
    thread.join()
    return outcome[0]


class Loser:
    """Loses the lease that it is given, at a random moment about when the body ends."""

    def __init__(self):
        self.job = None
        self.done = threading.Event()
        self.stop = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop:
            if self.job is None:
                time.sleep(0.0001)
                continue
            spin(random.random() * BODY * 2)
            self.job.end("a test says so")
            self.job = None
            self.done.set()


def one_race(loser):
    lease, run = LOCK.acquire(), Interruptible()
    lease._on_lost = run.lose
    loser.done.clear()

    def body():
        loser.job = lease
        spin(BODY)

    try:
        try:
            run.run(body, [lease])
            outcome = "ended"
        except LeaseLost:
            outcome = "told"
        spin(BODY / 2)  # nothing may rise out here
        loser.done.wait()
        spin(BODY / 10)
    except LeaseLost:
        outcome = "leaked"
    loser.done.wait()
    lease._reason = ""
    lease.release()
    # Whatever rose, and wherever: nothing may be left behind that could rise later.
    return "armed" if run.armed or _BySignal.running is not None else outcome


def races(rounds=700):
    loser = Loser()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the default of 5 ms would let no thread in during a body of 1 ms
    try:
        return Counter(one_race(loser) for _ in range(rounds))
    finally:
        sys.setswitchinterval(interval)
        loser.stop = True
        loser.thread.join()


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level("ERROR", logger="tasklocks")


@pytest.mark.parametrize("where", [in_main_thread, in_other_thread])
def test_a_loss_that_races_with_the_end_of_the_body_never_rises_outside_it(where):
    outcomes = where(races)
    assert outcomes["leaked"] + outcomes["armed"] == 0, outcomes
    assert outcomes["told"] > 50, outcomes
    assert outcomes["ended"] > 50, outcomes


# In a process of its own, for gevent changes the whole interpreter; where its tasks wait, others run.
GREENLETS = """
from gevent import monkey
monkey.patch_all()
import json, logging, time
import tests.test_interrupt as these
logging.disable()
these.spin, these.BODY = time.sleep, 0.004
print(json.dumps(these.races(300)))
"""


def test_a_loss_that_races_with_the_end_of_a_greenlets_body_never_rises_outside_it():
    run = subprocess.run([sys.executable, "-c", GREENLETS], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    outcomes = Counter(json.loads(run.stdout))
    assert outcomes["leaked"] + outcomes["armed"] == 0, outcomes
    assert outcomes["told"] > 50, outcomes
    assert outcomes["ended"] > 50, outcomes


def test_a_loss_interrupts_a_sleeping_main_thread():
    lease, run = LOCK.acquire(), Interruptible()
    lease._on_lost = run.lose
    threading.Timer(0.2, lease.end, ["a test says so"]).start()
    began = time.monotonic()
    with pytest.raises(LeaseLost, match="a test says so"):
        run.run(lambda: time.sleep(20), [lease])
    assert time.monotonic() - began < 10
    LOCK._backend.force_release("interrupt")


@pytest.mark.parametrize("where", [in_main_thread, in_other_thread])
def test_a_loss_ends_also_what_the_body_calls_under_a_lock_of_its_own(where):
    outer, inner = (Lock(f"interrupt-{name}", backend="memory://").acquire() for name in ("outer", "inner"))
    run, within = Interruptible(), Interruptible()

    def call():
        with pytest.raises(LeaseLost, match="interrupt-outer"):
            run.run(lambda: within.run(lambda: (run.lose(outer), spin(1)), [inner]), [outer])
        return within.error

    assert where(call) is None
    for lease in (inner, outer):
        lease.release()


def test_two_losses_rise_once():
    run, told = Interruptible(), []
    leases = [Lock(f"interrupt-{number}", backend="memory://").acquire() for number in range(2)]

    def body():
        for lease in leases:
            try:
                run.lose(lease)
                spin(0.01)
            except LeaseLost:  # noqa: PERF203 - it rises once
                told.append(lease.name)

    run.run(body, leases)
    assert told == ["interrupt-0"]
    for lease in leases:
        lease.release()


def test_a_signal_that_comes_after_the_body_raises_nothing():
    lease, run = LOCK.acquire(), Interruptible()
    with pytest.raises(LeaseLost):
        run.run(lambda: (run.lose(lease), spin(1)), [lease])
    signal.pthread_kill(threading.main_thread().ident, _SIGNAL)
    spin(0.01)
    lease.release()


def test_a_lease_that_was_lost_before_the_body_starts_keeps_it_from_starting():
    started = []
    lease, run = LOCK.acquire(), Interruptible()
    lease.end("a test says so")
    with pytest.raises(LeaseLost):
        run.run(lambda: started.append(1), [lease])
    assert started == []
    LOCK._backend.force_release("interrupt")


def test_a_swallowed_loss_is_raised_again_by_check():
    lease, run = LOCK.acquire(), Interruptible()
    lease._on_lost = run.lose

    def body():
        try:
            lease.end("a test says so")
            spin(1)
        except Exception:
            return "went on"

    assert run.run(body, [lease]) == "went on"
    with pytest.raises(LeaseLost):
        lease.check()
    LOCK._backend.force_release("interrupt")


def test_a_process_that_imports_gevent_and_patches_nothing_is_told_as_any_other():
    program = """
import sys
import gevent
sys.modules.pop("gevent.monkey", None)
from tasklocks.celery.interrupt import Interruptible
print(Interruptible().run(lambda: "ran", []))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ran"


def test_what_was_taken_back_leaves_the_interpreter_nothing_to_look_for():
    program = """
import sys
import threading
from tasklocks import Lock
from tasklocks.celery.interrupt import Interruptible
from tasklocks.errors import LeaseLost

def lose():
    lease, run = Lock("a", backend="memory://").acquire(), Interruptible()
    try:
        run.run(lambda: run.lose(lease), [lease])
    except LeaseLost:
        pass
    Interruptible().run(lambda: None, [])

thread = threading.Thread(target=lose)
thread.start()
thread.join()
sys.settrace(lambda frame, event, arg: None)  # CPython 3.11 never comes out of a call if there is
(lambda: None)()
print("came out")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "came out", done.stderr
