"""A worker whose locks cannot work does not start: it says at once which task and which setting, and no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require
from tests.processes import ROOT
from tests.servers import RedisServer
from tests.workers import settings

SECRET = "hunter2-hunter2"
TASK = r"task tests\.apps\.limits\.\w+|task import-data"


@pytest.mark.parametrize(
    ("locks", "conf", "complaint"),
    [
        (f"mysql://me:{SECRET}@db/locks", {}, "mysql"),
        ("just-a-word", {}, "tasklocks_url"),
        ("sqlite://", {}, "tasklocks_url"),
        (f"sqlite:////tmp/x.db?password={SECRET}", {}, "password"),
        ("memory://", {"tasklocks_ttl": -1}, "tasklocks_ttl"),
        ("memory://", {"tasklocks_ttl": 0}, "tasklocks_ttl"),
        ("memory://", {"tasklocks_ttl": "soon"}, "tasklocks_ttl"),
        ("memory://", {"tasklocks_countdown": -1}, "tasklocks_countdown"),
    ],
    ids=["unknown scheme", "no url", "no path", "unknown option", "negative ttl", "no ttl", "words", "countdown"],
)
def test_a_worker_does_not_start_with(locks, conf, complaint, tmp_path):
    text = _refused(tmp_path, locks, **conf)
    assert complaint in text.split("tasklocks: ", 1)[1].splitlines()[0]
    assert SECRET not in text


def test_a_worker_does_not_start_with_a_wrong_password(tmp_path):
    require(RedisServer)
    with RedisServer(tmp_path / "redis", "--requirepass", "the-right-one") as server:
        text = _refused(tmp_path, server.url.replace("redis://", f"redis://:{SECRET}@"))
    assert str(server.port) in text
    assert "password" in text.lower()
    assert SECRET not in text


def _refused(folder: Path, locks: str, **conf: object) -> str:
    """Start a worker that must not start, and return what it says; one line of it is the reason."""
    chosen = settings("tests.apps.limits", broker="memory://", backend="cache+memory://", locks=locks, **conf)
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", chosen.app, "worker", "--pool", "solo"],
        env={**os.environ, **chosen.environ, "TEST_RECORD": str(folder / "record"), "C_FORCE_ROOT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    text = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in text
    assert "tasklocks: " in text
    return text
