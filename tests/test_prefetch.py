"""What is added to the prefetch count is there as long as it is needed, and is taken off again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kombu.common import QoS

from tasklocks.celery.prefetch import Prefetch, prefetch_of

LEAST = 4


def started(bound: int | None = None, driver: str = "redis") -> Prefetch:
    """Return the one of a consumer with a connection."""
    transport = SimpleNamespace(driver_type=driver)
    qos = QoS(lambda prefetch_count: None, LEAST, max_prefetch=bound)
    consumer = SimpleNamespace(
        qos=qos, qos_global=False, connection=SimpleNamespace(transport=transport), initial_prefetch_count=LEAST
    )
    made = prefetch_of(consumer)
    made.begin()
    return made


@pytest.mark.parametrize("bound", [None, 6])
def test_the_count_is_afterwards_what_it_was(bound):
    prefetch = started(bound)
    added = [prefetch.raise_(1) for _ in range(10)]
    assert prefetch._qos.value == (bound or 14)
    for each in added:
        prefetch.lower(each)
    assert prefetch._qos.value == LEAST


def test_a_bound_lets_a_part_of_it_through():
    prefetch = started(bound=10)
    assert prefetch.raise_(20) == 6
    prefetch.lower(6)
    assert prefetch._qos.value == LEAST


def test_what_others_take_off_is_added_again():
    prefetch = started(bound=6)
    qos = prefetch._qos
    assert prefetch.raise_(1) == 1
    # As Celery does for three messages with an ETA, of which one fits below the bound.
    for change in [qos.increment_eventually] * 3 + [qos.decrement_eventually] * 3:
        change()
    assert qos.value == 3
    prefetch.keep()
    assert qos.value == 5
    prefetch.lower(1)
    prefetch.keep()
    assert qos.value == LEAST


def test_it_never_takes_off_more_than_there_is():
    prefetch = started()
    prefetch.raise_(20)
    prefetch._qos.value = LEAST  # as Celery sets it after a lost connection
    prefetch.lower(20)
    assert prefetch._qos.value == LEAST


def test_where_the_broker_takes_no_change_nothing_is_added():
    prefetch = started(driver="amqp")
    assert prefetch.raise_(20) == 0
    prefetch.keep()
    assert prefetch._qos.value == LEAST


def test_all_who_hold_messages_of_a_consumer_share_one():
    prefetch = started()
    assert prefetch_of(prefetch._consumer) is prefetch
