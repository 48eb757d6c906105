"""A holder that is really frozen, past its lease, wakes up in the middle of its work: its write is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasklocks import Lock, connect
from tests.conftest import new_mongodb_database
from tests.processes import ROOT, ChildProcess, eventually
from tests.storm.store import Store

NAME = "report"


@pytest.fixture
def ttl(process_backend_url: str) -> float:
    return max(1.0, connect(process_backend_url).capabilities.min_ttl)


def test_the_write_of_a_holder_that_was_frozen_past_its_lease_is_refused(process_backend_url, ttl, tmp_path):
    with _writer(process_backend_url, ttl, tmp_path) as late:
        late.pause()
        with Lock(NAME, ttl=ttl, backend=process_backend_url).acquire(timeout=ttl + 5) as lease:
            assert _writes(lease.fencing_token, tmp_path)
            assert lease.fencing_token > int(late.log().split()[1])
        (tmp_path / "write").touch()
        late.resume()
        assert late.wait(20) == 0
        assert "refused lost\n" in late.log()
    assert _value(tmp_path) == 1


def test_the_write_of_a_holder_that_was_frozen_for_a_moment_is_accepted(process_backend_url, ttl, tmp_path):
    with _writer(process_backend_url, ttl, tmp_path) as holder:
        holder.pause()
        (tmp_path / "write").touch()
        holder.resume()
        assert holder.wait(20) == 0
        assert "written held\n" in holder.log()
    assert _value(tmp_path) == 1


def test_the_mongodb_example_shows_the_refusal(mongodb_url):
    shown = _example(new_mongodb_database(mongodb_url))
    assert shown.count("accepted: True") == 1
    assert shown.count("accepted: False") == 1
    assert "the report says: by the second" in shown


def test_the_mongodb_example_says_what_it_needs():
    assert "name a MongoDB" in _example()


@contextmanager
def _writer(url: str, ttl: float, folder: Path) -> Iterator[ChildProcess]:
    command = [sys.executable, "-m", "tests.storm.late_writer", url, NAME, str(ttl), str(folder)]
    child = ChildProcess(command, log=folder / "log")
    try:
        assert eventually(lambda: child.log().startswith("token") and "\n" in child.log(), within=20), child.log()
        yield child
    finally:
        child.kill()
        connect(url).close()


def _writes(token: int, folder: Path) -> bool:
    store = Store(folder / "store")
    value = store.claim(NAME, token)
    wrote = store.write(NAME, value + 1, token)
    store.close()
    return wrote


def _value(folder: Path) -> int:
    store = Store(folder / "store")
    value = store.value(NAME)
    store.close()
    return value


def _example(*arguments: str) -> str:
    environ = {key: value for key, value in os.environ.items() if key != "TASKLOCKS_URL"}
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "fencing_mongodb.py"), *arguments]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
