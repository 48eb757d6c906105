"""`why` finds tasks that no backend knows of: in workers, in queues of the broker, in the result backend."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tasklocks.cli import main
from tests.conftest import empty_redis_database
from tests.processes import eventually, free_port
from tests.workers import Worker, settings, worker

APP = "tests.apps.night"


@pytest.fixture(scope="module")
def night(redis_url: str) -> Iterator[Worker]:
    """A worker with two processes, and admission."""
    urls = [empty_redis_database(redis_url) for _ in range(3)]
    env = {"TEST_ADMISSION": "1"}
    with worker(APP, broker=urls[0], backend=urls[1], locks=urls[2], env=env, concurrency=2) as running:
        yield running
        running.kill()


def why(task_id: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["-A", APP, "why", task_id, *options], catch_exceptions=False)
    return done.exit_code, done.stdout + done.stderr


def soon(task_id: str, says: str) -> str:
    """Ask until the answer has these words; return it."""
    answers: list[str] = []

    def asked() -> bool:
        answers.append(why(task_id)[1])
        return says in answers[-1]

    assert eventually(asked, within=20, every=0.2), answers[-1]
    return answers[-1]


def test_a_task_that_has_ended_or_was_never_there_says_so(night):
    done = night.tasks.mail.delay()
    done.get(timeout=20)
    assert "has ended: SUCCESS" in why(done.id)[1]
    code, said = why("nobody-knows-it", "--patience", "0.3")
    assert code == 1
    assert "nobody knows the task" in said


def test_a_task_that_has_reserved_its_start_says_when_it_may_start(night):
    ids = [night.tasks.call_partner.delay(f"customer-{number}").id for number in range(6)]
    near = soon(ids[1], "reserved its start under the rate limit 'partner-api': in")
    assert "shop.call_partner[" in near
    far = soon(ids[5], ".tasklocks-later-")
    assert "until its time comes" in far
    assert "reserved its start under the rate limit 'partner-api': in" in far
    assert "customer" not in near + far
    shown = CliRunner().invoke(main, ["-A", APP, "show", "partner-api"], catch_exceptions=False).stdout
    assert "next start of shop.call_partner (6 in 60 s): in" in shown
    night.app.control.purge()


def test_a_task_behind_full_pools_says_so_and_one_that_is_held_for_its_lock_names_it(night):
    tasks = night.tasks
    held = [tasks.import_account.delay(7).id for _ in range(3)]
    soon(held[0], "does not wait: it has held a permit of 'import-7'")
    soon(held[1], "has waited for a permit of 'import-7'")
    full = tasks.mail.delay(60.0).id
    assert "holds no lock here" in soon(full, "runs on")
    waiting = tasks.mail.delay().id
    soon(waiting, "waits for a free place in its pool")
    answer = json.loads(why(held[2], "--json")[1])
    assert any("import-7" in each["limits"] for each in answer), answer


def test_a_task_that_no_worker_has_fetched_is_found_in_its_queue(night):
    night.pause()
    try:
        first, second = (night.tasks.mail.delay() for _ in range(2))
        # A worker that stands still has asked for one more message already.
        assert "no worker has fetched it yet" in soon(second.id, "is in the queue")
        assert json.loads(why(second.id, "--json")[1])[0]["does"] == "is queued"
        first.forget()
    finally:
        night.resume()


def test_a_task_whose_worker_was_killed_says_when_the_broker_delivers_it_again(redis_url):
    urls = [empty_redis_database(redis_url) for _ in range(3)]
    with worker(APP, broker=urls[0], backend=urls[1], locks=urls[2], pool="threads", concurrency=1) as running:
        ids = [running.tasks.mail.delay(60.0).id for _ in range(2)]
        soon(ids[1], "waits for a free place in its pool")
        running.kill()
        assert "the broker delivers it again at 20" in soon(ids[1], "was fetched by a worker that does not answer")


def test_where_nobody_can_look_into_queues_the_result_says_why_and_the_queues_how_many(rabbitmq_url, redis_url):
    urls = [empty_redis_database(redis_url) for _ in range(2)]
    with worker(APP, broker=rabbitmq_url, backend=urls[0], locks=urls[1], pool="threads") as running:
        done, late = (running.tasks.ship.delay(number).id for number in range(2))
        assert eventually(lambda: sorted(map(_end, (done, late))) == ["comes back", "has ended"], within=20, every=0.2)
        assert any("waiting: rate limit 'carrier'" in why(each)[1] for each in (done, late))
        running.pause()
        running.tasks.mail.delay()
        code, said = why("nobody-knows-it", "--patience", "0.3")
        assert code == 1
        assert "messages that nobody but a worker can look at: 1 in" in said
        running.kill()


def _end(task_id: str) -> str:
    return next((words for words in ("comes back", "has ended") if words in why(task_id)[1]), "")


def test_a_broker_that_does_not_answer_is_no_reason_to_wait(tmp_path):
    urls = {"broker": f"redis://127.0.0.1:{free_port()}/0", "backend": "cache+memory://"}
    settings(APP, locks=f"sqlite:///{tmp_path}/locks.db", **urls).load()
    code, said = why("some-task", "--patience", "0.3")
    assert code == 1
    assert "not everybody could be asked" in said


def test_an_app_without_results_is_asked_for_none(tmp_path):
    app = settings(APP, broker="memory://", backend="disabled://", locks=f"sqlite:///{tmp_path}/locks.db").load().app
    assert app.backend.as_uri() == "disabled://"
    code, said = why("some-task", "--patience", "0.3")
    assert code == 1
    assert "nobody knows the task some-task" in said
    assert "could be asked" not in said
