"""The parts of admission that need no worker: the lines, the table that processes share."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tasklocks import connect
from tasklocks.celery.admission.held import Held, Want
from tasklocks.celery.admission.lines import Lines
from tasklocks.celery.admission.table import LOST, Table
from tasklocks.celery.inbox import Inbox
from tasklocks.celery.waited import Waited


def held(*names: str) -> Held:
    wants = [Want(SimpleNamespace(), connect("memory://parts"), name, 30.0) for name in names]
    return Held(SimpleNamespace(id="id"), wants, "owner", "", Waited())


def lines_of(*messages: Held) -> Lines:
    lines = Lines()
    for each in messages:
        lines.add(each)
    return lines


def test_the_head_of_each_line_stands_before_the_second_of_any():
    first, second, other = held("a"), held("a"), held("b")
    lines = lines_of(first, second, other)
    assert lines.next_to_stand(2, now=0) == [first, other]
    assert lines.next_to_stand(3, now=0) == [first, other, second]


def test_no_more_stand_than_there_are_places():
    messages = [held("a") for _ in range(5)]
    lines = lines_of(*messages)
    for each in lines.next_to_stand(3, now=0):
        lines.stand(each)
    assert lines.standing == 3
    assert lines.next_to_stand(3, now=0) == ()
    lines.step_back(messages[0])
    lines.remove(messages[0])
    assert lines.next_to_stand(3, now=0) == [messages[3]]


def test_those_who_stand_in_vain_make_room_for_a_limit_that_nobody_asks_for_yet():
    deep = [held("a") for _ in range(2)]
    head = held("b")
    lines = lines_of(*deep, head)
    for each in [*deep, head]:
        lines.stand(each)
    assert not lines.in_the_way(3, now=0)
    newcomer = held("c")
    lines.add(newcomer)
    assert not lines.in_the_way(4, now=0)
    assert not lines.in_the_way(3, now=0)
    for each in [*deep, head]:
        each.answered = True
    assert lines.in_the_way(3, now=0) == [deep[1]]
    newcomer.looks_at = 10
    assert not lines.in_the_way(3, now=0)


def test_a_backend_that_keeps_silent_holds_up_its_own_limits_only():
    here, elsewhere = held("a"), held("b")
    elsewhere.wants = [Want(SimpleNamespace(), connect("memory://elsewhere"), "b", 30.0)]
    lines = lines_of(here, elsewhere)
    assert lines.next_to_stand(2, now=0, silent=[connect("memory://parts")]) == [elsewhere]


def test_a_message_that_waits_for_its_other_lock_keeps_its_age():
    older, newer = held("a", "b"), held("b")
    lines = lines_of(older, newer)
    lines.waits_for(older, 1)
    assert lines.next_to_stand(2, now=0) == [older, newer]
    assert len(lines) == 2


def test_a_lease_is_begun_or_taken_back_but_never_both():
    """The two sides race in two processes; each says first what it does, and then looks at the other."""
    for _ in range(20):
        begun, unused = race(Table(2000), 2000)
        assert not [index for index in begun if begun[index] and unused[index]]
        if any(begun.values()) and any(unused.values()):
            return
    pytest.fail("the two never met")


def race(table: Table, count: int) -> tuple[dict[int, int], dict[int, bool]]:
    """Begin leases in another process, take them back here, from behind; return which were begun, and which unused."""
    leases = [table.take(1e9) for _ in range(count)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, bytes(table.begin(index, serial) for index, serial in leases))
        os._exit(0)
    while not table.user(leases[0][0]):
        pass
    unused = {}
    for index, _ in reversed(leases):
        table.deadlines[index] = LOST
        unused[index] = table.user(index) == 0
    begun = dict(zip((index for index, _ in leases), os.read(reader, count), strict=True))
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    return begun, unused


def test_a_process_that_comes_much_too_late_does_not_get_another_ones_lease():
    table = Table(1)
    index, stale = table.take(1e9)
    table.give_back(index)
    again, fresh = table.take(1e9)
    assert again == index
    assert not table.begin(index, stale)
    assert table.user(index) == 0
    assert table.begin(index, fresh)
    assert table.user(index) == os.getpid()


def test_what_is_left_after_the_inbox_was_shut_is_refused():
    inbox: Inbox[int] = Inbox()
    assert inbox.put(1)
    assert inbox.shut() == [1]
    assert not inbox.put(2)
    inbox.open()
    assert inbox.put(3)
    assert os.read(inbox.reader, 10)
    assert inbox.take() == [3]


def test_a_message_that_waited_before_it_came_says_since_when_from_its_first_question_on():
    message = held("a")
    spec = SimpleNamespace(permits=1, capacity_now=lambda *_: 1)
    message.wants = [Want(spec, connect("memory://parts"), "a", 30.0)]
    message.waited = Waited(2, since=1000.0)
    assert message.asks_for(message.wants[0], "owner").since == 1000.0
