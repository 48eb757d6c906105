"""A capacity that is `Resizable` changes while workers run, and costs those that are not nothing."""

from __future__ import annotations

import pytest

from tasklocks import ConfigurationError, LockBusy, Resizable, Semaphore, connect, locked
from tasklocks.backends.memory import MemoryBackend
from tasklocks.resizing import resize, sizes
from tests.workers import settings

AT_ONCE = 0.0


def fits(backend, name: str, most: int = 20, *, own: int = 2) -> int:
    """How many leases can be held at once."""
    limit, leases = Semaphore(name, Resizable(own, every=AT_ONCE), backend=backend), []
    try:
        while len(leases) < most:
            leases.append(limit.acquire(blocking=False))
    except LockBusy:
        pass
    for lease in leases:
        lease.release()
    return len(leases)


def test_a_resized_limit_has_as_many_permits_as_the_operator_said(tasklocks, backend):
    assert fits(backend, "save") == 2
    tasklocks.says("resize", "save", "5")
    assert fits(backend, "save") == 5
    assert fits(backend, "another") == 2
    tasklocks.says("resize", "save", "1")
    assert fits(backend, "save") == 1
    tasklocks.says("resize", "save", "--back")
    assert fits(backend, "save") == 2
    assert sizes(backend) == {}


def test_a_smaller_number_takes_nothing_away_from_who_holds(tasklocks, backend):
    limit = Semaphore("save", Resizable(3, every=AT_ONCE), backend=backend, ttl=max(1.0, backend.capabilities.min_ttl))
    leases = [limit.acquire() for _ in range(3)]
    tasklocks.says("resize", "save", "1")
    for lease in leases:
        lease.renew()
        with pytest.raises(LockBusy):
            limit.acquire(blocking=False)
        lease.release()
    assert fits(backend, "save") == 1


def test_a_decorated_function_is_resized_by_the_name_of_its_limit(tasklocks, backend):
    @locked("import-{account}", Resizable(1, every=AT_ONCE), backend=backend, on_busy="raise")
    def inside(account: int, depth: int) -> int:
        try:
            return inside(account, depth + 1) if depth < 5 else depth
        except LockBusy:
            return depth

    tasklocks.says("resize", "import-7", "3")
    assert [inside(7, 1), inside(8, 1)] == [3, 1]


def test_what_is_kept_is_read_again_only_after_a_while(tmp_path):
    class Counting(MemoryBackend):
        looks = 0

        def update(self, name, change):
            self.looks += 1
            return super().update(name, change)

    backend = Counting()
    for capacity, looks in ((Resizable(2, every=60), 1), (2, 1), (lambda: 2, 1), (Resizable(2, every=AT_ONCE), 21)):
        for _ in range(20):
            Semaphore("save", capacity, backend=backend).acquire().release()
        assert backend.looks == looks


def test_what_makes_no_sense_in_the_backend_counts_as_nothing(tmp_path):
    backend = connect(f"memory://{tmp_path.name}")
    for nonsense in ("{", "[]", '{"save": 0}', '{"save": "9"}', '{"save": true}', '{"save": null}'):
        backend.update("tasklocks-sizes", lambda text, now, new=nonsense: (new, 60.0, None))
        assert fits(backend, "save") == 2


@pytest.mark.parametrize("words", [["save"], ["save", "0"], ["save", "x"], ["save", "3", "--back"]])
def test_a_size_that_cannot_be_is_refused(at, tmp_path, words):
    assert at(f"memory://{tmp_path.name}")("resize", *words).exit_code == 2


def test_with_an_app_a_limit_whose_number_is_fixed_in_the_code_is_told(at, tmp_path):
    url = f"memory://{tmp_path.name}"
    settings("tests.apps.night", broker="memory://", backend="cache+memory://", locks=url).load()
    fixed, free = (at(url)("-A", "tests.apps.night", "resize", name, "4") for name in ("import-7", "save-to-storage"))
    assert "nothing will change" in fixed.stderr
    assert "shop.close_account, shop.import_account" in fixed.stderr
    assert free.stderr == ""


def test_a_wrong_number_in_the_code_fails_at_once():
    with pytest.raises(ConfigurationError, match="at least 1"):
        locked("save", Resizable(0))(lambda: None)
    with pytest.raises(ConfigurationError, match="at least 1"):
        Semaphore("save", Resizable(0), backend="memory://")


def test_the_number_of_resized_limits_is_bounded(tmp_path):
    backend = connect(f"memory://{tmp_path.name}")
    for number in range(1000):
        resize(backend, f"limit-{number}", 2)
    with pytest.raises(ConfigurationError, match="resized already"):
        resize(backend, "one-more", 2)
