"""The demo proves what it says: a clean run passes, and every kind of broken promise is found."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.processes import ROOT, ChildProcess, eventually

DEMO = ROOT / "examples" / "demo"
FILES = 8
SVG = "{http://www.w3.org/2000/svg}"

# The demo is a program of a few modules beside each other, not a package.
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(DEMO)
    record = importlib.import_module("record")
    verdict = importlib.import_module("verdict")
    timeline = importlib.import_module("timeline")

_tokens = itertools.count(1)


def hold(limit, start, end, **facts):
    return record.Hold(
        limit,
        "a.py",
        "id",
        "worker1@demo",
        **{"pid": 7, "retries": 0, "token": next(_tokens), **facts},
        start=start,
        end=end,
    )


def judge(*holds, index=None, failures=()):
    words = {"word": 3}
    story = record.Story(tuple(sorted(holds, key=lambda each: each.start)), (), failures)
    return verdict.judge(story, allowed=3, tasks=len(holds), index=words if index is None else index, expected=words)


def test_a_record_without_overlap_passes():
    found = judge(hold("index", 0, 1), hold("index", 1, 2), *(hold("readers", 0, 1) for _ in range(3)))
    assert found.problems == ()
    assert found.title == "mutex: 0 overlaps; readers: at most 3 at once"


@pytest.mark.parametrize(
    ("start", "end"),
    [(0.5, 1.5), (0.2, 0.3), (-1.0, 5.0), (0.999, 1.0), (0.5, None)],
    ids=["over the end", "inside", "around", "for a millisecond", "not ended"],
)
def test_a_planted_overlap_of_the_mutex_is_found(start, end):
    planted = hold("index", start, end)
    found = judge(hold("index", 0, 1), planted, hold("index", 6, 7))
    assert found.overlaps >= 1
    assert any("held the mutex at the same time" in problem for problem in found.problems)


def test_a_fourth_reader_is_found():
    three = [hold("readers", 0, 10) for _ in range(3)]
    assert judge(*three, hold("readers", 10, 11)).problems == ()
    found = judge(*three, hold("readers", 9.99, 11))
    assert found.problems == ("4 readers at once, 3 are allowed",)
    assert found.title.endswith("at most 4 at once")


def test_a_lost_word_is_found():
    assert judge(index={"word": 2}).problems == ("the index lost 1 of 3 words and has 0 too many",)
    assert judge(index={"word": 4}).problems == ("the index lost 0 of 3 words and has 1 too many",)


def test_a_task_that_has_not_ended_is_found():
    assert judge(hold("readers", 0, None)).problems == ("0 task bodies ran to their end, not 1",)


def test_a_failed_task_is_found():
    assert judge(failures=("merge[1]: KeyError: 'x'",)).problems == ("1 tasks failed, first merge[1]: KeyError: 'x'",)


def test_a_fencing_token_that_goes_back_is_found():
    found = judge(hold("index", 0, 1, token=5), hold("index", 1, 2, token=4))
    assert found.problems == ("a later holder of the mutex has a smaller fencing token",)


def test_holders_beyond_the_capacity_get_a_lane_that_says_so():
    story = record.Story((hold("index", 0, 2), hold("index", 1, 3), hold("index", 2, 4)), (), ())
    picture = timeline.make_picture("", "", story, [("index", 1)])
    assert [(lane.label, lane.allowed, len(lane.holds)) for lane in picture.lanes] == [
        ("index (mutex)", True, 2),
        ("index +1!", False, 1),
    ]


def test_a_line_that_is_half_written_is_left_for_later(tmp_path):
    journal = record.Record(tmp_path / "record.jsonl")
    with journal.hold("index", what="a.py", task="1", worker="w", token=1, retries=0):
        (running,) = journal.read().running()
    with journal.path.open("a") as file:
        file.write('{"event": "sta')
    (ended,) = journal.read().holds
    assert (ended.start, journal.read().running()) == (running.start, ())
    assert ended.end >= ended.start


def test_the_demo_runs_real_workers_and_passes(tmp_path):
    ended = run_demo(tmp_path, "--quick", "--files", str(FILES))
    assert ended.returncode == 0, ended.stdout
    assert "state RETRY" in ended.stdout
    assert "limit 'index' (capacity 1) is held by tasks.open_index[" in ended.stdout
    lanes = lanes_of(tmp_path / "timeline.svg")
    assert list(lanes) == ["readers 1", "readers 2", "readers 3", "index (mutex)"]
    assert sum(len(bars) for label, bars in lanes.items() if label.startswith("readers")) == FILES
    assert len(lanes["index (mutex)"]) == FILES + 1
    for bars in lanes.values():
        assert all(left + width <= after for (left, width), (after, _) in itertools.pairwise(bars))
    story = record.Record(tmp_path / "record.jsonl").read()
    assert len({each.pid for each in story.holds}) > 1
    assert story.again


def test_the_demo_fails_without_its_locks(tmp_path):
    ended = run_demo(tmp_path, "--quick", "--files", "16", "--without-locks")
    assert ended.returncode == 1, ended.stdout
    assert "pairs of tasks held the mutex at the same time" in ended.stdout
    assert "readers at once, 3 are allowed" in ended.stdout
    assert "index +1!" in lanes_of(tmp_path / "timeline.svg")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_leaves_no_process_and_no_file(tmp_path, number):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mark = {"DEMO_TEST_MARK": str(tmp_path), "TMPDIR": str(scratch)}
    demo = ChildProcess(command(tmp_path), log=tmp_path / "demo.log", env=mark)
    try:
        assert eventually(lambda: "All of them" in demo.log(), within=60), demo.log()
        assert len(marked(tmp_path)) > 8
        demo.send(number)
        assert demo.wait(30) == 130, demo.log()
        assert eventually(lambda: not marked(tmp_path), within=5)
        assert list(scratch.iterdir()) == []
    finally:
        demo.kill()


def command(output: Path, *options: str) -> list[str]:
    return [sys.executable, str(DEMO / "run.py"), "--output", str(output), *options]


def run_demo(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(output, *options), cwd=output, capture_output=True, text=True, timeout=100)


def lanes_of(svg: Path) -> dict[str, list[tuple[float, float]]]:
    """Return the bars of each lane of the upper panel, as left edge and width."""
    lanes: dict[str, list[tuple[float, float]]] = {}
    for group in ET.parse(svg).iter(f"{SVG}g"):
        bars = [bar for bar in group.findall(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
        lanes.setdefault(group.get("data-lane"), [(float(bar.get("x")), float(bar.get("width"))) for bar in bars])
    return lanes


def marked(tmp_path: Path) -> list[int]:
    """Return the processes that descend from a demo started with this directory as its mark."""
    mark = f"DEMO_TEST_MARK={tmp_path}\0".encode()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in environ_of(pid)]


def environ_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
