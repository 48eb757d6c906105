"""The night of `docs/night.md`, staged with real workers and a beat: its commands print what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tasklocks import connect
from tasklocks.cli import main
from tasklocks.overview import look_at_rate
from tests.conftest import empty_redis_database
from tests.processes import ROOT, ChildProcess, eventually
from tests.workers import Worker, start_worker, worker

APP = "tests.apps.night"
PAGE = ROOT / "docs" / "night.md"
BLOCK = re.compile(r"^```console\n(\$ .*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TTL = 9
LATE = "$ tasklocks -A shop why c0ffee09"
DIFFERS = [
    (r"w[12]@shop|\S+ pid \d+(?=\s+-)", "WORKER"),
    (r"(?m)^-\s+[0-9a-f]{16}-\d+\s+\S+", "BEAT"),
    (r"('|\b)pid\b(': | )\d+", "PID"),
    (r"version [\w.]+", "VERSION"),
    (r"\d{4}-\d\d-\d\d[ T][^\s.,]+(\.\d+\S*)?", "MOMENT"),
    (r"\b\d{10}\.\d+", "MOMENT"),
    (r"'expected_in': ([\d.]+|None)", "EXPECTED"),
    (r"\b\d{13,}\b", "TOKEN"),
    (r"-?\+?\d+(\.\d+)?( ms| s\b| min\b)", "TIME"),
    (r"127\.0\.0\.1:\d+/\d+", "ADDRESS"),
    (r"later-\d+s", "LATER"),
    (r"(test-[0-9a-f]{12}|celery)(?=[.'])", "QUEUE"),
    # On a busy machine the night has gone on.
    (r"it probably starts .*?, for ", ""),
    (r"nobody can tell when it starts: (.*?), and each .*? than that", r"\1"),
    (r"\boverdue\b", "TIME"),
]


def shape(output: str) -> list[str]:
    """Return the lines without what differs from night to night, whichever worker comes first."""
    for pattern, word in DIFFERS:
        output = re.sub(pattern, word, output)
    lines = {" ".join(line.split()) for line in output.splitlines() if line.strip() and "- empty -" not in line}
    # A table's column of process ids.
    return sorted(re.sub(r"\d+(?= \d+ MOMENT)", "N", line) for line in lines)


class Night:
    """The shop, and the commands of whoever asks."""

    def __init__(self, first: Worker, url: str) -> None:
        self.worker = first
        self.tasks = first.tasks
        self.backend = connect(url)

    def send(self, task: Any, number: str, *args: Any) -> None:
        task.apply_async(args, task_id=number)

    def runs(self, command: str) -> str:
        """Run a command of the page; return what it prints."""
        program, *words = shlex.split(command.removeprefix("$ ").replace("-A shop", f"-A {APP}"))
        if program == "celery":
            called = [sys.executable, "-m", "celery", *words]
            env = {**os.environ, **self.worker.settings.environ}
            return subprocess.run(called, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60).stdout
        return CliRunner().invoke(main, words, input="n\n", catch_exceptions=False).output

    def held(self, name: str) -> int:
        return len(self.backend.inspect(name).holders)

    def waits(self, name: str) -> int:
        return len(self.backend.inspect(name).waiters)

    def booked(self) -> float:
        rate = look_at_rate(self.backend, "partner-api")
        return rate.booked_for if rate else 0.0

    def fall(self) -> None:
        """Let it get dark: one import hangs and two tasks want the same account, nine call the partner."""
        self.send(self.tasks.import_account, "00f1457e", 7, 1.5)
        self.worker.app.AsyncResult("00f1457e").get(timeout=20)
        self.send(self.tasks.import_account, "0b9a6d1e", 7)
        assert eventually(lambda: self.held("import-7") == 1, within=20)
        for number in range(1, 10):
            self.send(self.tasks.call_partner, f"c0ffee0{number}", f"customer-{number}")
            # One after the other: two workers reserve.
            assert eventually(lambda far=number * 10 - 8: self.booked() > far, within=20)
        self.send(self.tasks.save, "9d20cc01", "a document")
        self.send(self.tasks.import_account, "5c1f22a8", 7)
        assert eventually(lambda: self.waits("import-7") == 1, within=20)
        self.send(self.tasks.close_account, "e7704b39", 7)
        assert eventually(lambda: self.waits("import-7") == 2, within=20)
        assert eventually(lambda: self.held("save-to-storage") == self.held("celery-beat") == 1, within=20)
        assert eventually(lambda: "later" in self.runs(LATE), within=20), self.runs(LATE)


@contextmanager
def beat(first: Worker, folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", APP, "beat", "--pidfile=", "-S", "tasklocks.beat:LeaderScheduler"]
    process = ChildProcess(
        [*command, "-s", str(folder / "schedule")], log=folder / "log", env=first.settings.environ, cwd=ROOT
    )
    try:
        yield
    finally:
        process.stop()


@pytest.fixture
def night(redis_url: str, tmp_path: Path) -> Iterator[Night]:
    urls = [empty_redis_database(redis_url) for _ in range(3)]
    options: dict[str, Any] = {"broker": urls[0], "backend": urls[1], "locks": urls[2], "env": {"TEST_ADMISSION": "1"}}
    with worker(APP, args=["--hostname", "w1@shop"], concurrency=4, tasklocks_ttl=TTL, **options) as first:
        second = start_worker(first.settings, args=["--hostname", "w2@shop"], concurrency=4, tasks=first.tasks)
        made = Night(first, urls[2])
        try:
            with beat(first, tmp_path):
                made.fall()
                yield made
        finally:
            made.backend.close()
            second.kill()
            first.kill()


def test_every_question_of_the_page_has_the_answer_that_the_page_shows(night):
    page = PAGE.read_text()
    questions = re.findall(r"^## (\d+)\. .*\?$", page, re.MULTILINE)
    assert questions == [str(number) for number in range(1, 11)]
    answers = {}
    for command, _ in BLOCK.findall(page):
        if "why 0b9a6d1e" in command:
            assert eventually(
                lambda: "has ended" in night.runs("$ tasklocks -A shop why 0b9a6d1e"), within=20, every=0.3
            )
        answers[command] = [*answers.get(command, []), night.runs(command)]
    found = {command: [list(each) for each in outputs] for command, outputs in answers.items()}
    if os.environ.get("TASKLOCKS_KEEP_PAGES"):
        PAGE.write_text(BLOCK.sub(lambda block: written(block, answers), page))
    for command, output in BLOCK.findall(PAGE.read_text()):
        assert shape("".join(found[command].pop(0))) == shape(output), command


def written(block: re.Match[str], answers: dict[str, list[str]]) -> str:
    """Return a block of the page with what its command printed now."""
    output = answers[block[1]].pop(0).replace(APP, "shop")
    host = rf"(?<= ){re.escape(socket.gethostname())} *(?=  \d)"
    for ours, theirs in (
        (r"test-[0-9a-f]{12}", "celery"),
        (r"127\.0\.0\.1:\d+/\d+", "127.0.0.1:6379/1"),
        (host, lambda found: "web-1".ljust(len(found[0]))),
    ):
        output = re.sub(ours, theirs, output)
    return f"```console\n{block[1]}\n{output.strip()}\n```"
