"""How the page is started, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tasklocks import connect
from tasklocks.testing.asking import taken
from tests.processes import ROOT, ChildProcess, eventually

BIN = Path(sys.executable).parent


def test_celery_serves_it_with_the_apps_settings_until_it_is_stopped(tmp_path):
    url = f"sqlite:///{tmp_path}/locks.db"
    backend = connect(url, prefix="of-the-app")
    taken(backend, "a", "report")
    conf = json.dumps({"tasklocks_url": url, "tasklocks_prefix": "of-the-app"})
    app = {"BROKER_URL": "memory://", "RESULT_BACKEND": "cache+memory://", "TEST_QUEUE": "unused"}
    command = [str(BIN / "celery"), "-A", "tests.apps.basic", "limits", "web", "--json", "--port", "0"]
    process = ChildProcess(command, log=tmp_path / "web.log", env={**app, "TEST_CELERY_CONF": conf})
    try:
        assert eventually(lambda: "\n" in process.log() or not process.running, within=20)
        address = json.loads(process.log().splitlines()[0])["url"]
        answer = httpx.get(f"{address}api/limits").json()
        assert [row["name"] for row in answer["rows"]] == ["report"]
        # Also while somebody watches.
        with httpx.stream("GET", f"{address}api/live") as stream:
            assert next(stream.iter_lines())
            began = time.monotonic()
            process.send(signal.SIGINT)
            assert process.wait(15) == 0
            assert time.monotonic() - began < 10
    finally:
        process.kill()
        backend.close()
    assert "Traceback" not in process.log()


def test_without_its_packages_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['starlette'] = None; from tasklocks.cli import main; main(['web'])"
    env = {**os.environ, "TASKLOCKS_URL": f"sqlite:///{tmp_path}/locks.db"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'tasklocks[web]'" in done.stderr
