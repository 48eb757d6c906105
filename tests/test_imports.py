"""`import tasklocks` is cheap: no client, no thread, no file, no app; a missing client is named with its extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import tasklocks
from tasklocks.backends import _BUILT_IN
from tests.processes import ROOT

# extra: the module of the client that it brings
CLIENTS = {"redis": "redis", "mongodb": "pymongo", "zookeeper": "kazoo"}
NEEDY = [(scheme, CLIENTS[extra]) for scheme, (_, extra) in _BUILT_IN.items() if extra in CLIENTS]
# As if these packages were not installed.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in {clients!r}:
            raise ModuleNotFoundError(f"No module named {{package!r}}", name=package)
sys.meta_path.insert(0, Without())
"""
NEVER_AT_IMPORT = [*CLIENTS.values(), "grpc", "etcd3", "hiredis", "gevent", "eventlet"]


def script(text: str, folder: Path) -> str:
    """Run Python in an empty folder; return what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TASKLOCKS", "CELERY"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_import_loads_no_client_and_no_backend(tmp_path):
    loaded = json.loads(script("import sys, json, tasklocks; print(json.dumps(sorted(sys.modules)))", tmp_path))
    assert "tasklocks.celery.locked" in loaded
    clients = {module for module in loaded if module.partition(".")[0] in NEVER_AT_IMPORT}
    backends = {module for module in loaded if module.startswith("tasklocks.backends.")}
    assert clients == set()
    assert backends == {"tasklocks.backends.base", "tasklocks.backends.several"}


def test_the_import_starts_nothing_and_leaves_nothing(tmp_path):
    output = script(
        """
        import os, signal, threading
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        import tasklocks
        from celery import _state
        after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        print(threading.active_count(), _state.default_app, _state._tls.current_app, after - before)
        """,
        tmp_path,
    )
    assert output == "1 None None 0\n"
    assert list(tmp_path.iterdir()) == []


def test_describing_a_limit_contacts_nobody(tmp_path):
    script(
        """
        import threading
        from celery import Celery
        from tasklocks import Lock, locked
        app = Celery("shop", broker="memory://")
        app.conf.tasklocks_url = "sqlite:///shop.db"
        Lock("report", backend="sqlite:///own.db")

        @app.task
        @locked("report", backend="redis://nobody.invalid:1/0")
        def report(): ...

        assert report.name
        assert threading.active_count() == 1
        """,
        tmp_path,
    )
    assert list(tmp_path.iterdir()) == []


def test_the_memory_backend_loads_no_client(tmp_path):
    loaded = json.loads(
        script(
            """
            import sys, json
            from tasklocks import Lock
            with Lock("report", backend="memory://"):
                print(json.dumps(sorted(sys.modules)))
            """,
            tmp_path,
        )
    )
    assert "tasklocks.backends.memory" in loaded
    assert not {"sqlite3", *NEVER_AT_IMPORT}.intersection(loaded)


@pytest.mark.parametrize(("scheme", "client"), NEEDY)
def test_a_missing_client_is_named_with_the_extra_to_install(scheme, client, tmp_path):
    extra = _BUILT_IN[scheme][1]
    output = script(
        WITHOUT.format(clients=[client])
        + textwrap.dedent(f"""
        from tasklocks import ConfigurationError, Lock, locked
        from tasklocks.celery.worker import check_app
        from celery import Celery

        def report(): ...

        def task():
            app = Celery("shop")
            app.conf.tasklocks_url = "{scheme}://host"
            app.task(locked("report")(report), name="shop.report")
            check_app(app)

        attempts = [
            lambda: Lock("report", backend="{scheme}://user:hunter2@host"),
            lambda: locked("report", backend="{scheme}://user:hunter2@host")(report),
            task,
        ]
        for attempt in attempts:
            try:
                attempt()
            except ConfigurationError as error:
                print(error)
        """),
        tmp_path,
    )
    need = f"{scheme}:// needs the package '{client}', which is not installed: pip install 'tasklocks[{extra}]'"
    assert output.splitlines() == [
        f"limit 'report': backend: {need}",
        f"__main__.report: backend: {need}",
        f"task shop.report: tasklocks_url: {need}",
    ]


def test_a_missing_client_does_not_get_in_the_way_of_other_backends(tmp_path):
    output = script(
        WITHOUT.format(clients=NEVER_AT_IMPORT)
        + textwrap.dedent("""
        from tasklocks import Lock
        with Lock("a", backend="memory://"), Lock("b", backend="sqlite:///locks.db"):
            print("held")
        """),
        tmp_path,
    )
    assert output == "held\n"


def test_the_public_names_are_those_of_the_package():
    assert tasklocks.__all__ == sorted(tasklocks.__all__)
    assert {name for name in tasklocks.__all__ if not hasattr(tasklocks, name)} == set()
    assert {
        "BackendUnavailable",
        "ConfigurationError",
        "Lease",
        "LeaseLost",
        "Lock",
        "LockBusy",
        "LockTimeout",
        "LockedTask",
        "Semaphore",
        "TaskLocksError",
        "connect",
        "current_lease",
        "locked",
    } <= set(tasklocks.__all__)


def test_every_error_is_a_tasklocks_error():
    errors = [each for each in vars(tasklocks).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(errors) >= 6
    assert all(issubclass(each, tasklocks.TaskLocksError) for each in errors)


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "tasklocks" / "py.typed").exists()
