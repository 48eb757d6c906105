"""What happens to limits is told to whoever listens, once, with all that is known, and to nobody's harm."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from tasklocks import Lock, LockBusy, LockTimeout, Semaphore, connect, locked, logs, news, rate_limited
from tasklocks.backends import Backend
from tasklocks.celery import signals
from tasklocks.leases import Lease
from tasklocks.news import News
from tests.line import taken
from tests.local import as_in_a_worker, local_app, register
from tests.processes import eventually

URL = "memory://news"
SECRET = "swordfish"


@pytest.fixture
def heard() -> Iterator[list[News]]:
    """All that is told while the test runs."""
    told: list[News] = []
    news.subscribe(told.append)
    yield told
    news.unsubscribe(told.append)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs a task with a limit as a worker would."""

    def run(
        *args: Any, name: str = "import-{account}", body: Callable[..., Any] = lambda account: None, **options: Any
    ):
        def imports(account: str, secret: str = SECRET) -> None:
            body(account)

        app = local_app(monkeypatch, URL)
        return as_in_a_worker(app, register(app, locked(name, **options)(imports), name="imports"), *args)

    return run


def kinds(heard: list[News]) -> list[str]:
    return [each.kind for each in heard]


def test_a_task_that_runs_is_told_with_names_template_and_times(heard: list[News], task: Callable[..., Any]) -> None:
    task("a-1", capacity=3, permits=2)
    assert kinds(heard) == ["acquired", "released"]
    for each in heard:
        about = each.about
        assert (about.limit, about.template, about.task) == ("import-a-1", "import-{account}", "imports")
        assert (about.permits, about.capacity, about.backend) == (2, 3, "MemoryBackend()")
        assert about.task_id == "id-of-imports"
        assert about.owner.startswith("id-of-imports:")
        assert not about.rate
    acquired, released = heard
    assert acquired.token == released.token is not None
    assert acquired.held is None
    assert released.held >= 0


def test_a_limit_that_a_function_names_goes_by_its_tasks_name(heard: list[News], task: Callable[..., Any]) -> None:
    for account in ("a", "b", "c"):
        task(account, name=lambda account: f"import-{account}")
    assert {each.about.limit for each in heard} == {"import-a", "import-b", "import-c"}
    assert {each.about.template for each in heard} == {"imports"}


def test_a_busy_task_is_told_of_as_its_limit_decides(heard: list[News], task: Callable[..., Any]) -> None:
    holder = Lock("import-a", backend=URL).acquire()
    heard.clear()
    assert task("a", on_busy="skip") is None
    assert isinstance(task("a", on_busy="raise"), LockBusy)
    assert isinstance(task("a", on_busy="wait", max_wait=0.1), LockTimeout)
    holder.release()
    assert kinds(heard) == ["skipped", "refused", "waiting", "timed_out", "released"]
    assert all(each.about.template == "import-{account}" for each in heard[:4])
    assert "is held by" in heard[0].reason


def test_who_waits_in_line_is_told_of_once_with_its_place(heard: list[News]) -> None:
    lock = Lock("report", backend=URL)
    with lock:
        heard.clear()
        waiter = threading.Thread(target=lambda: lock.acquire().release())
        waiter.start()
        assert eventually(lambda: "waiting" in kinds(heard), within=5)
    waiter.join()
    assert sorted(kinds(heard)) == ["acquired", "released", "released", "waiting"]
    waiting, acquired = (next(each for each in heard if each.kind == kind) for kind in ("waiting", "acquired"))
    assert waiting.place == 0
    assert waiting.about.owner == acquired.about.owner
    assert acquired.waited > 0


def test_a_lost_lease_is_told_of_once_and_not_as_released(heard: list[News]) -> None:
    lease = Lease(connect(URL), taken(connect(URL), "me", "lost", ttl=0.1))
    lease.end("it was frozen")
    lease.end("again")
    lease.release()
    assert kinds(heard) == ["lost"]
    assert heard[0].reason == "it was frozen"
    assert heard[0].held >= 0


def test_a_rate_limit_tells_of_its_starts(heard: list[News], monkeypatch: pytest.MonkeyPatch) -> None:
    app = local_app(monkeypatch, URL)

    @rate_limited("partner-{customer}", "1/h", on_busy="skip")
    def call(customer: str) -> str:
        return customer

    task = register(app, call, name="call")
    assert as_in_a_worker(app, task, "x") == "x"
    assert as_in_a_worker(app, task, "x") is None
    assert kinds(heard) == ["acquired", "skipped"]
    assert {(each.about.limit, each.about.template) for each in heard} == {("partner-x", "partner-{customer}")}
    assert all(each.about.rate for each in heard)


def test_a_listener_that_fails_harms_neither_task_nor_other_listeners(
    heard: list[News], task: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ran = []

    def fail(told: News) -> None:
        raise RuntimeError("listener")

    news.subscribe(fail)
    try:
        assert task("a", body=ran.append) is None
    finally:
        news.unsubscribe(fail)
    assert ran == ["a"]
    assert kinds(heard) == ["acquired", "released"]
    assert "acquired was not heard by" in caplog.text


def test_a_soft_time_limit_that_strikes_a_listener_still_reaches_the_task() -> None:
    class SoftLimitError(Exception):
        pass

    def strike(told: News) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def rise(number: int, frame: FrameType | None) -> None:
        raise SoftLimitError

    before = signal.signal(signal.SIGUSR1, rise)
    news.subscribe(strike, ["acquired"])
    try:
        with pytest.raises(SoftLimitError), Lock("struck", backend=URL):
            pytest.fail("it ran")
    finally:
        news.unsubscribe(strike)
        signal.signal(signal.SIGUSR1, before)
    Lock("struck", backend=URL).acquire(blocking=False).release()


def test_no_news_is_made_while_nobody_listens(task: Callable[..., Any]) -> None:
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_globals.get("__name__") == news.__name__:
            called.append(frame.f_code.co_name)

    task("warm-up")
    sys.setprofile(note)
    try:
        task("a")
        Semaphore("s", 2, backend=URL).acquire().release()
    finally:
        sys.setprofile(None)
    assert called == []
    assert news.watched[0] == 0


def test_forked_processes_see_that_somebody_asks_and_what_they_subscribe_stays_theirs() -> None:
    pid = os.fork()
    if pid == 0:
        news.subscribe(print, ["acquired"])
        news.unsubscribe(print, ["acquired"])
        os._exit(0 if eventually(news.asked, within=10) else 1)
    try:
        news.ask(True)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        news.ask(False)
        news.subscribe(print, ["acquired"])
        news.unsubscribe(print, ["acquired"])
    assert news.watched[0] == 0


def test_every_kind_but_the_renewals_has_one_line_with_stable_fields(
    task: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "tasklocks"):
        logs.follow()
        with Lock("import-b", backend=URL):
            task("a")
            task("b", on_busy="skip")
    logs.follow()
    lines = [each for each in caplog.records if each.name.startswith("tasklocks.") and each.tasklocks_task]
    assert [(each.name, each.levelname) for each in lines] == [
        ("tasklocks.acquired", "DEBUG"),
        ("tasklocks.released", "DEBUG"),
        ("tasklocks.skipped", "INFO"),
    ]
    assert all(each.tasklocks_limit in ("import-a", "import-b") for each in lines)
    assert all({f"tasklocks_{name}" for name in news.FACTS} <= vars(each).keys() for each in lines)
    assert lines[0].tasklocks_token == lines[1].tasklocks_token
    assert news.watched[0] == 0


def test_no_line_names_an_argument_or_a_password(
    task: Callable[..., Any], caplog: pytest.LogCaptureFixture, redis_database: str
) -> None:
    url = redis_database.replace("://", f"://default:{SECRET}@")
    with caplog.at_level(logging.DEBUG, "tasklocks"):
        logs.follow()
        task("a", backend=url)
        task("a")
    logs.follow()
    assert any(each.name == "tasklocks.acquired" for each in caplog.records)
    assert all(SECRET not in str(vars(each)) for each in caplog.records)


def test_a_signals_receiver_gets_every_fact_and_may_fail(task: Callable[..., Any]) -> None:
    got: list[dict[str, Any]] = []

    @signals.lock_acquired.connect(sender="imports")
    def note(sender: str, **facts: Any) -> None:
        got.append({"sender": sender, **facts})
        raise RuntimeError("receiver")

    @signals.lock_acquired.connect(sender="other")
    def never(**_: Any) -> None:
        got.append({})

    try:
        assert task("a") is None
    finally:
        signals.lock_acquired.disconnect(note, sender="imports")
        signals.lock_acquired.disconnect(never, sender="other")
    task("b")
    assert len(got) == 1
    assert got[0]["sender"] == "imports"
    assert set(news.FACTS) <= got[0].keys()
    assert news.watched[0] == 0


def test_a_failed_renewal_is_told_of_for_each_lease(heard: list[News], restartless: Backend) -> None:
    lease = Lease(restartless, taken(restartless, "me", "renewed", ttl=1))
    try:
        assert eventually(lambda: "unrenewed" in kinds(heard), within=5)
    finally:
        lease.release()
    assert heard[0].about.limit == "renewed"


@pytest.fixture
def restartless() -> Backend:
    """A backend whose renewals fail."""
    from tasklocks.backends.memory import MemoryBackend
    from tasklocks.errors import BackendUnavailable

    class Forgetful(MemoryBackend):
        def renew(self, grants: Any) -> Any:
            raise BackendUnavailable("away")

    return Forgetful("news-away")
