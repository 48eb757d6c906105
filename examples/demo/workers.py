"""The demo's worker processes: started in groups of their own, and gone when the demo is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Worker", "WorkerFailedError", "running"]

_HERE = Path(__file__).resolve().parent


class WorkerFailedError(Exception):
    """A worker did not start, or ended by itself."""


class Worker:
    """One `celery worker` and its pool of processes, with its output in a file."""

    def __init__(self, name: str, processes: int, folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        options = ["--hostname", f"{name}@demo", "--pool", "prefork", "--concurrency", str(processes)]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", "worker", *options, *quiet],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                cwd=_HERE,
                # Ctrl-C reaches the demo alone, which stops the whole group.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `WorkerFailedError` if it is not there any more."""
        if self._process.poll() is not None:
            raise WorkerFailedError(f"{self.name} ended by itself:\n{self.log.read_text(errors='replace')[-3000:]}")

    def wait_until_ready(self, within: float) -> None:
        """Return when it takes tasks."""
        deadline = time.monotonic() + within
        while " ready." not in self.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise WorkerFailedError(f"{self.name} is not ready after {within:.0f} s; see {self.log}")
            time.sleep(0.05)

    def ask_to_stop(self) -> None:
        """Begin a warm shutdown."""
        self._process.terminate()

    def wait(self, within: float) -> None:
        """Return when it has stopped, or after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within)

    def kill(self) -> None:
        """End every process of its group that is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(count: int, processes: int, folder: Path, env: Mapping[str, str]) -> Iterator[list[Worker]]:
    """Run `count` workers of so many processes each until the block is left, however it is left."""
    workers: list[Worker] = []
    try:
        for number in range(1, count + 1):
            # One after the other: kombu's folder broker ends a worker that reads what another one is just declaring.
            workers.append(Worker(f"worker{number}", processes, folder, env))
            workers[-1].wait_until_ready(within=60.0)
        yield workers
    finally:
        try:
            _stop(workers)
        finally:
            # Also after a second Ctrl-C.
            for worker in workers:
                worker.kill()


def _stop(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.wait(within=5.0)
