"""What an operator sees of limits at night: which are in use, who holds and waits, and why a task waits."""

from __future__ import annotations

import time

import pytest

from tasklocks import RateLimit, who
from tasklocks.cli.sentences import why_text
from tasklocks.testing.asking import away, look, taken
from tasklocks.views import HolderView, LimitView, WaiterView, Who


def about(task: str, number: str) -> str:
    return who.written(task=task, id=number, host="celery@one", pid="4711")


@pytest.fixture
def busy(backend, line):
    """A limit of three permits, all held, with two who wait; another one held; one that was used and is free."""
    taken(backend, "id-1:x", "reports", capacity=3, permits=2, info=about("make_report", "id-1"))
    taken(backend, "id-2:x", "reports", capacity=3, info=about("make_report", "id-2"))
    line.join("id-3:x", "reports", capacity=3, info=about("make_report", "id-3"))
    look(backend, "id-4:x", "reports", capacity=3, place=away("task:id-4"), info=about("send_report", "id-4"))
    taken(backend, "id-5:x", "import-7", info=about("import_account", "id-5"))
    taken(backend, "id-6:x", "idle")
    backend.release("idle", "id-6:x")
    return backend


def test_ls_shows_the_limits_in_use_those_with_most_waiters_first(tasklocks, busy):
    found = tasklocks.knows("ls")
    assert found["total"] == 2, found
    first, second = found["limits"]
    assert (first["name"], first["kind"], first["capacity"], first["held"]) == ("reports", "semaphore", 3, 3)
    assert (first["holders"], first["waiters"]) == (2, 2)
    assert (second["name"], second["kind"], second["held"], second["waiters"]) == ("import-7", "mutex", 1, 0)
    assert 0 <= second["longest_hold"] < 60
    header, *rows = tasklocks.says("ls").splitlines()
    assert header.split() == ["NAME", "KIND", "HELD", "HOLDERS", "WAITERS", "LONGEST", "HOLD", "USUAL", "HOLD"]
    assert [row.split()[:5] for row in rows] == [
        ["reports", "semaphore", "3/3", "2", "2"],
        ["import-7", "mutex", "1/1", "1", "0"],
    ]


def test_ls_shows_some_of_many_and_says_how_many_more_there_are(tasklocks, backend):
    for number in range(12):
        taken(backend, "a", f"limit-{number}")
    shown = tasklocks.says("ls", "--limit", "5", "--sort", "name").splitlines()
    assert len(shown) == 7
    assert "7 more" in shown[-1]
    assert len(tasklocks.knows("ls", "--limit", "0")["limits"]) == 12
    assert [row["name"] for row in tasklocks.knows("ls", "--match", "limit-1?", "--sort", "name")["limits"]] == [
        "limit-10",
        "limit-11",
    ]


def test_show_names_each_holder_and_each_waiter(tasklocks, busy):
    limit = tasklocks.knows("show", "reports")["limit"]
    first, second = limit["holders"]
    assert first["who"] == {"task": "make_report", "id": "id-1", "worker": "celery@one", "pid": "4711"}
    assert (first["owner"], first["permits"], second["permits"]) == ("id-1:x", 2, 1)
    assert first["fencing_token"] < second["fencing_token"]
    assert 0 < first["lease_left"] <= 60
    assert abs(time.time() - first["since"]) < 30
    assert [(each["place"], each["who"]["id"], each["listening"]) for each in limit["waiters"]] == [
        (1, "id-3", True),
        (2, "id-4", False),
    ]
    text = tasklocks.says("show", "reports")
    assert all(part in text for part in ("3 of 3 permits held", "make_report", "id-3", "celery@one", "comes back"))


def test_why_says_in_a_sentence_what_a_task_waits_for(tasklocks, busy):
    sentence = tasklocks.says("why", "id-4")
    assert sentence.startswith("send_report[id-4] on celery@one pid 4711 has waited for a permit of 'reports' for ")
    assert "3 of 3 held by make_report[id-1] on celery@one pid 4711" in sentence
    assert "1 waits in front of it" in sentence
    assert "does not wait: it has held 2 permits of 'reports'" in tasklocks.says("why", "id-1")
    (answer,) = tasklocks.knows("why", "id-3")
    assert (answer["limit"], answer["does"], answer["place"]["place"]) == ("reports", "waits", 1)


def test_why_says_when_the_turn_probably_comes(tasklocks, backend):
    taken(backend, "before", "report")
    time.sleep(0.5)
    backend.release("report", "before")
    taken(backend, "id-1:x", "report", info=about("make_report", "id-1"))
    for number in ("id-2", "id-3"):
        look(backend, f"{number}:x", "report", place=away(f"task:{number}"), info=about("make_report", number))
    first, second = (tasklocks.knows("why", number)[0]["place"] for number in ("id-2", "id-3"))
    assert 0 <= first["expected_in"] < second["expected_in"] < 5


@pytest.mark.parametrize(
    ("held_for", "expected_in", "said"),
    [
        (2.0, 8.0, "it probably starts in about 8.0 s, for a permit is usually held for 10 s"),
        (11.0, 0.0, "it probably starts any moment"),
        (
            17.0,
            0.0,
            "nobody can tell when it starts: a permit is usually held for 10 s, and each has been held for longer",
        ),
    ],
)
def test_the_sentence_says_when_the_turn_comes_as_far_as_anybody_can_tell(held_for, expected_in, said):
    somebody = Who("make_report", "id-1", "celery@one", "1")
    holder = HolderView(somebody, "id-1:x", 1, 0.0, held_for, 20.0, 1)
    waiter = WaiterView(1, somebody, "id-2:x", 1, 0.0, 1.0, True, expected_in)
    assert said in why_text(LimitView("report", "mutex", 1, 1, 10.0, (holder,), (waiter,)), waiter)


def test_a_turn_is_not_guessed_at_while_a_holder_takes_much_longer_than_usual(tasklocks, backend):
    taken(backend, "before", "report")
    backend.release("report", "before")
    taken(backend, "id-1:x", "report", info=about("make_report", "id-1"))
    look(backend, "id-2:x", "report", place=away("task:id-2"), info=about("make_report", "id-2"))
    time.sleep(1.2 + 1.5 * (backend.inspect("report").usual_hold or 0.0))
    assert "nobody can tell when it starts" in tasklocks.says("why", "id-2")
    assert "overdue" in tasklocks.says("show", "report")


def test_a_rate_limit_is_listed_and_shown_as_one(tasklocks, backend):
    RateLimit("partner-api", "100/m", backend=backend).reserve()
    (row,) = tasklocks.knows("ls")["limits"]
    assert (row["name"], row["kind"]) == ("partner-api", "rate")
    assert tasklocks.says("show", "partner-api").startswith("rate: not paused")


def test_a_rate_limit_says_how_far_ahead_its_starts_are_reserved_and_what_a_window_counts(tasklocks, backend):
    even = RateLimit("partner-api", "6/m", backend=backend)
    window = RateLimit("mails", "6/h", algorithm="sliding", backend=backend)
    for _ in range(3):
        even.reserve()
        window.reserve()
    assert 25 < tasklocks.knows("show", "partner-api")["rate"]["booked_for"] <= 30
    assert "starts are reserved for the next" in tasklocks.says("show", "partner-api")
    assert "3 counted in the window of now" in tasklocks.says("show", "mails")


def test_what_is_not_there_is_said_so_with_exit_code_1(tasklocks, busy):
    for words in (("show", "nothing"), ("why", "id-99"), ("release", "idle", "--yes"), ("pause", "x", "--for", "5")):
        result = tasklocks(*words)
        assert result.exit_code == 1, words
        assert words[1] in result.stderr


def test_watch_shows_the_limits_again_and_again(tasklocks, busy):
    shown = tasklocks.says("watch", "--times", "3", "--interval", "0.1", "--json").splitlines()
    assert len(shown) == 3
    assert all('"reports"' in line for line in shown)
    assert tasklocks.says("watch", "--times", "2", "--interval", "0.1").count("reports") == 2
