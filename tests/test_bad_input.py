"""Bad input is refused early, by an error that names the task, the setting and what would work; never with a secret."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tasklocks import BackendUnavailable, ConfigurationError, Lock, LockedTask, Semaphore, connect, locked
from tasklocks.backends import _BUILT_IN
from tasklocks.celery.conf import settings_of
from tasklocks.celery.worker import _check_worker, check_app
from tests.conftest import require
from tests.local import as_in_a_worker, local_app, register
from tests.processes import free_port
from tests.servers import RedisServer


@pytest.fixture
def app(new_backend_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that needs no server."""
    return local_app(monkeypatch, new_backend_url("memory"))


@pytest.mark.parametrize("backend", [42, b"redis://", object()])
def test_a_backend_that_is_none_is_refused(backend):
    with pytest.raises(ConfigurationError, match=r"^limit 'report': backend must be a URL or what connect returns"):
        Lock("report", backend=backend)


def test_a_class_without_a_name_is_named_in_full(app):
    class Nameless(LockedTask):
        def locked_run(self) -> None: ...

    with pytest.raises(
        ConfigurationError, match=r"^task tests\.test_bad_input\..*Nameless: a LockedTask needs lock_name"
    ):
        app.register_task(Nameless())


class Starting:
    """A worker that is about to start."""

    def __init__(self, app: Celery) -> None:
        self.app = app


def report(day: str) -> str:
    """The function that the decorator is put on, wrongly."""
    return day


def refusal(*args: Any, **options: Any) -> str:
    """What `@locked` says to options that cannot work; it says so before any call."""
    with pytest.raises(ConfigurationError) as caught:
        locked(*args, **options)(report)
    message = str(caught.value)
    assert message.startswith(f"{__name__}.report: "), message
    return message


NOT_A_NUMBER_OF_PERMITS = [0, -1, True, False, 2.0, 2.5, math.nan, math.inf, "3", None, [3]]


@pytest.mark.parametrize("capacity", NOT_A_NUMBER_OF_PERMITS)
def test_a_capacity_is_a_whole_number_of_at_least_one(capacity):
    expected = f"capacity must be a whole number of permits, at least 1, not {capacity!r}"
    assert expected in refusal("report", capacity)
    with pytest.raises(ConfigurationError, match=r"^limit 'report': capacity must be a whole number"):
        Semaphore("report", capacity, backend="memory://")


@pytest.mark.parametrize("permits", NOT_A_NUMBER_OF_PERMITS)
def test_permits_are_a_whole_number_of_at_least_one(permits):
    assert f"permits must be a whole number, at least 1, not {permits!r}" in refusal("report", 3, permits=permits)
    with pytest.raises(ConfigurationError, match=r"^limit 'report': permits must be a whole number"):
        Semaphore("report", 3, permits=permits, backend="memory://")


def test_more_permits_than_there_can_be_are_refused():
    assert "4 permits can never be free at once, the capacity is 3" in refusal("report", 3, permits=4)


@pytest.mark.parametrize("answer", NOT_A_NUMBER_OF_PERMITS)
def test_a_function_that_answers_no_capacity_is_named_with_its_task(answer, new_backend_url):
    guarded = locked("report", lambda: answer, backend=new_backend_url("memory"))(report)
    with pytest.raises(ConfigurationError, match=rf"^{__name__}\.report: capacity must be a whole number of permits"):
        guarded("monday")


@pytest.mark.parametrize("option", ["on_busy", "on_lost", "on_backend_error"])
@pytest.mark.parametrize("value", ["later", "", None, True, ["retry"]])
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(option, value):
    message = refusal("report", **{option: value})
    assert f"{option} must be one of '" in message
    assert f"not {value!r}" in message


@pytest.mark.parametrize("name", [None, 7, b"report", ["report"]])
def test_a_name_is_a_text_or_a_function(name):
    assert f"lock name must be a text, not {type(name).__name__}" in refusal(name)


def test_an_unknown_placeholder_is_named_with_what_there_is():
    assert "lock name 'report-{dya}' uses {dya}, which is not a parameter of (day)" in refusal("report-{dya}")


def test_a_name_of_ten_thousand_characters_is_refused_in_one_short_line():
    message = refusal("x" * 10_000)
    assert "has 10000 characters, 1000 are allowed" in message
    assert len(message) < 300


def test_an_argument_that_makes_no_key_is_refused_with_the_tasks_name(new_backend_url):
    guarded = locked("report-{day}", backend=new_backend_url("memory"))(report)
    for argument, why in [(object(), "has no stable text"), ({1}, "has no stable order"), ("x" * 10_000, "characters")]:
        with pytest.raises(ConfigurationError, match=rf"^{__name__}\.report: lock name .*{why}"):
            guarded(argument)


def test_an_argument_full_of_control_characters_and_braces_is_only_a_name(new_backend_url):
    url, seen = new_backend_url("memory"), []

    @locked("report-{day}", backend=url, on_busy="raise")
    def run(day: str) -> None:
        seen.append(connect(url).inspect("report-{x}:%00%0A}{").capacity)

    run("{x}:\x00\n}{")
    assert seen == [1]


WRONG_URLS = {
    "nosuch://user:hunter2@host": r"no backend for nosuch:// URLs; schemes: memory, sqlite, redis",
    "localhost:6379": r"a backend URL has the form scheme://…, this one does not; schemes: memory, sqlite, redis",
    "://user:hunter2@host": r"a backend URL has the form scheme://…",
    "sqlite://": r"names no file",
}


@pytest.mark.parametrize(("url", "message"), WRONG_URLS.items())
def test_a_wrong_url_is_named_by_where_it_stands(url, message, app, monkeypatch):
    assert f"{__name__}.report: backend: " in refusal("report", backend=url)
    with pytest.raises(ConfigurationError, match=rf"^limit 'report': backend: .*{message}"):
        Lock("report", backend=url)
    app.conf.tasklocks_url = url
    task = register(app, locked("report")(report), name="shop.report")
    with pytest.raises(ConfigurationError, match=rf"^task shop\.report: tasklocks_url: .*{message}"):
        check_app(app)
    with pytest.raises(ConfigurationError, match=rf"^{__name__}\.report: tasklocks_url: .*{message}"):
        task("monday")
    monkeypatch.setenv("TASKLOCKS_URL", url)
    with pytest.raises(ConfigurationError, match=rf"^limit 'report': TASKLOCKS_URL: .*{message}"):
        Lock("report")
    app.conf.tasklocks_url = None
    with pytest.raises(ConfigurationError, match=rf"^task shop\.report: TASKLOCKS_URL: .*{message}") as caught:
        check_app(app)
    assert "hunter2" not in str(caught.value)


def test_a_secret_in_a_wrong_url_is_never_shown():
    for url in WRONG_URLS:
        assert "hunter2" not in refusal("report", backend=url)


@pytest.mark.parametrize("url", [5, b"redis://x", ("redis://x",)])
def test_a_url_is_a_text(url):
    with pytest.raises(ConfigurationError, match=f"a backend URL must be a text, not {type(url).__name__}"):
        connect(url)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("tasklocks_prefix", 5, "must be a text, not int 5"),
        ("tasklocks_prefix", "", "is empty"),
        ("tasklocks_prefix", "two\nlines", "has control characters"),
        ("tasklocks_ttl", 0, "must be more than 0 s, not 0 s"),
        ("tasklocks_ttl", -1, "must be more than 0 s, not -1 s"),
        ("tasklocks_max_countdown", 5, "must be at least 15 s, not 5 s"),
        ("tasklocks_ttl", "30", "must be seconds or a timedelta, not '30'"),
        ("tasklocks_ttl", math.nan, "must be a finite number of seconds"),
        ("tasklocks_countdown", "soon", ".* must be seconds, a timedelta or a tenacity wait strategy, not 'soon'"),
        ("tasklocks_backend_options", ["timeout"], "must be a dict, not list"),
    ],
)
def test_a_wrong_setting_of_an_app_is_named(app, setting, value, message):
    app.conf[setting] = value
    with pytest.raises(ConfigurationError, match=rf"^{setting}:? {message}"):
        settings_of(app)


def test_an_option_that_the_backend_does_not_know_is_named(app, new_backend_url):
    app.conf.update(tasklocks_url=new_backend_url("sqlite"), tasklocks_backend_options={"time_out": 3})
    register(app, locked("report")(report), name="shop.report")
    with pytest.raises(ConfigurationError, match=r"task shop\.report: .*knows the option timeout, not time_out"):
        check_app(app)


def test_a_ttl_that_the_backend_cannot_keep_is_found_at_import_or_at_the_workers_start(app):
    message = "ttl is 0.001 s, this backend can keep 0.1 s at the least"
    assert message in refusal("report", ttl=0.001, backend="memory://")
    register(app, locked("report", ttl=0.001)(report), name="shop.report")
    with pytest.raises(ConfigurationError, match=rf"^task shop\.report: {message}"):
        check_app(app)


def test_an_apps_ttl_that_the_backend_cannot_keep_is_found_at_the_workers_start(app):
    app.conf.tasklocks_ttl = 0.001
    register(app, locked("report")(report), name="shop.report")
    with pytest.raises(ConfigurationError, match=r"^task shop\.report: ttl is 0\.001 s"):
        check_app(app)


def test_a_worker_that_could_not_lock_does_not_start(app):
    app.conf.tasklocks_url = "nosuch://host"
    register(app, locked("report")(report), name="shop.report")
    with pytest.raises(SystemExit, match=r"^tasklocks: task shop\.report: tasklocks_url: no backend for nosuch://"):
        _check_worker(sender=Starting(app))


def test_a_worker_whose_limits_can_work_starts(app):
    register(app, locked("report", ttl=0.5)(report), name="shop.report")
    register(app, report, name="shop.unlimited")
    _check_worker(sender=Starting(app))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lock_name": ""}, "a LockedTask needs lock_name"),
        ({"lock_name": "report-{dya}"}, r"lock name 'report-\{dya\}' uses \{dya\}"),
        ({"lock_capacity": 0}, "capacity must be a whole number"),
        ({"lock_permits": 2}, "2 permits can never be free at once, the capacity is 1"),
        ({"lock_ttl": -1}, "ttl must be more than 0 s, not -1 s"),
        ({"lock_countdown": "5"}, "countdown must be seconds"),
        ({"lock_max_wait": math.nan}, "max_wait must be a finite number"),
    ],
)
def test_a_wrong_attribute_of_a_locked_task_is_found_when_it_is_registered(app, wrong, message):
    attributes = {"name": "shop.report", "lock_name": "report", "locked_run": lambda self, day: day, **wrong}
    with pytest.raises(ConfigurationError, match=rf"^task shop\.report: {message}"):
        app.register_task(type("Report", (LockedTask,), attributes)())
    options = {"base": LockedTask, "name": "shop.other", "lock_name": "report", **wrong}
    with pytest.raises(ConfigurationError, match=rf"^task shop\.other: {message}"):
        register(app, report, **options)


@pytest.mark.parametrize("answer", [math.nan, math.inf, None, "5"])
def test_a_countdown_that_answers_no_time_fails_the_task_by_its_name(app, answer):
    task = register(app, locked("report", countdown=lambda state: answer)(report), name="shop.report")
    stranger = Lock("report", backend=connect(app.conf.tasklocks_url)).acquire()
    failure = as_in_a_worker(app, task, "monday")
    assert isinstance(failure, ConfigurationError)
    assert re.search(r"report\[id-of-shop\.report\]: what countdown answers must be ", str(failure))
    stranger.release()


def test_two_capacities_for_one_name_are_reported_once_and_the_newer_counts(new_backend_url, caplog):
    url = new_backend_url("memory")
    old = locked("disputed-in-tasks", 2, backend=url)(report)
    new = locked("disputed-in-tasks", 5, backend=url)(report)
    with caplog.at_level(logging.WARNING, logger="tasklocks"):
        for run in (old, new, old, new):
            run("monday")
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [
        "limit 'disputed-in-tasks': its capacity was 2, now it is 5; the newer one counts",
        "limit 'disputed-in-tasks': its capacity was 5, now it is 2; the newer one counts",
    ]
    assert connect(url).inspect("disputed-in-tasks").capacity == 5


def test_every_scheme_that_is_listed_has_a_backend_or_an_extra_to_install():
    assert all(extra or scheme in ("memory", "sqlite") for scheme, (_, extra) in _BUILT_IN.items())


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that asks for a password."""
    require(RedisServer)
    with RedisServer(tmp_path / "redis", "--requirepass", "the-right-one") as server:
        yield server


@pytest.mark.parametrize("credentials", ["", ":hunter2@", "nobody:hunter2@"])
def test_a_wrong_password_stops_the_workers_start_and_is_never_shown(app, guarded_redis, credentials, caplog):
    place = f"127.0.0.1:{guarded_redis.port}/0"
    app.conf.tasklocks_url = f"redis://{credentials}{place}"
    task = register(app, locked("report")(report), name="shop.report")
    with pytest.raises(SystemExit) as stopped:
        _check_worker(sender=Starting(app))
    assert re.match(rf"tasklocks: task shop\.report: tasklocks_url: redis://{place} refuses", str(stopped.value))
    with pytest.raises(BackendUnavailable, match=rf"redis://{place} refuses") as in_a_call:
        task("monday")
    with pytest.raises(ConfigurationError, match=rf"redis://{place} refuses") as in_a_lock:
        Lock("report", backend=app.conf.tasklocks_url).acquire()
    shown = [*map(str, (stopped.value, in_a_call.value, in_a_lock.value)), repr(connect(app.conf.tasklocks_url))]
    assert "hunter2" not in " ".join([*shown, caplog.text])


def test_the_right_password_starts_the_worker(app, guarded_redis):
    app.conf.tasklocks_url = f"redis://:the-right-one@127.0.0.1:{guarded_redis.port}/0"
    task = register(app, locked("report")(report), name="shop.report")
    _check_worker(sender=Starting(app))
    assert task("monday") == "monday"
    connect(app.conf.tasklocks_url).close()


def test_a_server_that_is_down_does_not_stop_the_workers_start(app, caplog):
    app.conf.tasklocks_url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    task = register(app, locked("report")(report), name="shop.report")
    _check_worker(sender=Starting(app))
    assert "limited tasks wait until their backend answers: redis://127.0.0.1:" in caplog.text
    with pytest.raises(BackendUnavailable) as caught:
        task("monday")
    assert "hunter2" not in caplog.text + str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2@host:port/0", "redis://:hunter2@host/zero", "redis://:hunter2@host/0?time_out=3"],
)
def test_a_malformed_redis_url_is_refused_with_the_task_and_without_its_password(url):
    assert "hunter2" not in refusal("report", backend=url)


def test_an_option_that_redis_does_not_know_is_named(app, redis_url):
    app.conf.update(tasklocks_url=redis_url, tasklocks_backend_options={"time_out": 3})
    register(app, locked("report")(report), name="shop.report")
    with pytest.raises(ConfigurationError, match=r"^task shop\.report: tasklocks_url: .*time_out"):
        check_app(app)
