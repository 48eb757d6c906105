"""A stop waits for the send under way, but not for long, and a second one does not wait."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

from tests.processes import ROOT, ChildProcess, eventually

SCRIPT = """
    import signal, sys, time
    from tasklocks.beat.stopping import StopsLater

    def stop(number, frame):
        print("stopped", flush=True)
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    stops = StopsLater()
    stops.install()
    stops.install()
    with stops.busy():
        print("busy", flush=True)
        time.sleep(float(sys.argv[1]))
        print("done", flush=True)
    time.sleep(float(sys.argv[2]))
    print("went on", flush=True)
"""


def started(tmp_path, *seconds: float) -> ChildProcess:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, seconds)]
    child = ChildProcess(command, log=tmp_path / "log")
    assert eventually(lambda: "busy" in child.log(), within=20)
    return child


def test_a_stop_comes_after_the_send_under_way(tmp_path):
    child = started(tmp_path, 0.5, 5)
    child.send(signal.SIGTERM)
    assert child.wait(5) == 0
    assert child.log().split() == ["busy", "done", "stopped"]


def test_a_stop_does_not_wait_for_a_send_that_hangs(tmp_path):
    child = started(tmp_path, 30, 0)
    began = time.monotonic()
    child.send(signal.SIGTERM)
    assert child.wait(10) == 0
    assert 0.8 < time.monotonic() - began < 5
    assert child.log().split() == ["busy", "stopped"]


def test_a_second_stop_does_not_wait(tmp_path):
    child = started(tmp_path, 30, 0)
    began = time.monotonic()
    child.send(signal.SIGTERM)
    time.sleep(0.1)
    child.send(signal.SIGTERM)
    assert child.wait(10) == 0
    assert time.monotonic() - began < 0.9


def test_a_stop_between_two_sends_comes_at_once(tmp_path):
    child = started(tmp_path, 0, 30)
    assert eventually(lambda: "done" in child.log(), within=5)
    child.send(signal.SIGTERM)
    assert child.wait(5) == 0
    assert child.log().split() == ["busy", "done", "stopped"]


def test_the_shield_of_a_client_may_stand_in_front_or_behind(tmp_path):
    for early in ("shielded(int)", "None"):
        script = f"""
            import os, signal
            from tasklocks.beat.stopping import StopsLater
            from tasklocks.shield import shielded

            def stop(number, frame):
                raise SystemExit(0)

            signal.signal(signal.SIGTERM, stop)
            {early}
            stops = StopsLater()
            for _ in range(3):
                stops.install()
                shielded(int)
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("not stopped")
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=True, timeout=20)


def test_a_thread_that_is_not_the_main_one_leaves_the_signals_alone():
    script = """
        import signal, threading
        from tasklocks.beat.stopping import StopsLater
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        thread = threading.Thread(target=StopsLater().install)
        thread.start(); thread.join()
        assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=True, timeout=20)
