"""Two beats, one schedule: one leads, the other takes over however the first one ends, and no tick is sent twice."""

from __future__ import annotations

import signal
import time

import pytest

from tasklocks.beat import leader
from tests.beat.beats import Field, entries_of
from tests.processes import eventually

TTL = 3.0  # what tests.beat.beats.schedule sets


def assert_each_once(field: Field) -> None:
    """Neither the same tick twice, nor one tick under two names: then two would be closer than the interval."""
    assert field.twice() == []
    assert min(field.gaps("second")) > 0.3, field.gaps("second")
    assert min(field.gaps("quick")) > 0.15, field.gaps("quick")


def test_one_of_two_beats_leads_and_both_say_which(field):
    leading, other = field.pair()
    field.wait_for_ticks(6)
    assert "Sending due task" not in other.log()
    assert f"the leader is process {leading.process.pid} on " in other.log()
    found = leader(field.settings.load().app)
    assert found.pid == str(leading.process.pid)
    assert abs(time.time() - found.since.timestamp()) < 20
    assert_each_once(field)


def test_sigterm_hands_over_at_once_and_no_tick_is_lost(field):
    leading, other = field.pair()
    field.wait_for_ticks(3)
    leading.process.send(signal.SIGTERM)
    assert eventually(lambda: other.leads, within=1.0), field.logs()
    assert leading.process.wait(10) == 0
    field.wait_for_ticks(6, since=time.time())
    assert_each_once(field)
    assert max(field.gaps("second")) < 1.9, field.gaps("second")


def test_a_killed_leader_is_replaced_within_its_ttl_and_a_second_or_two(field):
    leading, other = field.pair()
    field.wait_for_ticks(3)
    leading.process.kill()
    assert eventually(lambda: other.leads, within=TTL + 2), field.logs()
    field.wait_for_ticks(4, since=time.time())
    assert_each_once(field)


def test_a_frozen_leader_that_wakes_sends_nothing_and_stands_by(field):
    leading, other = field.pair()
    field.wait_for_ticks(3)
    leading.process.pause()
    assert eventually(lambda: other.leads, within=TTL + 2), field.logs()
    field.wait_for_ticks(4, since=time.time())
    sent = leading.log().count("Sending due task")
    leading.process.resume()
    assert eventually(lambda: leading.stands_by, within=10), field.logs()
    assert leading.log().count("Sending due task") <= sent + 1  # Celery says so before it asks us
    field.wait_for_ticks(4, since=time.time())
    assert other.leads
    assert_each_once(field)
    other.process.send(signal.SIGTERM)
    assert eventually(lambda: leading.leads, within=2), field.logs()


def test_a_restart_of_the_backend_that_forgets_everything_fires_nothing_twice(field_of, redis_server):
    entries = {"second": {"every": 1.0}, "quick": {"every": 0.5}}
    with field_of(redis_server.url, entries) as field:
        field.pair()
        field.wait_for_ticks(4)
        for _ in range(2):
            redis_server.restart()
            field.leader(within=15)
            field.wait_for_ticks(6, since=time.time())
        assert_each_once(field)
        assert all(beat.process.running for beat in field.beats)
        assert "Traceback" not in field.logs()


def test_beats_survive_an_outage_of_the_backend_and_send_nothing_meanwhile(field_of, redis_server):
    with field_of(redis_server.url, {"second": {"every": 1.0}, "quick": {"every": 0.5}}) as field:
        first, second = field.pair()
        field.wait_for_ticks(4)
        redis_server.stop()
        time.sleep(1.0)
        quiet = len(field.ticks)
        time.sleep(TTL)
        assert len(field.ticks) == quiet
        redis_server.start()
        field.wait_for_ticks(4, since=time.time(), within=20)
        assert all(beat.process.running for beat in field.beats)
        leading = field.leader()
        standby = second if leading is first else first
        assert eventually(lambda: standby.stands_by, within=10), field.logs()
        leading.process.kill()
        assert eventually(lambda: standby.leads, within=TTL + 2), field.logs()
        field.wait_for_ticks(2, since=time.time())
        assert_each_once(field)


def test_a_backend_that_answers_late_fires_nothing_twice_and_loses_nothing_that_must_be_sent(field_of, redis_server):
    must = {"delivery": "at_least_once"}
    entries = {"second": {"every": 1.0}, "quick": {"every": 0.5}, "must": {"every": 0.5, "options": must}}
    with field_of(redis_server.url, entries) as field:
        field.pair()
        field.wait_for_ticks(8)
        redis_server.pause()
        time.sleep(3 * TTL)
        redis_server.resume()
        field.wait_for_ticks(8, since=time.time(), within=15)
        assert_each_once(field)
        assert max(field.gaps("must")) < 3 * TTL + 6, field.gaps("must")
        assert all(beat.process.running for beat in field.beats)
        assert "Traceback" not in field.logs()


def test_a_new_leader_goes_on_where_the_old_one_stopped(field_of, new_backend_url):
    with field_of(new_backend_url("sqlite"), {"slow": {"every": 4.0}}) as field:
        leading, other = field.pair()
        field.wait_for_ticks(1)
        time.sleep(2.0)
        leading.process.send(signal.SIGTERM)
        field.wait_for_ticks(2)
        assert other.leads
        (gap,) = field.gaps("slow")
        assert 3.5 < gap < 5.5, "a schedule of its own would have begun anew"


@pytest.mark.soak
def test_what_was_missed_follows_the_policy_of_its_entry(field_of, new_backend_url):
    entries = {missed: {"every": 1.0, "options": {"missed": missed}} for missed in ("once", "skip", "all")}
    with field_of(new_backend_url("sqlite"), entries, tasklocks_beat_ttl=1.0) as field:
        field.start()
        field.wait_for_ticks(6)
        field.beats[0].process.kill()
        killed, before = time.time(), len(field.ticks)
        time.sleep(5.0)
        field.start().wait_for("leading from now on")
        missed = int(time.time() - killed)
        field.wait_for_ticks(before + missed)
        time.sleep(0.3)
        burst = entries_of([tick for tick in field.ticks[before:] if tick.at < killed + missed + 1.3])
        assert burst["once"] in (1, 2), burst
        assert burst["skip"] in (0, 1), burst
        assert burst["all"] >= missed - 1, burst
        assert burst["all"] <= missed + 2, burst
        assert field.twice() == []


def test_options_of_the_beat_do_not_reach_the_message(field_of, new_backend_url):
    options = {"missed": "skip", "delivery": "at_least_once"}
    with field_of(new_backend_url("sqlite"), {"entry": {"every": 0.5, "options": options}}) as field:
        field.start()
        field.wait_for_ticks(2)
        assert entries_of(field.ticks)["entry"] >= 2
        assert "Message Error" not in field.logs()
