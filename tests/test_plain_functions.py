"""A locked function that no task calls: which app's settings count, and what counts without an app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, eventually


@pytest.mark.parametrize("where", ["in the main thread", "in another thread"])
def test_a_plain_function_uses_the_one_app_of_its_process(where, tmp_path):
    script = f"""
        import threading
        from celery import Celery
        from tasklocks import connect, locked

        app = Celery("shop", set_as_current={where == "in the main thread"})
        app.conf.tasklocks_url = "memory://of-the-app"

        @locked("report")
        def report():
            print(len(connect("memory://of-the-app").inspect("report").holders))

        if "{where}" == "in the main thread":
            report()
        else:
            thread = threading.Thread(target=report)
            thread.start()
            thread.join()
    """
    assert _script(script, tmp_path) == ("1\n", "")


def test_without_an_app_the_environments_url_counts(tmp_path):
    script = """
        from tasklocks import connect, locked

        @locked("report")
        def report():
            print(len(connect("memory://of-the-environment").inspect("report").holders))

        report()
    """
    assert _script(script, tmp_path, TASKLOCKS_URL="memory://of-the-environment") == ("1\n", "")


def test_without_any_url_a_file_serves_and_one_warning_says_so(tmp_path):
    script = """
        from tasklocks import Lock, locked

        @locked("report")
        def report():
            print("ran")

        report()
        report()
        Lock("other").acquire().release()
    """
    output, warnings = _script(script, tmp_path)
    assert output == "ran\nran\n"
    assert warnings.count("tasklocks_url is not set") == 1
    assert "this host only" in warnings
    assert eventually(lambda: (tmp_path / "tasklocks.db").exists(), within=1)


def _script(text: str, folder: Path, **variables: str) -> tuple[str, str]:
    """Run Python where nothing is set but `variables`; return what it printed and what it complained about."""
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    env = {key: value for key, value in os.environ.items() if not key.startswith(("TASKLOCKS", "CELERY"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(line[indent:] for line in lines)],
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
