"""What a worker holds beyond its bound is put aside, and nothing else is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from tasklocks import connect
from tasklocks.celery.admission import aside
from tasklocks.celery.admission.aside import Aside, Flow
from tasklocks.celery.admission.asking import Answer
from tasklocks.celery.admission.held import Held, Want
from tasklocks.celery.admission.lines import Lines
from tasklocks.celery.waited import Waited
from tasklocks.types import Busy
from tests.processes import eventually
from tests.test_prefetch import LEAST, started

BUSY = Busy(None, 0, (), 1, None, 0.0, 0.0)


class Worker:
    """What is held, with a broker that takes all that is put aside."""

    def __init__(self, most: int) -> None:
        self.sent: list[tuple[str, float]] = []
        self.told: list[Answer | None] = []
        self.listens = True
        self.takes = 0.0
        prefetch = started()
        self.qos = prefetch._qos
        self.lines = Lines()
        self.aside = Aside(self.lines, prefetch, self._tell, most, self._send)

    def _send(self, each: Held, wait: float) -> bool:
        time.sleep(self.takes)
        self.sent.append((each.owner, wait))
        return True

    def _tell(self, answer: Answer | None) -> bool:
        if self.listens:
            self.told.append(answer)
        return self.listens

    def receive(self, *names: str, busy: Busy | None = None) -> list[Held]:
        messages = [held(name) for name in names]
        for each in messages:
            each.busy = busy
            self.lines.add(each)
            self.aside.add(each)
        return messages

    def forget(self, each: Held) -> None:
        self.lines.remove(each)
        self.aside.remove(each)

    def put_aside(self) -> list[str]:
        self.aside.make_way()
        self.aside.finish()
        return [owner for owner, _ in self.sent]


def held(name: str) -> Held:
    want = Want(SimpleNamespace(), connect("memory://aside"), name, 30.0)
    made = Held(SimpleNamespace(id="id"), [want], "", "", Waited())
    made.owner = f"{name}-{made.number}"
    return made


@pytest.fixture
def make() -> Iterator[Callable[[int], Worker]]:
    """Return a function that makes a worker which holds so many messages at the most."""
    with ExitStack() as stack:

        def made(most: int) -> Worker:
            worker = Worker(most)
            stack.callback(worker.aside.close)
            return worker

        yield made


def owners(messages: list[Held]) -> list[str]:
    return [each.owner for each in messages]


def test_up_to_the_bound_the_prefetch_count_is_raised_and_nothing_goes(make):
    worker = make(5)
    messages = worker.receive(*"aaaaa")
    assert worker.put_aside() == []
    assert worker.qos.value == LEAST + 5
    for each in messages:
        worker.forget(each)
    assert worker.qos.value == LEAST


def test_the_newest_go_so_that_half_of_the_prefetch_count_is_left_to_others(make):
    worker = make(5)
    messages = worker.receive(*"aaaaaaaaa")
    assert worker.put_aside() == owners(messages)[:6:-1]
    assert worker.qos.value == LEAST + 5


def test_whose_limit_may_be_free_does_not_go(make):
    worker = make(0)
    heads = worker.receive("a", "b", "c", "d")
    assert worker.put_aside() == []
    for each in heads:
        each.busy = BUSY
    assert worker.put_aside() == owners([heads[3], heads[2]])


def test_who_stands_does_not_go(make):
    worker = make(0)
    messages = worker.receive(*"aaaa", busy=BUSY)
    worker.lines.stand(messages[3])
    assert worker.put_aside() == owners([messages[2], messages[1]])


def test_a_message_that_came_beyond_the_bound_gets_the_place_of_one_that_went_on(make):
    worker = make(2)
    messages = worker.receive(*"aaa")
    worker.aside.make_way()
    assert [each.prefetched for each in messages] == [True, True, False]
    worker.forget(messages[0])
    worker.aside.make_way()
    assert messages[2].prefetched
    assert worker.qos.value == LEAST + 2


def test_where_much_flows_nothing_goes(make):
    worker = make(0)
    worker.receive(*"aaaa", busy=BUSY)
    for each in worker.receive("a") * 1000:
        worker.aside.goes_on(each)
    assert worker.put_aside() == []


def test_one_batch_at_a_time_and_a_pause_after_it(make, monkeypatch):
    monkeypatch.setattr(aside, "_AT_ONCE", 1)
    worker = make(0)
    worker.takes = 0.2  # so it pauses for four times as long
    worker.receive(*"aaaaaa", busy=BUSY)
    for _ in range(3):
        worker.aside.make_way()
        worker.aside.finish()
    assert len(worker.sent) == 1
    assert eventually(lambda: len(worker.put_aside()) > 1, within=5)


def test_an_estimate_counts_those_in_front_and_is_not_believed_at_once(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(aside.clock, "now", lambda: now)
    flow = Flow()
    for _ in range(100):  # ten a second, for ten seconds
        now += 0.1
        flow.goes_on()
    assert flow.known
    assert flow.wait(20) == pytest.approx(2, rel=0.2)
    for _ in range(80):
        flow.goes_aside(5.0)
    assert flow.wait(20) == pytest.approx(10, rel=0.2)
    now += 6.1
    assert flow.per_second < 4
    assert flow.wait(0) == 0


def test_what_was_sent_while_nobody_listened_is_said_later(make):
    worker = make(0)
    messages = worker.receive(*"aaaa", busy=BUSY)
    worker.listens = False
    worker.aside.make_way()
    assert eventually(lambda: worker.sent, within=5)
    assert worker.told == []
    worker.listens = True
    assert eventually(lambda: len(worker.told) >= 2, within=5)
    assert [answer.held for answer in worker.told if answer] == [messages[3], messages[2]]
