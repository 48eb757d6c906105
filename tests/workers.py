"""Real Celery workers in processes of their own, and a producer in the test process with the same settings.

    with worker("tests.apps.basic", broker=broker_url, backend=redis_database, pool="threads") as w:
        assert w.tasks.add.delay(2, 3).get(timeout=10) == 5
        assert "received" in w.log()

All settings travel to the worker in environment variables: see `tests/apps/__init__.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import signal
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state

from tests.processes import ChildProcess, eventually

__all__ = ["Settings", "Worker", "settings", "start_worker", "worker"]

_READY = " ready."
_START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Settings:
    """What a worker and its producer agree on.

    Attributes:
        app: the module of the app, such as `tests.apps.basic`.
        environ: what `tests.apps.configure` reads, and whatever else the app wants.
    """

    app: str
    environ: Mapping[str, str]

    def load(self) -> types.ModuleType:
        """Import the app's module anew, configured as the worker's."""
        sys.modules.pop(self.app, None)
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self.environ.items():
                patch.setenv(variable, value)
            with _own_tasks_only():
                module = importlib.import_module(self.app)
                module.app.finalize()
                return module


@contextlib.contextmanager
def _own_tasks_only() -> Iterator[None]:
    """Keep Celery from sharing the tasks that are defined here with other apps, under names that those use too."""
    finalizers, apps = set(_state._on_app_finalizers), list(_state._apps)
    _state._apps.clear()
    try:
        yield
    finally:
        _state._on_app_finalizers.intersection_update(finalizers)
        _state._apps.update(apps)


def settings(
    app: str, *, broker: str, backend: str, locks: str = "", env: Mapping[str, str] | None = None, **conf: Any
) -> Settings:
    """Settings for an app with a queue of its own.

    Args:
        app: the app's module.
        broker: the broker's URL.
        backend: the result backend's URL.
        locks: the URL for `tasklocks_url`; empty: not set.
        env: further environment variables of the worker.
        conf: further Celery settings, of kinds that JSON knows.
    """
    own = {
        "BROKER_URL": broker,
        "RESULT_BACKEND": backend,
        "TASKLOCKS_URL": locks,
        "TEST_QUEUE": f"test-{secrets.token_hex(6)}",
        "TEST_CELERY_CONF": json.dumps(conf),
    }
    return Settings(app, {**own, **(env or {})})


@dataclass
class Worker:
    """One running worker.

    Attributes:
        process: its main process and everything that it started.
        settings: what it was started with.
        tasks: the app's module in the test process; `tasks.add.delay(…)` sends to this worker's queue.
    """

    process: ChildProcess
    settings: Settings
    tasks: types.ModuleType = field(repr=False)

    @property
    def app(self) -> Celery:
        """The producer: the app in the test process."""
        return self.tasks.app

    @property
    def pid(self) -> int:
        """The main process."""
        return self.process.pid

    @property
    def children(self) -> list[int]:
        """The pids of its direct child processes, such as prefork's."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def log(self) -> str:
        """All that it has written so far."""
        return self.process.log()

    def wait_for(self, text: str, *, within: float = 10.0, times: int = 1) -> None:
        """Wait until its log has `text`, so many times."""
        found = eventually(lambda: self.log().count(text) >= times, within=within)
        assert found, f"{text!r} is not in the worker's log:\n{self.log()[-4000:]}"

    def pause(self) -> None:
        """Freeze the main process and its children."""
        self.process.pause()

    def resume(self) -> None:
        """Let them go on."""
        self.process.resume()

    def kill_child(self, pid: int | None = None) -> int:
        """SIGKILL one process of its pool, the first if none is named; return its pid."""
        pid = pid or self.children[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill(self) -> None:
        """SIGKILL the main process and its children."""
        self.process.kill()

    def stop(self, *, within: float = 15.0) -> None:
        """Warm shutdown; whatever is left after `within` seconds is killed."""
        self.process.stop(within=within)


@contextlib.contextmanager
def worker(
    app: str,
    *,
    broker: str,
    backend: str,
    locks: str = "",
    pool: str = "prefork",
    concurrency: int = 2,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    **conf: Any,
) -> Iterator[Worker]:
    """Run a worker until the block is left, then stop it; see `settings` and `start_worker` for the arguments."""
    chosen = settings(app, broker=broker, backend=backend, locks=locks, env=env, **conf)
    running = start_worker(chosen, pool=pool, concurrency=concurrency, args=args)
    try:
        yield running
    finally:
        running.stop()
        running.app.close()


def start_worker(
    chosen: Settings,
    *,
    pool: str = "prefork",
    concurrency: int = 2,
    args: Sequence[str] = (),
    tasks: types.ModuleType | None = None,
) -> Worker:
    """Start a worker and wait until it is ready; the caller stops it.

    A second worker on the same queue: `start_worker(first.settings, tasks=first.tasks)`.

    Args:
        chosen: what `settings` returned.
        pool: Celery's name of the pool.
        concurrency: how many processes, threads or greenlets.
        args: further arguments of `celery worker`.
        tasks: the app's module in the test process, if it is loaded already.
    """
    log = Path(tempfile.mkdtemp(dir=os.environ.get("TASKLOCKS_TEST_LOGS"))) / "worker.log"
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    name = ["--hostname", f"{secrets.token_hex(4)}@%h", "--pool", pool, "--concurrency", str(concurrency)]
    command = [sys.executable, "-m", "celery", "-A", chosen.app, "worker", *quiet, *name, *args]
    tasks = tasks or chosen.load()
    process = ChildProcess(command, log=log, env=chosen.environ)
    eventually(lambda: _READY in process.log() or not process.running, within=_START_TIMEOUT)
    if _READY not in process.log():
        process.kill()
        raise RuntimeError(f"the worker did not get ready:\n{process.log()[-4000:]}")
    return Worker(process, chosen, tasks)
