"""`@locked` changes when a function runs and nothing else about it; what it cannot keep it refuses at import."""

from __future__ import annotations

import functools
import inspect
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from celery import Celery, Task, shared_task

from tasklocks import ConfigurationError, Lease, Lock, LockBusy, connect, current_lease, locked
from tasklocks.backends import Backend
from tasklocks.celery.marks import limits_of
from tasklocks.leases import held_leases
from tests.local import local_app, register
from tests.processes import eventually


@pytest.fixture
def app(new_backend_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that needs no worker."""
    return local_app(monkeypatch, new_backend_url("memory"))


@pytest.fixture
def backend(app: Celery) -> Backend:
    return connect(app.conf.tasklocks_url)


def held_here() -> str:
    """The names of the limits that are held where this is called, outermost first."""
    return " ".join(lease.name for lease in held_leases())


@locked("at-module-level-{day}")
def report(day: str, /, *pages: int, paper: str = "A4", **more: Any) -> str:
    """Write the report of a day."""
    return held_here()


def test_name_signature_docstring_and_types_stay():
    original = report.__wrapped__
    assert report.__name__ == "report"
    assert report.__qualname__ == "report"
    assert report.__module__ == __name__
    assert report.__doc__ == "Write the report of a day."
    assert inspect.signature(report) == inspect.signature(original)
    assert inspect.get_annotations(report) == inspect.get_annotations(original)
    assert original("monday") == ""
    assert report("monday") == "at-module-level-monday"


def test_a_locked_function_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(report)) is report


def test_arguments_of_every_kind_arrive_and_the_answer_comes_back(app):
    seen = []

    @locked("{a}-{b}-{c}-{d}")
    def run(a: int, /, b: int, *rest: int, c: int, d: int = 4, **more: int) -> Any:
        seen.append((a, b, rest, c, d, more))
        return held_here()

    assert run(1, 2, 3, c=3, e=5) == "1-2-3-4"
    assert run(1, b=2, c=3, d=5) == "1-2-3-5"
    assert seen == [(1, 2, (3,), 3, 4, {"e": 5}), (1, 2, (), 3, 5, {})]


def test_a_wrong_call_is_the_type_error_that_it_always_was_and_takes_no_lease(app, backend):
    @locked("report")
    def run(day: str) -> None: ...

    with pytest.raises(TypeError, match="day"):
        run()
    with pytest.raises(TypeError, match="nights"):
        run("monday", nights=2)
    assert backend.inspect("report").holders == ()


def test_celery_still_checks_arguments_when_a_task_is_sent(app):
    task = register(app, locked("report-{day}")(plain), name="report")
    with pytest.raises(TypeError, match="day"):
        task.apply_async(())
    with pytest.raises(TypeError, match="nights"):
        task.apply_async(("monday",), {"nights": 2})


def plain(day: str) -> str:
    """A body with a name of its own."""
    return held_here()


def test_a_task_keeps_its_own_name_and_text(app):
    task = app.task(locked("report")(plain), shared=False)
    app.finalize()
    assert task.name == f"{__name__}.plain"
    assert task.__doc__ == plain.__doc__


@pytest.mark.parametrize("bind", [False, True])
def test_with_and_without_bind_a_task_has_the_same_limits(app, bind):
    def unbound(day: str, paper: str = "A4") -> str:
        return held_here()

    def bound(self: Task, day: str, paper: str = "A4") -> str:
        assert self.name == "report"
        return held_here()

    body = locked("first-{day}")(locked(lambda day, paper="A4": f"second-{day}-{paper}")(bound if bind else unbound))
    task = register(app, body, bind=bind, name="report")
    assert task("monday") == "first-monday second-monday-A4"
    assert task.apply(("monday",), {"paper": "A3"}).get() == "first-monday second-monday-A3"


def test_a_bound_task_may_use_itself_in_its_name(app):
    def body(self: Task) -> str:
        return held_here()

    task = register(app, locked("run-{self.name}-{self.request.id}")(body), bind=True, name="report")
    assert task.apply(task_id="an-id").get() == "run-report-an-id"


def test_stacked_limits_are_taken_from_the_outside_and_found_behind_the_task(app):
    body = locked("a")(locked("b", 2)(locked("c")(plain)))
    task = register(app, body, name="report")
    assert task("monday") == "a b c"
    assert [spec.key((), {}) for spec in limits_of(task)] == ["a", "b", "c"]
    assert [spec.capacity for spec in limits_of(task)] == [1, 2, 1]


def test_the_same_limit_stacked_twice_says_that_it_blocks_itself(app):
    task = register(app, locked("a")(locked("a")(plain)), name="report")
    with pytest.raises(LockBusy, match="held by the very caller"):
        task("monday")


def shouted(function: Callable[..., str]) -> Callable[..., str]:
    """Someone else's decorator."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return function(*args, **kwargs).upper()

    return wrapper


def test_other_decorators_may_stand_above_and_below(app):
    below = register(app, locked("below-{day}")(shouted(plain)), name="below")
    above = register(app, shouted(locked("above-{day}")(plain)), name="above")
    assert below("monday") == "BELOW-MONDAY"
    assert above("monday") == "ABOVE-MONDAY"
    assert [spec.key(("monday",), {}) for spec in limits_of(above)] == ["above-monday"]


def test_a_cached_function_may_be_locked():
    assert locked("cached-{day}")(functools.lru_cache(plain))("monday") == "cached-monday"


class Shop:
    """Methods, of each kind."""

    def __init__(self, id: int) -> None:
        self.id = id

    @locked("shop-{self.id}-{day}")
    def open(self, day: str) -> str:
        return held_here()

    @locked(lambda self, day: f"made-for-{self.id}-{day}")
    def close(self, day: str) -> str:
        return held_here()

    @classmethod
    @locked("class-{day}")
    def count(cls, day: str) -> str:
        return f"{cls.__name__} {held_here()}"

    @staticmethod
    @locked("static-{day}")
    def clean(day: str) -> str:
        return held_here()


def test_methods_of_each_kind_can_be_locked():
    assert Shop(7).open("monday") == "shop-7-monday"
    assert Shop(8).close(day="monday") == "made-for-8-monday"
    assert Shop.count("monday") == "Shop class-monday"
    assert Shop.clean("monday") == Shop(1).clean("monday") == "static-monday"


async def coroutine() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [coroutine, async_generator])
def test_an_async_function_is_refused_for_it_would_run_unlocked(function):
    with pytest.raises(ConfigurationError, match=rf"{function.__name__}: an async function cannot be locked"):
        locked("report")(function)


def test_a_generator_is_refused_for_it_would_run_unlocked():
    with pytest.raises(ConfigurationError, match=r"generator: a generator cannot be locked, .* lock what consumes it"):
        locked("report")(generator)


@pytest.mark.parametrize(
    "thing",
    [
        Shop,
        Shop(1),
        functools.partial(plain, "monday"),
        staticmethod(plain),
        classmethod(plain),
        "report",
        None,
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(ConfigurationError, match="@locked goes on a function"):
        locked("report")(thing)


def test_a_decorator_without_its_parentheses_is_refused_and_not_taken_for_a_name():
    with pytest.raises(ConfigurationError):
        locked(plain)("monday")


def test_the_wrong_order_is_refused_and_names_the_task(app):
    for task in (app.task(plain, name="app-task", shared=False), shared_task(plain, name="shared-task")):
        with pytest.raises(ConfigurationError, match=r"^task (app|shared)-task: put @locked below @app\.task"):
            locked("report")(task)


def test_a_shared_task_locks_where_the_app_that_runs_it_says(new_backend_url):
    @shared_task(name="shared-report")
    @locked("shared-{day}")
    def shared(day: str) -> Lease:
        return current_lease()

    apps = [Celery(f"shared-{n}", set_as_current=False) for n in range(2)]
    for app in apps:
        app.conf.tasklocks_url = new_backend_url("memory")
        app.finalize()
        assert app.tasks["shared-report"]("monday").backend is connect(app.conf.tasklocks_url)


def test_two_apps_with_two_prefixes_do_not_meet_and_with_one_they_do(new_backend_url):
    url = new_backend_url("memory")
    apps = [Celery(f"prefix-{n}", set_as_current=False) for n in range(3)]
    for app, prefix in zip(apps, ["ours", "theirs", "ours"], strict=True):
        app.conf.update(tasklocks_url=url, tasklocks_prefix=prefix)
    first, second, third = (register(app, locked("report")(plain), name="report") for app in apps)
    lease = Lock("report", backend=connect(url, prefix="ours")).acquire()
    assert second("monday") == "report"
    for task in (first, third):
        with pytest.raises(LockBusy):
            task("monday")
    lease.release()
    assert third("monday") == "report"


def test_a_capacity_that_is_a_function_is_asked_at_each_call(app):
    capacity = [1]
    task = register(app, locked("report", lambda: capacity[0])(plain), name="report")
    lease = Lock("report", backend=connect(app.conf.tasklocks_url)).acquire()
    with pytest.raises(LockBusy):
        task("monday")
    capacity[0] = 2
    assert task("monday") == "report"
    lease.release()


def test_the_options_reach_the_lease(app, backend):
    seen: list[Any] = []

    @locked("report", 5, permits=3, ttl=7)
    def body() -> None:
        seen.append((current_lease().permits, current_lease().grant.ttl, backend.inspect("report").capacity))

    register(app, body, name="report")()
    assert seen == [(3, 7.0, 5)]


def test_the_apps_ttl_counts_where_the_task_says_none(app):
    def ttl_here() -> float:
        return current_lease().grant.ttl

    app.conf.tasklocks_ttl = 12
    assert register(app, locked("own", ttl=3)(ttl_here), name="own")() == 3
    assert register(app, locked("apps")(ttl_here), name="apps")() == 12


def test_at_least_keeps_the_permit_after_a_short_run(app, backend):
    task = register(app, locked("report", at_least=0.4)(plain), name="report")
    began = time.monotonic()
    assert task("monday") == "report"
    with pytest.raises(LockBusy):
        task("monday")
    assert eventually(lambda: backend.inspect("report").holders == (), within=5)
    assert time.monotonic() - began >= 0.4


def test_max_hold_ends_the_lease_of_a_run_that_takes_too_long(app, backend, caplog):
    @locked("report", ttl=30, max_hold=0.2)
    def body() -> bool:
        lease = current_lease()
        return eventually(lambda: lease.lost, within=5)

    assert register(app, body, name="report")() is True
    assert "longer than max_hold" in caplog.text
    assert backend.inspect("report").holders == ()
