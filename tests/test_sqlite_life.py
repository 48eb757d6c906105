"""What happens to the SQLite file over time: forks, exits, clocks that are set, restarts of the host, growth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasklocks.backends.base import RETENTION
from tasklocks.backends.sqlite import SQLiteBackend
from tasklocks.types import Busy, Grant
from tests.databases import child, opened
from tests.line import NAME, away, held, look, taken, until_over

TEN_YEARS = 10 * 365 * 86400.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "locks.db"


@pytest.fixture
def backend(file: Path) -> Iterator[SQLiteBackend]:
    made = SQLiteBackend(f"sqlite:///{file}")
    yield made
    made.close()


def test_prefixes_and_names_are_never_mixed_up(file):
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a", "b%3Ac"), ("", "a:b:c"), ("a:", "b:c")]
    backends = [SQLiteBackend(f"sqlite:///{file}", prefix=prefix) for prefix, _ in pairs]
    for owner, (backend, (_, name)) in enumerate(zip(backends, pairs, strict=True)):
        taken(backend, str(owner), name)
    for backend in backends:
        backend.close()


def test_a_link_to_the_file_is_the_same_file(backend, file, tmp_path):
    taken(backend, "a")
    (tmp_path / "link.db").symlink_to(file)
    linked = SQLiteBackend(f"sqlite:///{tmp_path}/link.db")
    assert held(linked).holders[0].owner == "a"
    linked.close()


def test_what_parent_and_child_wrote_is_there_whoever_closes_first(backend, file, tmp_path):
    forking = child(tmp_path, _FORKS, f"sqlite:///{file}")
    assert forking.wait(60) == 0, forking.log()
    for who in ("parent", "child", "grandchild"):
        assert [look(backend, "b", f"{who}-{turn}").holders[0].owner for turn in range(50)] == [who] * 50


_FORKS = """
    import os, sys
    from tasklocks import connect
    from tasklocks.types import AcquireRequest, Grant

    backend = connect(sys.argv[1])

    def take(who, turns):
        for turn in turns:
            assert isinstance(backend.acquire(AcquireRequest(f"{who}-{turn}", who, ttl=600)), Grant)

    def fork_off(who, then=None):
        pid = os.fork()
        if pid == 0:
            take(who, range(25))
            then and then()
            take(who, range(25, 50))
            sys.exit(0)  # with all that runs at the end of a process
        return pid

    def ended(pid):
        assert os.waitpid(pid, 0)[1] == 0

    take("parent", range(25))
    child = fork_off("child", then=lambda: ended(fork_off("grandchild")))
    backend.close()
    take("parent", range(25, 50))
    ended(child)
    grants = [Grant(f"parent-{turn}", "parent", 1, 600, 0, 0.0) for turn in range(50)]
    assert None not in backend.renew(grants)
"""


def test_a_process_that_ends_tidies_up_after_itself(file, tmp_path):
    ending = child(tmp_path, _ENDS_WITHOUT_CLOSING, f"sqlite:///{file}")
    assert ending.wait(30) == 0, ending.log()
    assert ending.log() == ""  # -W error: nothing was left open
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("locks")] == ["locks.db"]


_ENDS_WITHOUT_CLOSING = """
    import sys
    from tasklocks import Lock
    Lock("limit", backend=sys.argv[1]).acquire()
"""


@pytest.mark.parametrize("jump", [TEN_YEARS, -TEN_YEARS])
def test_setting_the_wall_clock_ends_no_lease_and_makes_no_token_smaller(backend, monkeypatch, jump):
    kept, short = taken(backend, "kept", capacity=2), taken(backend, "short", capacity=2, ttl=0.4)
    away_at = look(backend, "away", place=away("away", keep=0.4), capacity=2)
    assert isinstance(away_at, Busy)
    _jump(monkeypatch, jump)
    assert {holder.owner for holder in backend.inspect(NAME).holders} == {"kept", "short"}
    assert abs(backend.inspect(NAME).holders[0].since - time.time()) < 60  # shown on the clock as it is now
    assert len(backend.inspect(NAME).waiters) == 1
    assert backend.renew([kept])[0] is not None
    until_over(short)
    assert [holder.owner for holder in backend.inspect(NAME).holders] == ["kept"]
    assert backend.inspect(NAME).waiters == ()
    during = taken(backend, "during", capacity=2).fencing_token
    monkeypatch.undo()
    backend.release(NAME, "during")
    assert kept.fencing_token < short.fencing_token < during < taken(backend, "after", capacity=2).fencing_token


def test_after_a_restart_of_the_host_nobody_of_before_holds_or_waits(backend, file, monkeypatch):
    before = taken(backend, "before", capacity=3, permits=3)
    look(backend, "waiter", capacity=3, place=away("waiter"))
    _restart_of_the_host(backend, file)
    _jump(monkeypatch, -TEN_YEARS)  # a host without a battery wakes up in the past
    state = backend.inspect(NAME)
    assert (state.holders, state.waiters, state.capacity) == ((), (), 3)
    assert backend.renew([before])[0] is None
    assert not backend.release(NAME, "before")
    assert taken(backend, "after", capacity=3).fencing_token > before.fencing_token


def test_the_same_run_of_the_host_keeps_its_leases(backend):
    taken(backend, "before")
    backend.close()
    held(backend)


def test_limits_that_nobody_used_for_long_are_forgotten_in_passing(backend, file):
    for turn in range(2500):
        taken(backend, "a", f"old-{turn}", ttl=0.001)
    taken(backend, "holder", "held")
    taken(backend, "a", "waited-for", ttl=0.1)
    assert isinstance(look(backend, "waiter", "waited-for", place=away("waiter")), Busy)
    _let_pass(file, RETENTION + 1)
    taken(backend, "a", "new")
    _steps(backend, 5000)
    with opened(file) as db:
        left = {name for (name,) in db.execute("SELECT name FROM tasklocks_limits")}
        assert left == {f"tasklocks:{name}" for name in ("held", "waited-for", "new", NAME)}
        assert db.execute("SELECT COUNT(*) FROM tasklocks_leases WHERE name LIKE '%old%'").fetchone() == (0,)
    assert [holder.owner for holder in backend.inspect("held").holders] == ["holder"]


def test_new_names_all_the_time_do_not_make_the_file_grow(backend, file):
    def used(day: int) -> int:
        for turn in range(3000):
            name = f"day-{day}-{turn}"
            taken(backend, "a", name)
            backend.release(name, "a")
        _let_pass(file, RETENTION + 1)
        backend.close()
        return file.stat().st_size

    sizes = [used(day) for day in range(6)]
    assert sizes[-1] < 1.5 * sizes[1], sizes


def test_the_log_beside_the_file_stays_small(backend, file):
    _steps(backend, 10_000)
    assert file.stat().st_size < 100_000
    assert file.with_name("locks.db-wal").stat().st_size < 10_000_000


def test_processes_that_live_for_a_few_steps_prune_too(file):
    for turn in range(500):
        backend = SQLiteBackend(f"sqlite:///{file}")
        taken(backend, "a", f"old-{turn}", ttl=0.001)
    _let_pass(file, RETENTION + 1)
    pruned = False
    for _ in range(20_000):
        _steps(SQLiteBackend(f"sqlite:///{file}"), 2)
        with opened(file) as db:
            pruned = db.execute("SELECT COUNT(*) FROM tasklocks_limits").fetchone()[0] < 500
        if pruned:
            break
    assert pruned


def test_a_deleted_file_is_made_anew_and_tokens_go_on_growing(backend, file):
    before = taken(backend, "before")
    for each in file.parent.glob("locks.db*"):
        each.unlink()
    after = taken(backend, "after")
    assert after.fencing_token > before.fencing_token
    assert backend.renew([before])[0] is None
    assert isinstance(backend.renew([after])[0], Grant)


def test_a_file_put_in_place_of_another_is_used_from_then_on(backend, file, tmp_path):
    taken(backend, "a")
    other = SQLiteBackend(f"sqlite:///{tmp_path}/other.db")
    taken(other, "b")
    other.close()
    for each in file.parent.glob("locks.db*"):
        each.unlink()
    (tmp_path / "other.db").rename(file)
    assert held(backend).holders[0].owner == "b"


def _jump(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    wall, wall_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: wall() + seconds)
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + int(seconds * 1e9))


def _restart_of_the_host(backend: SQLiteBackend, file: Path) -> None:
    """Make the database one of an earlier run of the host, whose clock had come further than ours."""
    backend.close()
    with opened(file) as db:
        db.execute("UPDATE tasklocks_meta SET boot = 'an earlier one'")
        db.execute("UPDATE tasklocks_leases SET granted = granted + 1e6, expires = expires + 1e6")
        db.execute("UPDATE tasklocks_waiters SET until = until + 1e6")
        db.execute("UPDATE tasklocks_limits SET used_at = used_at + 1e6")


def _let_pass(file: Path, seconds: float) -> None:
    """Make it so long ago that each limit was used."""
    with opened(file) as db:
        db.execute("UPDATE tasklocks_limits SET used_at = used_at - ?", (seconds,))


def _steps(backend: SQLiteBackend, count: int) -> None:
    for turn in range(count // 2):
        look(backend, f"a-{turn}")
        backend.release(NAME, f"a-{turn}")
