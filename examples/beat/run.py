"""Two beats and a worker; the leading beat is killed, and the other one takes over.

    python examples/beat/run.py [--seconds N]

It needs no server: messages are files, the lead is in SQLite, and all of it is in a temporary directory. The exit code
is 0 if the other beat took over, no tick came twice, and no run of the slow entry overlapped; 1 if not.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
TTL = 3.0


def main(arguments: Sequence[str]) -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description="Kill the leader of two beats and watch the other take over.")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long to watch before and after (default: 6)")
    seconds = parser.parse_args(arguments).seconds
    with tempfile.TemporaryDirectory(prefix="tasklocks-beat-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"EXAMPLE_FOLDER": folder, "EXAMPLE_TTL": str(TTL)}
        os.environ.pop("BROKER_URL", None)
        sys.path.insert(0, str(HERE))
        tasks = importlib.import_module("tasks")
        with running(Path(folder)) as beats:
            return show(tasks, beats, seconds)


def show(tasks: ModuleType, beats: dict[str, subprocess.Popen], seconds: float) -> int:
    """Tell what happens, and judge it."""
    first = wait_for_leader(tasks, beats, other_than=None)
    say(f"{first} leads: {leader_of(tasks)}")
    watch(tasks, seconds)
    say(f"{first} is killed")
    beats[first].kill()
    killed = time.time()
    second = wait_for_leader(tasks, beats, other_than=first)
    say(f"{second} leads after {time.time() - killed:.1f} s (ttl: {TTL:g} s): {leader_of(tasks)}")
    watch(tasks, seconds)
    problems = judge(record_of(tasks))
    for problem in problems:
        say(f"wrong: {problem}")
    say("no tick came twice, no run overlapped" if not problems else "see above")
    return 1 if problems else 0


def judge(record: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is wrong with a record."""
    ticks = Counter(line["task"] for line in record if line["what"] == "tick")
    problems = [f"tick {task} came {count} times" for task, count in ticks.items() if count > 1]
    slow = [line["what"] for line in record if line["what"].startswith("slow")]
    if any(a == b for a, b in itertools.pairwise(slow)):
        problems.append("two runs of the slow entry overlapped")
    return problems if ticks else ["no tick came at all"]


def watch(tasks: ModuleType, seconds: float) -> None:
    """Show the ticks that come in so many seconds."""
    seen, end = len(record_of(tasks)), time.time() + seconds
    while time.time() < end:
        for line in record_of(tasks)[seen:]:
            seen += 1
            say(f"  {line['what']:<12} {line['task'][:8]}")
        time.sleep(0.1)


def record_of(tasks: ModuleType) -> list[dict[str, Any]]:
    """Return what the tasks have noted so far."""
    text = tasks.RECORD.read_text() if tasks.RECORD.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def leader_of(tasks: ModuleType) -> Any:
    """Return who leads, as anybody can ask."""
    from tasklocks.beat import leader

    return leader(tasks.app)


def wait_for_leader(tasks: ModuleType, beats: dict[str, subprocess.Popen], *, other_than: str | None) -> str:
    """Return which of the beats leads."""
    names = {str(beat.pid): name for name, beat in beats.items() if name != other_than}
    deadline = time.time() + 60
    while time.time() < deadline:
        found = leader_of(tasks)
        if found is not None and found.pid in names:
            return names[found.pid]
        time.sleep(0.05)
    raise SystemExit("no beat leads after a minute")


@contextmanager
def running(folder: Path) -> Iterator[dict[str, subprocess.Popen]]:
    """Run a worker and two beats until the block is left; each beat has a file of its own, as on a host of its own."""
    started = [start(folder, "worker", "worker", "--pool", "threads", "--without-gossip", "--without-mingle")]
    beats = {}
    try:
        for name in ("beat1", "beat2"):
            own = ["--schedule", str(folder / f"{name}-schedule"), "--pidfile="]
            beats[name] = start(folder, name, "beat", "--scheduler", "tasklocks.beat:LeaderScheduler", *own)
            started.append(beats[name])
        yield beats
    finally:
        for process in started:
            stop(process)


def start(folder: Path, name: str, *command: str) -> subprocess.Popen:
    """Start one Celery program with its output in a file."""
    with (folder / f"{name}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", *command, "--loglevel", "INFO"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=HERE,
            start_new_session=True,
        )


def stop(process: subprocess.Popen) -> None:
    """End a program and whatever it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def say(text: str) -> None:
    """Print a line at once, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
