"""What every backend shows of a limit, in a busy answer and to `inspect`."""

from __future__ import annotations

import time

import pytest

from tasklocks.backends.base import HOLDERS_SHOWN, Backend
from tasklocks.testing.asking import LONG, NAME, held, taken, until_over


def test_inspect_shows_live_holders_oldest_first(backend: Backend, ttl: float) -> None:
    over = taken(backend, "over", capacity=4, ttl=ttl)
    first = taken(backend, "first", capacity=4, info="one")
    taken(backend, "second", capacity=4, permits=2, info="two")
    until_over(over)
    shown = backend.inspect(NAME).holders
    assert [(each.owner, each.permits, each.info) for each in shown] == [("first", 1, "one"), ("second", 2, "two")]
    assert shown[0].fencing_token == first.fencing_token
    assert LONG - 10 < shown[0].expires_in <= LONG
    assert abs(time.time() - shown[0].since) < 30


def test_inspect_changes_nothing(backend: Backend) -> None:
    taken(backend, "a")
    assert backend.inspect(NAME).holders[0].owner == backend.inspect(NAME).holders[0].owner
    assert backend.inspect(NAME).waiters == ()
    held(backend)


def test_a_busy_answer_names_the_oldest_holders_only(backend: Backend) -> None:
    for turn in range(HOLDERS_SHOWN + 5):
        taken(backend, f"owner-{turn}", capacity=HOLDERS_SHOWN + 5)
    busy = held(backend, capacity=HOLDERS_SHOWN + 5)
    assert [holder.owner for holder in busy.holders] == [f"owner-{turn}" for turn in range(HOLDERS_SHOWN)]
    assert busy.capacity == HOLDERS_SHOWN + 5
    assert busy.holders[0].since <= busy.server_time
    assert len(backend.inspect(NAME).holders) == HOLDERS_SHOWN + 5


def test_a_busy_answer_says_when_the_first_lease_ends(backend: Backend, ttl: float) -> None:
    taken(backend, "long", capacity=2)
    taken(backend, "short", capacity=2, ttl=ttl)
    shown = held(backend, capacity=2).retry_after
    assert shown is not None
    assert 0 < shown <= ttl


def test_the_usual_hold_is_learned_from_releases(backend: Backend) -> None:
    taken(backend, "a")
    assert held(backend).usual_hold is None
    time.sleep(0.3)
    backend.release(NAME, "a")
    taken(backend, "b")
    assert held(backend).usual_hold == pytest.approx(0.3, abs=0.2)
    backend.release(NAME, "b")
    learned = backend.inspect(NAME).usual_hold
    assert learned is not None
    assert 0.1 < learned < 0.4
