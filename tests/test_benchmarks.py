"""The benchmarks run, every contestant excludes, and the results say what was measured where."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from benchmarks import page, pictures
from benchmarks.board import Board
from benchmarks.deciders import Decider, Limits, prove_decisions
from benchmarks.measures import MEASURES
from benchmarks.pair import Pair, prove_exclusion
from benchmarks.results import Result
from benchmarks.starts import tally
from tasklocks.types import Pace
from tests.conftest import require
from tests.processes import ROOT
from tests.servers import RedisServer

# The first test waits for the run.
pytestmark = pytest.mark.timeout(300)

FIGURES = {
    "pair": {"p50_us", "p99_us", "per_second", "round_trips", "client_cpu_us", "times_floor"},
    "growth": {"crowd", "p50_us", "times_base"},
    "contended": {"processes", "per_second", "evenness", "p99_wait_ms", "overlaps"},
    "handoff": {"p50_ms", "p99_ms"},
    "herd": {"permits", "waiters", "requests", "messages", "kilobytes"},
    "admission": {"scenario", "way", "efficiency"},
    "ls": {"limits", "seconds", "longest_ms", "longest_alone_ms"},
    "watching": {"way", "bytecodes", "times_cut"},
    "page": {"limits", "share", "share_alone", "kilobytes"},
    "renewal": {"leases", "threads", "trips_per_second"},
    "rates": {"asking", "admitted", "share", "fullest", "state"},
    "decision": {"decision", "p50_us", "times_floor", "times_bare", "times_fastest_peer", "round_trips"},
}
NOT_ON_SQLITE = {"herd", "decision", "admission", "ls", "page", "watching"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a run writes that is too short for its figures to mean anything."""
    require(RedisServer)
    folder = tmp_path_factory.mktemp("results")
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "benchmarks",
        "--quick",
        "--only",
        "sqlite",
        "memory",
        "tasklocks redis",
        "--results",
        str(folder),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_one_run_measures_everything(results):
    assert set(results) == set(MEASURES) == set(FIGURES)


@pytest.mark.parametrize("measure", list(FIGURES))
def test_a_result_names_its_circumstances_and_has_every_figure_for_tasklocks(results, measure):
    result = results[measure]
    assert {"date", "machine", "stores", "packages"} <= set(result["circumstances"])
    ours = [row for row in result["rows"] if row["role"] == "tasklocks"]
    assert {row["store"] for row in ours} >= ({"redis"} if measure in NOT_ON_SQLITE else {"sqlite", "redis"})
    assert all(FIGURES[measure] <= set(row) for row in ours)


def test_a_picture_shows_each_store_and_each_figure(tmp_path):
    rows = [{"store": store, "waiters": n, "messages": 5.0, "kilobytes": n / 2} for store in "ab" for n in (10, 5000)]
    pictures.drawn(tmp_path, {"herd": Result("herd", {}, 1.0, {}, rows)})
    drawn = {file.name: ElementTree.parse(file) for file in tmp_path.glob("*.svg")}
    assert set(drawn) == {"herd-messages.svg", "herd-bytes.svg"}
    for picture in drawn.values():
        lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
        assert [len(line.get("points").split()) for line in lines] == [2, 2]


def test_a_redis_pair_is_two_round_trips(results):
    trips = {row["contestant"]: row["round_trips"] for row in results["pair"]["rows"] if row["store"] == "redis"}
    assert trips == {"floor: SET NX PX + EVALSHA": 2, "tasklocks redis": 2}


def test_nobody_is_ever_inside_together_with_another(results):
    rows = results["contended"]["rows"]
    assert sum(row["most"] for row in rows) > 0
    assert [row["overlaps"] for row in rows] == [0] * len(rows)


def test_a_rate_is_never_exceeded_and_the_backend_has_counted_what_was_started(results):
    rows = results["rates"]["rows"]
    assert {row["asking"].partition(",")[0] for row in rows} == {"gcra", "sliding", "fixed"}
    for row in rows:
        assert 0 < row["share"] <= 1, row
        assert row["fullest"] <= 1, row
        assert row["state"] == "agrees", row


@pytest.mark.parametrize(
    ("pace", "counted"),
    [
        (Pace(10, 1.0), lambda starts: starts[-1] + 0.1),
        (Pace(10, 1.0, burst=3), lambda starts: starts[-1] + 0.1),
        (
            Pace(10, 1.0, algorithm="sliding"),
            lambda starts: [[each, each, number] for number, each in enumerate(starts, 1)],
        ),
        (Pace(10, 1.0, algorithm="fixed"), lambda starts: [[1000.0, 10, 1000.9], [1001.0, 10, 1001.9]]),
    ],
)
def test_one_start_too_many_is_seen_in_the_record_and_in_the_state(pace, counted):
    even = [1000 + number / 10 for number in range(20)]
    kept = counted(even)
    assert tally(pace, even, kept, 1.0).fullest <= 1
    assert tally(pace, even, kept, 1.0).agrees
    extra = [*even, *[1001.05] * (pace.burst or 1)]
    assert tally(pace, extra, kept, 1.0).fullest > 1
    assert not tally(pace, extra, kept, 1.0).agrees


def test_a_limit_that_always_says_the_same_is_not_measured():
    always = Limits(lambda: True, lambda: True)
    with pytest.raises(RuntimeError, match="free twice, full twice"):
        prove_decisions(Decider("open", "peer", lambda url: always), always)


def test_a_mutex_that_excludes_nobody_is_not_measured():
    def open_door(url, name):
        return Pair(lambda blocking: True, lambda: None)

    with pytest.raises(RuntimeError, match="free, taken, free again"):
        prove_exclusion(open_door, "memory://", "door")


def test_a_second_one_inside_is_seen(tmp_path):
    path = Board.make(tmp_path / "board")
    first, second = Board(path), Board(path)
    assert first.enter(1)
    assert not second.enter(2)
    assert not first.leave(1)


def test_the_page_keeps_its_text_and_gets_the_tables(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- renewal -->\nold\n<!-- end -->\nbetween\n<!-- pair -->\nkept\n<!-- end -->\nafter\n")
    facts = {
        "date": "today",
        "machine": "2 shared cores",
        "load_before": 0.5,
        "stores": ["SQLite 3"],
        "packages": {"x": "1"},
    }
    row = {"store": "sqlite", "contestant": "ours", "leases": 7, "threads": 1, "cpu_ms_per_second": 0.25}
    page.updated(path, {"renewal": Result("renewal", facts, 1.0, {}, [row])})
    text = path.read_text()
    assert "| 7 | sqlite | ours | 1 | - | 0.2 |" in text
    assert "2 shared cores" in text
    assert "SQLite 3, x 1" in text
    assert "old" not in text
    assert all(word in text for word in ("before", "between", "kept", "after"))
