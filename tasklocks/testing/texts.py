"""What every backend promises about the small texts that it keeps, and about the starts that are reserved in them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tasklocks import Lock, connect
from tasklocks.backends import Backend
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

_LONG = 60.0
_TEXTS = ["plain", "", "$text", "{'a': \"b\"}", "ÄÖÜ ✓ \n\t\\", "0", "x" * 20_000]
_NAMES = ["a", "a/b", "a%2Fb", "a:b", "%text:a", "$a.b", "..", "q", "x" * 1000, "ä" * 200, "texts", "a b"]


def write(backend: Backend, name: str, text: str, keep: float = _LONG) -> None:
    backend.update(name, lambda _text, _now: (text, keep, None))


def read(backend: Backend, name: str) -> str:
    return backend.update(name, lambda text, _now: (text, _LONG, text))


def reserve(backend: Backend, rate: Pace, max_wait: float | None = None) -> Slot | Refused:
    return backend.reserve(ReserveRequest("rate", (rate,), 1.0, max_wait))


def test_a_text_that_was_never_written_is_empty(backend: Backend) -> None:
    assert read(backend, "new") == ""
    assert read(backend, "new") == ""


@pytest.mark.parametrize("text", _TEXTS, ids=range(len(_TEXTS)))
def test_a_text_is_kept_as_it_is(backend: Backend, text: str) -> None:
    write(backend, "text", "another")
    write(backend, "text", text)
    assert read(backend, "text") == text


def test_texts_of_different_names_do_not_meet(backend: Backend) -> None:
    for name in _NAMES:
        write(backend, name, f"of {name}")
    assert [read(backend, name) for name in _NAMES] == [f"of {name}" for name in _NAMES]


def test_texts_of_different_prefixes_do_not_meet(backend_url: str) -> None:
    first, second = connect(backend_url, prefix="one"), connect(backend_url, prefix="one%text")
    write(first, "text", "of one")
    assert read(second, "text") == ""
    write(second, "text", "of the other")
    assert read(first, "text") == "of one"
    first.close()
    second.close()


def test_a_text_and_a_limit_of_one_name_do_not_meet(backend: Backend) -> None:
    write(backend, "both", "the text")
    with Lock("both", backend=backend):
        assert read(backend, "both") == "the text"
        assert len(backend.inspect("both").holders) == 1
    assert read(backend, "both") == "the text"


def test_a_text_is_forgotten_when_its_time_is_over_and_can_be_written_again(backend: Backend) -> None:
    write(backend, "brief", "here", keep=0.5)
    assert read(backend, "brief") == "here"
    time.sleep(0.7)
    assert read(backend, "brief") == ""
    write(backend, "brief", "again")
    assert read(backend, "brief") == "again"


def test_each_change_sees_the_one_before(backend: Backend) -> None:
    def add(_: int) -> None:
        backend.update("count", lambda text, now: (str(int(text or 0) + 1), _LONG, None))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert read(backend, "count") == "100"


def test_the_answer_is_that_of_the_change_that_counted(backend: Backend) -> None:
    def draw(_: int) -> int:
        return backend.update("numbers", lambda text, now: (str(int(text or 0) + 1), _LONG, int(text or 0)))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(draw, range(50))) == list(range(50))


def test_the_clock_goes_on_and_is_the_same_for_all(backend: Backend) -> None:
    clocks = [backend.update(name, lambda text, now: (text, _LONG, now)) for name in ("a", "a", "b", "b")]
    assert clocks == sorted(clocks)
    assert clocks[-1] - clocks[0] < _LONG


def test_an_error_in_a_change_changes_nothing(backend: Backend) -> None:
    write(backend, "text", "as it was")
    with pytest.raises(ZeroDivisionError):
        backend.update("text", lambda text, now: (text * (1 // 0), _LONG, None))
    assert read(backend, "text") == "as it was"


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_no_two_get_the_same_start(backend: Backend, algorithm: str) -> None:
    pace = Pace(1, 100, algorithm=algorithm)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        slots = list(pool.map(lambda _: reserve(backend, pace), range(24)))
    starts = sorted(slot.start for slot in slots)
    assert all(later - earlier >= 50 for earlier, later in pairwise(starts[1:]))
    assert starts[-1] - starts[0] <= 23 * 100 + 1


def test_what_is_refused_is_not_reserved(backend: Backend) -> None:
    pace = Pace(1, 100)
    assert isinstance(reserve(backend, pace), Slot)
    refusals = [reserve(backend, pace, max_wait=50) for _ in range(3)]
    assert all(isinstance(each, Refused) and 50 < each.wait <= 100 for each in refusals)
    assert reserve(backend, pace, max_wait=100.5).wait <= 100


def test_a_reservation_outlives_the_connection_of_who_made_it(process_backend_url: str) -> None:
    for number in range(3):
        backend = connect(process_backend_url)
        assert reserve(backend, Pace(1, 1000)).wait == pytest.approx(1000 * number, abs=100)
        backend.close()
