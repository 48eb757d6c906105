"""What only the SQLite backend has to promise: its file, and what other processes, clocks and forks do around it."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasklocks import BackendUnavailable, ConfigurationError, Lock, connect
from tasklocks.backends import Backend
from tasklocks.backends.sqlite import SQLiteBackend
from tasklocks.errors import BackendRefused
from tests.databases import child, opened
from tests.line import NAME, free, held, look, taken
from tests.processes import eventually

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "locks.db"


@pytest.fixture
def backend(file: Path) -> Iterator[Backend]:
    made = SQLiteBackend(f"sqlite:///{file}")
    yield made
    made.close()


@pytest.fixture
def impatient(file: Path) -> Iterator[Backend]:
    """A backend that gives up soon."""
    made = SQLiteBackend(f"sqlite:///{file}?timeout=0.3")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///locks.db", "cwd/locks.db"),
        ("sqlite:///below/../locks.db", "cwd/locks.db"),
        ("sqlite:///~/locks.db", "home/locks.db"),
        ("sqlite:///{tmp}/locks.db", "locks.db"),
        ("SQLite:///{tmp}/a%20b%3F.db?timeout=1", "a b?.db"),
    ],
)
def test_the_url_names_the_file(url, path, tmp_path, monkeypatch):
    (tmp_path / "cwd" / "below").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    backend = connect(url.format(tmp=tmp_path))
    monkeypatch.chdir(tmp_path)  # a later change of directory changes nothing
    taken(backend, "a")
    assert (tmp_path / path).stat().st_size > 0
    backend.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "names no file: write sqlite:///relative.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite://locks.db", "three slashes before a relative path, four before an absolute one"),
        ("sqlite:///locks.db?timeot=3", "knows the option timeout, not timeot"),
        ("sqlite:///locks.db?timeout=soon", "timeout must be a number of seconds, not 'soon'"),
        ("sqlite:///locks.db?timeout=-1", "timeout must be a number of seconds, not '-1'"),
        ("sqlite:///locks.db?timeout=nan", "timeout must be a number of seconds, not 'nan'"),
    ],
)
def test_a_mistake_in_the_url_is_named_before_any_file_is_touched(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        Lock("x", backend=url)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=f"no directory {tmp_path}/none .* create it first"):
        look(SQLiteBackend(f"sqlite:///{tmp_path}/none/locks.db"), "a")


def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="is a directory; name a file in it"):
        look(SQLiteBackend(f"sqlite:///{tmp_path}"), "a")


def test_a_file_that_is_no_database_is_named_and_left_as_it_is(backend, file):
    file.write_text("my diary\n" * 1000)
    with pytest.raises(ConfigurationError, match=r"locks.db is not an SQLite database; name another file"):
        look(backend, "a")
    assert file.read_text() == "my diary\n" * 1000


def test_a_damaged_database_is_named_and_grants_nothing(backend, file):
    for number in range(50):
        taken(backend, "a", f"limit-{number}")
    backend.close()
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(file.stat().st_size - 4096))
    with pytest.raises(BackendUnavailable, match=r"is damaged .* delete it with its -wal and -shm files"):
        look(backend, "a", "limit-1")


def test_tables_of_another_version_are_left_alone(backend, file):
    taken(backend, "a")
    with opened(file) as db:
        db.execute("UPDATE tasklocks_meta SET version = 99")
    backend.close()
    with pytest.raises(ConfigurationError, match="of version 99, this tasklocks knows version 2"):
        look(backend, "a")


def test_the_database_of_an_application_can_hold_the_locks_too(backend, file):
    with opened(file) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
        db.execute("INSERT INTO customers VALUES ('Ada')")
    taken(backend, "a")
    with opened(file) as db:
        assert db.execute("SELECT name FROM customers").fetchall() == [("Ada",)]


@pytest.mark.parametrize("unwritable", ["directory", "file"])
def test_what_may_not_be_written_is_named(unwritable):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "locks.db"
        sqlite3.connect(file).close()
        file.touch()
        place = Path(folder) if unwritable == "directory" else file
        Path(folder).chmod(0o777)
        file.chmod(0o666)
        place.chmod(0o555)
        with _as_nobody(), pytest.raises(BackendRefused, match=f"may not write to {place}, which the database"):
            look(SQLiteBackend(f"sqlite:///{file}"), "a")


def test_a_database_that_stays_locked_is_said_to_be_after_the_timeout(impatient, file):
    taken(impatient, "a")
    with opened(file) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"locked by another process since more than 0.3 s"):
            look(impatient, "b")
        assert 0.3 <= time.monotonic() - began < 3
        assert impatient.inspect(NAME).holders[0].owner == "a"  # looking is not in the way of anybody
        other.execute("COMMIT")
    held(impatient)


def test_one_who_waits_in_line_survives_a_locked_database(impatient, file):
    lock = Lock(NAME, backend=impatient)
    lock.acquire().release()
    with opened(file) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, other.execute, ["COMMIT"]).start()
        impatient.listen("somebody").close()  # a process that listens already asks in line at once
        began = time.monotonic()
        lock.acquire(timeout=10).release()
        assert time.monotonic() - began > 0.5


def test_a_process_killed_inside_a_transaction_leaves_nothing_and_stops_nobody(impatient, file, tmp_path):
    taken(impatient, "a")
    inside = child(tmp_path, _INSIDE_A_TRANSACTION, file)
    assert eventually(lambda: "inside" in inside.log(), within=10), inside.log()
    with pytest.raises(BackendUnavailable):
        look(impatient, "b", "other")
    inside.kill()
    assert free(impatient, "other")
    assert [holder.owner for holder in impatient.inspect(NAME).holders] == ["a"]


_INSIDE_A_TRANSACTION = """
    import sqlite3, sys, time
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM tasklocks_leases")
    print("inside", flush=True)
    time.sleep(60)
"""


def test_an_interrupt_in_a_step_leaves_no_transaction_open(backend, file):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    taken(backend, "a", "other")
    before, interrupted = signal.signal(signal.SIGALRM, interrupt), 0
    try:
        for turn in range(300):
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + turn * 1e-6)
                try:
                    _steps(backend, 30)
                except KeyboardInterrupt:
                    interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            with opened(file) as other:
                other.execute("BEGIN IMMEDIATE")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 100


def test_many_processes_open_a_new_file_at_once(file, tmp_path):
    folder = tmp_path / "ready"
    folder.mkdir()
    crew = [child(tmp_path, _OPEN_AT_ONCE, f"sqlite:///{file}", folder) for _ in range(12)]
    assert eventually(lambda: len(list(folder.iterdir())) == 12, within=30)
    (tmp_path / "go").touch()
    assert [each.wait(30) for each in crew] == [0] * 12, crew[0].log()
    backend = SQLiteBackend(f"sqlite:///{file}")
    assert len(backend.inspect(NAME).holders) == 12
    backend.close()


_OPEN_AT_ONCE = """
    import os, pathlib, sys, time
    from tasklocks import Semaphore
    limit, folder = Semaphore("limit", 12, backend=sys.argv[1]), pathlib.Path(sys.argv[2])
    (folder / str(os.getpid())).touch()
    while not (folder.parent / "go").exists():
        time.sleep(0.001)
    limit.acquire(blocking=False)
"""


def _steps(backend: Backend, count: int) -> None:
    for turn in range(count):
        look(backend, f"a-{turn}")
        backend.release(NAME, f"a-{turn}")


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Give up root's rights for a while, for root may write anywhere."""
    me = os.getresuid()
    if me[1] == 0:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(*me)
