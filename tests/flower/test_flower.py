"""What a real Flower shows of tasks that wait: their state, and a reason that a person can read."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import empty_redis_database, missing_program
from tests.processes import ROOT, ChildProcess, eventually, free_port
from tests.web.browser import PROGRAM, a_browser
from tests.workers import Worker, worker

pytest.importorskip("flower")

APP = "tests.apps.night"
# Where the lease is taken: without admission, and with it.
WAYS = [pytest.param("0", id="in-the-body"), pytest.param("1", id="admission")]
IN_THE_BODY, ADMITTED = (pytest.mark.parametrize("flower", [way], indirect=True) for way in WAYS)
REASON = re.compile(
    r"waiting: limit 'import-7' \(capacity 1\) is held by shop\.import_account\[[0-9a-f-]{36}\] on \S+ pid \d+ since"
)


@dataclass
class Flower:
    """A running Flower and the worker that it watches."""

    url: str
    worker: Worker
    process: ChildProcess

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def state(self, task_id: str) -> str:
        return self.get("/api/tasks").get(task_id, {}).get("state", "")

    def answers(self) -> bool:
        try:
            return bool(self.get("/api/workers"))
        except OSError:
            return False


@pytest.fixture(scope="module", params=WAYS)
def flower(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flower]:
    """Flower beside a worker with two processes, without admission and with it."""
    urls = [empty_redis_database(redis_url) for _ in range(3)]
    env = {"TEST_ADMISSION": request.param, "FLOWER_UNAUTHENTICATED_API": "true"}
    options = {"broker": urls[0], "backend": urls[1], "locks": urls[2], "env": env, "args": ["-E"]}
    with worker(APP, **options) as running:
        port = free_port()
        command = [sys.executable, "-m", "celery", "-A", APP, "flower", "--address=127.0.0.1", f"--port={port}"]
        log = tmp_path_factory.mktemp("flower") / "log"
        process = ChildProcess(command, log=log, env=running.settings.environ)
        made = Flower(f"http://127.0.0.1:{port}", running, process)
        try:
            assert eventually(made.answers, within=30, every=0.2), process.log()
            yield made
        finally:
            process.stop()
            running.kill()


@pytest.fixture(scope="module")
def waiting(flower: Flower) -> str:
    """The id of a task that waits for a lock that another one holds."""
    tasks = flower.worker.tasks
    holder = tasks.import_account.delay(7)
    assert eventually(lambda: flower.state(holder.id) not in ("", "RECEIVED", "PENDING"), within=20, every=0.2)
    return tasks.close_account.delay(7).id


@IN_THE_BODY
def test_a_task_that_is_sent_again_shows_that_it_waits_and_why(flower, waiting):
    assert eventually(lambda: flower.state(waiting) == "RETRY", within=20, every=0.2), flower.get("/api/tasks")
    facts = flower.get(f"/api/task/info/{waiting}")
    assert REASON.search(facts["exception"]), facts["exception"]
    # The reason and not the way to it.
    assert "During handling" not in facts["traceback"]
    assert facts["retries"] == 0


@IN_THE_BODY
def test_its_pages_show_the_same_in_a_browser(flower, waiting, tmp_path):
    if shutil.which(PROGRAM) is None:
        missing_program(PROGRAM)
    with a_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 985})
        page.goto(f"{flower.url}/task/{waiting}")
        assert REASON.search(page.inner_text("body")), page.inner_text("body")
        _picture(page, tmp_path, "flower-task")
        page.set_viewport_size({"width": 1280, "height": 520})
        page.goto(f"{flower.url}/tasks")
        page.get_by_text("RETRY", exact=True).wait_for(timeout=20_000)
        _picture(page, tmp_path, "flower-tasks")


def _picture(page: Any, folder: Path, name: str) -> None:
    """Take a picture; with TASKLOCKS_KEEP_PICTURES set, it becomes the one in the docs."""
    folder = ROOT / "docs" / "img" if os.environ.get("TASKLOCKS_KEEP_PICTURES") else folder
    assert page.screenshot(path=folder / f"{name}.png").startswith(b"\x89PNG")


@ADMITTED
def test_a_task_that_its_worker_holds_was_received_and_waits(flower, waiting):
    assert eventually(lambda: flower.state(waiting) in ("RECEIVED", "LOCK-WAITING"), within=20, every=0.2)


def test_events_that_it_does_not_know_do_no_harm(flower):
    with flower.worker.app.events.default_dispatcher() as news:
        for kind in ("waiting", "acquired", "released", "lost", "skipped", "never-heard-of"):
            news.send(f"task-lock-{kind}", uuid=f"some-task-{kind}", limit="import-7", waited=1.5)
    done = flower.worker.tasks.mail.delay()
    done.get(timeout=20)
    assert eventually(lambda: flower.state(done.id) == "SUCCESS", within=20, every=0.2), flower.get("/api/tasks")
    assert flower.process.running
    assert "Traceback" not in flower.process.log()


def test_a_task_that_had_a_lock_ends_as_any_other(flower):
    done = flower.worker.tasks.close_account.delay(8)
    done.get(timeout=20)
    assert eventually(lambda: flower.state(done.id) == "SUCCESS", within=20, every=0.2), flower.get("/api/tasks")
