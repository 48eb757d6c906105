"""`@rate_limited`: when a function starts, where it waits, and what it carries; real workers are in celery_e2e."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
from billiard.einfo import ExceptionWithTraceback
from celery import Celery, Task
from celery.app.trace import build_tracer
from celery.exceptions import Retry
from celery.worker.request import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.message import Message

from tasklocks import (
    BackendUnavailable,
    ConfigurationError,
    Lock,
    LockBusy,
    LockedTask,
    LockTimeout,
    RateLimit,
    connect,
    current_lease,
    locked,
    rate_limited,
)
from tasklocks.celery.early import GONE, Desk, only_rate
from tasklocks.celery.later import due_in, later_queue
from tasklocks.celery.marks import limits_of
from tasklocks.celery.waited import Booked, Waited, read, written
from tasklocks.rates import RateState
from tasklocks.types import Pace, Slot
from tests.local import local_app, register

DOWN = "redis://127.0.0.1:1/0"
NOW = 1_800_000_000.0


@pytest.fixture(params=["memory", "sqlite"])
def app(request, new_backend_url, monkeypatch) -> Celery:
    """An app that needs no worker."""
    return local_app(monkeypatch, new_backend_url(request.param))


def run(*_: Any) -> str:
    return "ran"


def bound(self: Task, name: str = "") -> str:
    return "ran"


def free_in(app: Celery, name: str, rate: str) -> float:
    """When the next start of a limit would be; reserves it."""
    return RateLimit(name, rate, backend=connect(app.conf.tasklocks_url)).reserve()


@contextmanager
def held(app: Celery, name: str) -> Iterator[None]:
    """Keep a lock busy, as somebody else would."""
    lease = Lock(name, backend=connect(app.conf.tasklocks_url)).acquire()
    yield
    lease.release()


def deliver(app: Celery, task: Task, *args: Any, mark: Any = None) -> Any:
    """Run a task as a worker's process does, with what its message carries; an error is returned."""
    request = {"id": "the-id", "delivery_info": {}, "is_eager": False, "utc": True}
    if mark is not None:
        request["tasklocks"] = mark
    answer = build_tracer(task.name, task, app=app)(request["id"], args, {}, request).retval
    error = getattr(answer, "exception", answer)
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def mark_of(retry: Retry) -> Any:
    """What the message carries that was sent instead."""
    assert isinstance(retry, Retry)
    return retry.sig.options["headers"]["tasklocks"]


def test_name_signature_docstring_and_types_stay():
    def call(customer: str, /, *orders: int, paper: str = "A4") -> str:
        """Call a customer."""
        return customer

    limited = rate_limited("partner", "100/m")(call)
    assert (limited.__name__, limited.__doc__, limited.__wrapped__) == ("call", "Call a customer.", call)
    assert inspect.signature(limited) == inspect.signature(call)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "10/fortnight"}, "10/fortnight"),
        ({"rate": "0/s"}, "nothing could ever start"),
        ({"rate": []}, "no rate"),
        ({"rate": "5/s", "burst": 0}, "burst"),
        ({"rate": "5/s", "burst": 2, "cost": 3}, "can never be"),
        ({"rate": "5/s", "algorithm": "sliding", "cost": 6}, "can never be"),
        ({"rate": "5/s", "cost": -1}, "cost"),
        ({"rate": lambda: "5/s", "cost": "much"}, "cost"),
        ({"rate": "5/s", "algorithm": "leaky"}, "algorithm"),
        ({"rate": "5/s", "timezone": "Mars"}, "time zone"),
        ({"rate": "5/s", "max_wait": -1}, "max_wait"),
        ({"rate": "5/s", "on_busy": "sleep"}, "on_busy"),
        ({"rate": "5/s", "on_backend_error": "hope"}, "on_backend_error"),
        ({"rate": "5/s", "backend": "nosuch://x"}, "nosuch"),
        ({"rate": "5/s", "name": "partner-{nobody}"}, "nobody"),
    ],
)
def test_a_mistake_fails_at_import_and_names_the_function(options, message):
    with pytest.raises(ConfigurationError, match=rf"(?s)call_partner.*{message}"):

        @rate_limited(**{"name": "partner", **options})
        def call_partner(customer): ...


def test_it_goes_below_the_tasks_decorator(app):
    task = register(app, rate_limited("partner", "1/s")(run), name="above")
    with pytest.raises(ConfigurationError, match=r"put @rate_limited below @app\.task"):
        rate_limited("partner", "1/s")(task)


def test_a_direct_call_does_not_wait_unless_told(app):
    call = rate_limited("api", "1/h")(run)
    assert call() == "ran"
    with pytest.raises(
        LockBusy, match=r"rate limit 'api' \(1 in 3600 s\): the next start is in 3\d{3}\.\d s"
    ) as caught:
        call()
    assert not isinstance(caught.value, LockTimeout)
    assert caught.value.name == "api"


def test_a_direct_call_waits_up_to_its_bound_and_reserves_nothing_beyond(app):
    patient = rate_limited("api", "10/s", max_wait=1)(lambda: time.monotonic())
    assert patient() <= patient() - 0.09
    impatient = rate_limited("slow", "1/h", max_wait=1)(run)
    assert impatient() == "ran"
    for _ in range(3):
        with pytest.raises(LockTimeout, match="it may wait for 1 s"):
            impatient()
    assert free_in(app, "slow", "1/h") <= 3600


@pytest.mark.parametrize("eager", ["apply", "always_eager"])
def test_eager_mode_never_recurses(eager, app):
    app.conf.task_always_eager = eager == "always_eager"
    task = register(app, rate_limited("api", "1/h")(run), name="eager")
    call = task.apply if eager == "apply" else task.delay
    assert call().get() == "ran"
    with pytest.raises(LockBusy, match="rate limit"):
        call().get()


def test_names_and_costs_come_from_the_call_with_and_without_bind(app):
    def bound(self: Task, customer: str, points: int = 1) -> str: ...

    def unbound(customer: str, points: int = 1) -> str: ...

    limit = rate_limited("api-{customer}", "1/s", cost=lambda customer, points=1: points, max_wait=0)
    for function, bind in ((bound, True), (unbound, False)):
        task = register(app, limit(function), name=f"task-{bind}", bind=bind)
        task(str(bind), points=30)
        assert free_in(app, f"api-{bind}", "1/s") == pytest.approx(30, abs=1)


def test_a_cost_that_can_never_be_fails_the_call(app):
    call = rate_limited("api", "5/s", burst=3, cost=lambda points: points)(lambda points: None)
    with pytest.raises(ConfigurationError, match="costs 4 can never be, 3 are allowed"):
        call(4)


def test_a_rate_may_change_while_it_is_used(app):
    rate = ["1000/s"]
    call = rate_limited("api", lambda: rate[0])(run)
    assert call() == "ran"
    rate[0] = "1/never"
    with pytest.raises(ConfigurationError, match="1/never"):
        call()


def test_skip_ends_without_running_and_raise_fails(app):
    skipping = register(app, rate_limited("a", "1/h", on_busy="skip")(run), name="skip")
    raising = register(app, rate_limited("b", "1/h", on_busy="raise")(run), name="raise")
    assert [deliver(app, skipping) for _ in range(2)] == ["ran", None]
    assert deliver(app, raising) == "ran"
    assert isinstance(deliver(app, raising), LockBusy)


# In a worker.


def test_a_task_that_must_wait_is_sent_again_once_for_exactly_its_start(app):
    task = register(app, rate_limited("api", "2/m")(run), name="paced")
    assert deliver(app, task) == "ran"
    waits = [deliver(app, task) for _ in range(3)]
    assert [wait.when for wait in waits] == pytest.approx([30, 60, 90], abs=1)
    assert all(isinstance(wait.exc, LockBusy) and "rate limit 'api'" in str(wait.exc) for wait in waits)
    [[name, start, made, late]] = mark_of(waits[0])["slots"]
    assert (name, late) == ("api", False)
    assert start - made == pytest.approx(30, abs=1)


def test_a_task_that_comes_back_runs_without_reserving_again(app):
    task = register(app, rate_limited("api", "10/s")(run), name="paced")
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    time.sleep(0.1)
    assert deliver(app, task, mark=mark) == "ran"
    assert free_in(app, "api", "10/s") < 0.11, "the third start was free"


def test_a_task_that_comes_back_too_early_goes_away_for_the_rest(app):
    task = register(app, rate_limited("api", "2/m")(run), name="paced")
    deliver(app, task)
    first = deliver(app, task)
    again = deliver(app, task, mark=mark_of(first))
    assert mark_of(again) == mark_of(first)
    assert again.when == pytest.approx(30, abs=1)
    assert free_in(app, "api", "2/m") == pytest.approx(60, abs=1)


def test_a_pause_shifts_those_who_wait(app):
    task = register(app, rate_limited("api", "2/m")(run), name="paced")
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    RateLimit("api", "2/m", backend=connect(app.conf.tasklocks_url)).pause(100)
    assert deliver(app, task, mark=mark).when == pytest.approx(130, abs=2)


def test_a_wait_beyond_its_bound_fails_at_once_and_reserves_nothing(app):
    task = register(app, rate_limited("api", "1/m", max_wait=30)(run), name="bounded")
    deliver(app, task)
    for _ in range(3):
        refused = deliver(app, task)
        assert isinstance(refused, LockTimeout)
        assert "the next start is in" in str(refused)
        assert "bounded" in str(refused) or "the-id" in str(refused)
    assert free_in(app, "api", "1/m") <= 60


def test_a_short_wait_is_waited_for_in_place(app):
    task = register(app, rate_limited("api", "100/s")(run), name="short")
    assert [deliver(app, task) for _ in range(5)] == ["ran"] * 5


def test_the_header_of_a_waiting_task_is_not_seen_by_its_body_nor_kept_by_its_own_retry(app):
    @rate_limited("api", "20/s")
    def body(self):
        raise self.retry(countdown=0)

    task = register(app, body, name="retrying", bind=True)
    first = deliver(app, task)
    assert "tasklocks" not in (first.sig.options.get("headers") or {})


# When a message arrives, before it is in the pool.


class Arrivals:
    """What the worker's main process is told about messages that have just come."""

    def __init__(self, app: Celery) -> None:
        self.answers: SimpleQueue[tuple[Request, Any]] = SimpleQueue()
        self.desk = Desk(app, lambda *answer: self.answers.put(answer))

    def ask(self, task: Task, **headers: Any) -> tuple[Request, Any]:
        self.desk.ask(message_of(task, **headers), only_rate(task))
        return self.answers.get(timeout=10)


@pytest.fixture
def arrivals(app) -> Iterator[Arrivals]:
    made = Arrivals(app)
    yield made
    made.desk.close()


def message_of(task: Task, **headers: Any) -> Request:
    headers = {"id": "the-id", "task": task.name, "lang": "py", **headers}
    body = json.dumps([[], {}, {}])
    message = Message(body, headers=headers, content_type="application/json", content_encoding="utf-8", properties={})
    return Request(message, app=task.app, task=task, body=body, headers=headers, utc=True)


def slots_of(request: Request) -> list[Any]:
    return request.request_dict.get("tasklocks", {}).get("slots", [])


def test_a_start_that_is_soon_is_reserved_on_arrival_and_travels_to_the_pool(app, arrivals):
    task = register(app, rate_limited("api", "1/s")(run), name="paced")
    (first, now), (second, later) = arrivals.ask(task), arrivals.ask(task)
    assert (now, later) == (0.0, pytest.approx(1, abs=0.3))
    assert [slots[0][0] for slots in (slots_of(first), slots_of(second))] == ["api", "api"]
    assert deliver(app, task, mark=first.request_dict["tasklocks"]) == "ran"


def test_a_start_that_is_far_away_is_sent_back_to_the_broker_with_its_reservation(app, arrivals):
    app.conf.broker_url = "memory://"
    home = app.conf.task_default_queue
    task = register(app, rate_limited("api", "1/m")(run), name="paced")
    arrivals.ask(task)
    request, answer = arrivals.ask(task)
    assert answer > 50, "nobody knows the queue of a message without a route, so it is held"
    request.delivery_info.update(exchange="", routing_key=home)
    arrivals.desk.ask(request, only_rate(task))
    assert arrivals.answers.get(timeout=10)[1] is GONE
    with app.connection_for_read() as connection:
        message = later_queue(home, 40)(connection.channel()).get()
    assert message.headers["tasklocks"] == request.request_dict["tasklocks"]
    assert (message.headers["id"], message.body) == ("the-id", request.message.body.encode())
    assert due_in(message.headers) == pytest.approx(120, abs=2)


@pytest.mark.parametrize("options", [{"on_busy": "skip"}, {"on_busy": "wait"}, {"on_busy": "raise"}], ids=str)
def test_what_does_not_come_back_is_not_reserved_on_arrival(options, app):
    assert only_rate(register(app, rate_limited("api", "1/s", **options)(run), name="paced")) is None


def test_a_start_beyond_the_tasks_bound_is_left_to_the_pool_where_it_fails(app, arrivals):
    task = register(app, rate_limited("api", "1/m", max_wait=5)(run), name="paced")
    deliver(app, task)
    request, answer = arrivals.ask(task)
    assert (slots_of(request), answer) == ([], None)
    assert free_in(app, "api", "1/m") <= 60


def test_a_task_with_a_lock_or_several_rates_reserves_nothing_on_arrival(app):
    assert only_rate(register(app, locked("lock")(rate_limited("api", "1/s")(run)), name="both")) is None
    assert only_rate(register(app, rate_limited("a", "1/s")(rate_limited("b", "1/s")(run)), name="two")) is None


def test_a_bound_task_names_its_limit_by_its_own_request_on_arrival(app, arrivals):
    task = register(app, rate_limited("api-{self.request.id}", "1/s")(bound), name="bound", bind=True)
    assert slots_of(arrivals.ask(task, id="one")[0])[0][0] == "api-one"


def test_a_wrong_call_and_a_backend_that_does_not_answer_are_left_to_the_pool(app, arrivals):
    wrong = register(app, rate_limited("api-{name.nothing}", "1/s")(bound), name="wrong", bind=True)
    down = register(app, rate_limited("api", "1/s", backend=DOWN)(run), name="down")
    for task in (wrong, down):
        request, answer = arrivals.ask(task)
        assert (slots_of(request), answer) == ([], None)


# Together with locks, and with other rates.


@pytest.mark.parametrize("order", ["lock above", "rate above"])
def test_no_start_is_used_up_while_a_lock_is_busy(order, app):
    decorators = [locked("lock", countdown=1), rate_limited("api", "1/h")]
    function: Any = run
    for decorate in decorators if order == "rate above" else reversed(decorators):
        function = decorate(function)
    task = register(app, function, name="both")
    assert len(limits_of(task)) == 2
    with held(app, "lock"):
        assert mark_of(deliver(app, task)).get("slots") is None
    assert deliver(app, task) == "ran"


def test_a_task_that_waits_for_its_start_gives_its_lock_back_and_keeps_its_start_while_the_lock_is_busy(app):
    task = register(app, locked("lock", countdown=1)(rate_limited("api", "2/m")(run)), name="both")
    backend = connect(app.conf.tasklocks_url)
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    assert backend.inspect("lock").holders == ()
    with held(app, "lock"):
        assert mark_of(deliver(app, task, mark=mark))["slots"] == mark["slots"]


def test_several_rates_have_one_retry_time_the_latest(app):
    task = register(app, rate_limited("a", "60/m")(rate_limited("b", "2/m")(run)), name="two")
    deliver(app, task)
    wait = deliver(app, task)
    assert wait.when == pytest.approx(30, abs=1)
    assert {name for name, *_ in mark_of(wait)["slots"]} == {"a", "b"}


def test_if_one_of_several_rates_refuses_nothing_is_reserved(app):
    task = register(app, rate_limited("a", "1/m")(rate_limited("b", "1/h", max_wait=5)(run)), name="two")
    deliver(app, task)
    assert isinstance(deliver(app, task), LockTimeout)
    assert free_in(app, "a", "1/m") <= 60


def test_the_function_of_a_locked_task_has_its_rates(app):
    function = rate_limited("api", "1/h")(run)
    task = register(app, function, name="based", base=LockedTask, lock_name="lock")
    assert deliver(app, task) == "ran"
    assert deliver(app, task).when > 3000


def test_a_limited_function_inside_a_task_waits_in_place_or_fails_and_is_never_sent(app):
    inner = rate_limited("api", "1/h")(run)

    def outer():
        return inner()

    task = register(app, outer, name="outer")
    assert deliver(app, task) == "ran"
    assert isinstance(deliver(app, task), LockBusy)


# Pausing from inside.


def test_a_task_pauses_its_own_limit(app):
    @rate_limited("outer", "100/s")
    @rate_limited("inner", "100/s")
    def call(name):
        current_lease().pause(60, name) if name else current_lease().pause(60)

    call(None)
    assert free_in(app, "inner", "100/s") == pytest.approx(60, abs=1)
    assert free_in(app, "outer", "100/s") < 1
    RateLimit("inner", "100/s", backend=connect(app.conf.tasklocks_url)).resume()
    time.sleep(0.05)
    call("outer")
    assert free_in(app, "outer", "100/s") == pytest.approx(60, abs=1)


def test_under_a_lock_and_a_rate_the_lease_is_the_locks_and_pauses_the_rate(app):
    @rate_limited("api", "100/s")
    @locked("lock")
    def call():
        lease = current_lease()
        lease.pause(60)
        return lease.name, lease.fencing_token > 0

    assert call() == ("lock", True)
    assert free_in(app, "api", "100/s") == pytest.approx(60, abs=1)


def test_under_a_rate_alone_the_lease_is_never_lost_and_has_no_token(app):
    @rate_limited("api", "100/s")
    def call():
        with current_lease() as lease, Lock("api", backend=connect(app.conf.tasklocks_url)):
            assert current_lease() is not lease
            lease.check()
            lease.renew()
            with pytest.raises(ConfigurationError, match="no fencing token"):
                _ = lease.fencing_token
        return lease

    lease = call()
    assert (lease.name, lease.lost, lease.release()) == ("api", False, False)
    assert lease.expires_in() > 1e9
    assert current_lease() is None


def test_what_is_under_no_rate_cannot_pause_and_the_error_says_what_there_is(app):
    with Lock("lock", backend=connect(app.conf.tasklocks_url)) as lease:
        with pytest.raises(ConfigurationError, match="what runs here is under: none"):
            lease.pause(1)
        call = rate_limited("api", "100/s")(lambda: lease.pause(1, "other"))
        with pytest.raises(ConfigurationError, match=r"rate limit 'other' .* is under: 'api'"):
            call()


# A backend that does not answer.


@pytest.mark.parametrize("bind", [False, True])
def test_without_a_backend_a_task_waits_raises_or_runs_as_it_is_told(bind, app):
    def task(choice: str) -> Task:
        limit = rate_limited("api", "1/s", on_backend_error=choice, backend=DOWN)
        return register(app, limit(run), name=choice, bind=bind)

    assert deliver(app, task("run")) == "ran"
    assert isinstance(deliver(app, task("raise")), BackendUnavailable)
    away = deliver(app, task("retry"))
    assert isinstance(away, Retry)
    assert "not usable" in str(away.exc)
    with pytest.raises(BackendUnavailable):
        rate_limited("api", "1/s", backend=DOWN)(run)()
    assert rate_limited("api", "1/s", backend=DOWN, on_backend_error="run")(run)() == "ran"


# What travels in the header.


def test_what_is_written_into_the_header_is_read_from_it():
    waited = Waited(3, 5.5, (Booked("a", 10.25, 9.0), Booked("b", 11.0, 9.0, late=True)))
    assert read({"tasklocks": written(waited)}) == waited
    assert read({"tasklocks": written(Waited())}) == Waited()


@pytest.mark.parametrize(
    "slots", [7, "x", [7], [["a"]], [["a", 1, "2", False]], [["a", float("nan"), 1, False]], [[1, 2, 3, False]], {}]
)
def test_nonsense_in_the_header_counts_as_nothing(slots):
    assert read({"tasklocks": {"times": 1, "since": None, "slots": slots}}) == Waited(1)


@pytest.mark.parametrize("since", ["x", [7], float("nan"), float("inf")])
def test_nonsense_about_the_wait_counts_as_nothing(since):
    assert read({"tasklocks": {"times": 1, "since": since}}) == Waited(1)


# Tasks that come late.


def test_who_comes_late_goes_through_a_line_at_the_same_pace():
    state, paces = RateState(), [Pace(10, 1)]
    slots = [state.reserve(paces, 1, NOW, None) for _ in range(20)]
    late = [state.begin(paces, 1, slot, NOW + 60, 0.25) for slot in slots]
    assert [slot.start - NOW - 60 for slot in late] == pytest.approx([number / 10 for number in range(20)], abs=1e-5)


def test_who_comes_in_time_while_the_late_ones_start_joins_them():
    state, paces = RateState(), [Pace(10, 1)]
    slots = [state.reserve(paces, 1, NOW, None) for _ in range(31)]
    at = slots[30].start
    assert state.begin(paces, 1, slots[30], at, 0.25).wait == 0, "nobody is late"
    for slot in slots[:5]:
        state.begin(paces, 1, slot, at, 0.25)
    assert state.begin(paces, 1, slots[30], at, 0.25).wait == pytest.approx(0.5, abs=1e-5)
    assert state.begin(paces, 1, slots[30], at + 0.75, 0.8).wait == 0, "the line is over"


def test_a_late_start_of_a_quota_is_lost():
    state, paces = RateState(), [Pace(10, 60, algorithm="sliding")]
    slot = state.reserve(paces, 1, NOW, None)
    assert state.begin(paces, 1, slot, NOW + 1, 6) is not None
    assert state.begin(paces, 1, slot, NOW + 7, 6) is None


@settings(deadline=None, max_examples=100)
@given(delays=st.lists(st.sampled_from([0.0, 0.01, 0.2, 0.3, 2.0, 9.0]), min_size=5, max_size=60))
def test_however_late_all_come_no_second_has_more_than_the_rate_and_the_grace_allow(delays):
    state, paces = RateState(), [Pace(10, 1)]
    slots = [state.reserve(paces, 1, NOW, None) for _ in delays]
    arrivals = sorted(
        (slot.start + delay, number) for number, (slot, delay) in enumerate(zip(slots, delays, strict=True))
    )
    starts = sorted(now + state.begin(paces, 1, slots[number], now, 0.25).wait for now, number in arrivals)
    for start in starts:
        # Ten a second; one more at each edge of the window; and what the grace of a quarter of a second lets through.
        assert sum(start <= each < start + 1 for each in starts) <= 10 + 2 + 3


def test_pauses_move_the_line_of_the_late_ones():
    state, paces = RateState(), [Pace(1, 10)]
    slots = [state.reserve(paces, 1, NOW, None) for _ in range(3)]
    late = [state.begin(paces, 1, slot, NOW + 100, 1) for slot in slots]
    state.pause(NOW + 130, NOW + 100)
    assert isinstance(late[1], Slot)
    assert state.due(paces, late[1].start, late[1].made) == pytest.approx(NOW + 140, abs=1e-5)


def test_a_task_that_comes_much_too_late_still_runs_and_uses_one_start(app):
    task = register(app, rate_limited("api", "1/m")(run), name="late")
    now = time.time()
    free_in(app, "api", "1/m")
    mark = {"times": 0, "since": None, "slots": [["api", now - 500, now - 900, False]]}
    assert deliver(app, task, mark=mark) == "ran"
    waits = deliver(app, task, mark=mark)
    assert waits.when == pytest.approx(60, abs=1)
    assert mark_of(waits)["slots"][0][3] is True
    assert free_in(app, "api", "1/m") == pytest.approx(60, abs=1)


def test_who_came_late_once_and_comes_a_moment_late_into_a_pause_does_not_start_in_it(app):
    task = register(app, rate_limited("api", "1/m")(run), name="late-twice")
    now = time.time()
    mark = {"times": 0, "since": None, "slots": [["api", now - 0.5, now - 60, True]]}
    assert deliver(app, task, mark=mark) == "ran"
    RateLimit("api", "1/m", backend=connect(app.conf.tasklocks_url)).pause(600)
    waits = deliver(app, task, mark=mark)
    assert waits.when == pytest.approx(600, abs=2)
