"""What one leader sends, in this process, through a real scheduler and kombu's broker in memory."""

from __future__ import annotations

import copy
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, Scheduler
from celery.schedules import schedule

from tasklocks import BackendUnavailable, ConfigurationError, connect
from tasklocks.beat import LeaderScheduler
from tasklocks.beat.book import Book, Claim, Run
from tasklocks.beat.wishes import wish_of
from tasklocks.celery import runs

_numbers = itertools.count(1)


class Stage:
    """An app with a broker and locks of its own, and its schedulers."""

    def __init__(self, folder: Path, locks: str) -> None:
        self.folder = folder
        self.locks = locks
        self.app = Celery(f"gate{next(_numbers)}", broker="memory://", set_as_current=False)
        self.app.conf.update(tasklocks_url=locks, tasklocks_beat_ttl=2.0, task_default_queue=f"q{next(_numbers)}")
        self.made: list[LeaderScheduler] = []

    def scheduler(self, **entries: dict) -> LeaderScheduler:
        self.app.conf.beat_schedule = {
            name: {"task": "work", "schedule": schedule(said.pop("every", 0.2)), **said}
            for name, said in entries.items()
        }
        made = LeaderScheduler(self.app, schedule_filename=str(self.folder / f"s{next(_numbers)}"))
        self.made.append(made)
        return made

    def sent(self) -> list[str]:
        """Return the task ids that have reached the broker since the last call."""
        with self.app.connection_for_read() as connection:
            queue = connection.SimpleQueue(self.app.conf.task_default_queue)
            try:
                return [self._take(queue) for _ in range(queue.qsize())]
            finally:
                queue.close()

    @staticmethod
    def _take(queue) -> str:
        message = queue.get_nowait()
        message.ack()
        return message.headers["id"]


@pytest.fixture
def stage(tmp_path, new_backend_url) -> Iterator[Stage]:
    made = Stage(tmp_path, new_backend_url("memory"))
    yield made
    for each in made.made:
        each.close()
    made.app.close()


def run(beat: LeaderScheduler, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(max(0.0, min(beat.tick(), end - time.monotonic())))


def in_doubt(stage: Stage, name: str) -> None:
    """Leave behind what a leader leaves that dies between a claim and its message."""
    now = round(time.time() * 1e6)
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.claim([Claim(name, Run(now, now - 1000))])


def test_a_tick_in_doubt_is_not_sent_by_default_and_the_log_names_it(stage, caplog):
    in_doubt(stage, "entry")
    beat = stage.scheduler(entry={"every": 60.0})
    with caplog.at_level(logging.WARNING):
        run(beat, 0.3)
    assert stage.sent() == []
    assert "'entry': the tick of" in caplog.text
    assert "may not have been sent" in caplog.text


def test_a_tick_in_doubt_of_an_entry_that_must_be_sent_is_sent_once(stage):
    in_doubt(stage, "entry")
    options = {"delivery": "at_least_once"}
    beat = stage.scheduler(entry={"every": 60.0, "options": options})
    run(beat, 0.3)
    assert len(stage.sent()) == 1
    beat.close()
    run(stage.scheduler(entry={"every": 60.0, "options": options}), 0.3)
    assert stage.sent() == []


def test_the_same_tick_has_the_same_id_wherever_it_is_sent(stage):
    ids = []
    for _ in range(2):
        in_doubt_at(stage, "entry", 1_700_000_000_000_000)
        run(stage.scheduler(entry={"every": 1e9, "options": {"delivery": "at_least_once"}}), 0.3)
        ids += stage.sent()
        stage.made[-1].close()
        stage.locks = f"{stage.locks}x"
        stage.app.conf.tasklocks_url = stage.locks
    assert len(ids) == 2
    assert len(set(ids)) == 1


def in_doubt_at(stage: Stage, name: str, due: int) -> None:
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.claim([Claim(name, Run(due, due))])


@pytest.mark.parametrize(("missed", "expected"), [("once", 1), ("skip", 0), ("all", 100)])
def test_after_an_hour_without_a_leader_each_policy_is_kept(stage, missed, expected):
    an_hour_ago = round((time.time() - 3600) * 1e6)
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.claim([Claim("entry", Run(an_hour_ago, an_hour_ago))])
    book.sent("entry", an_hour_ago)
    book.flush()
    run(stage.scheduler(entry={"every": 10.0, "options": {"missed": missed}}), 0.5)
    ids = stage.sent()
    assert len(ids) == len(set(ids)) == expected


@pytest.mark.parametrize("missed", ["once", "skip", "all"])
def test_an_entry_that_has_never_run_has_missed_nothing(stage, missed):
    ten_years_ago = round((time.time() - 10 * 365 * 86400) * 1e6)
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.add({"entry": ten_years_ago})
    run(stage.scheduler(entry={"every": 10.0, "options": {"missed": missed}}), 0.5)
    assert len(stage.sent()) == 1


def test_the_next_tick_comes_an_interval_after_the_last_run_of_another_leader(stage):
    then = round((time.time() - 9.0) * 1e6)
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.claim([Claim("entry", Run(then, then))])
    book.sent("entry", then)
    book.flush()
    beat = stage.scheduler(entry={"every": 10.0})
    run(beat, 0.5)
    assert stage.sent() == []
    run(beat, 1.0)
    assert len(stage.sent()) == 1


def test_the_first_interval_of_an_entry_goes_on_under_the_next_leader(stage):
    run(stage.scheduler(entry={"every": 2.0}), 1.2)
    stage.made[-1].close()
    run(stage.scheduler(entry={"every": 2.0}), 1.2)
    assert len(stage.sent()) == 1


def test_entries_can_be_added_and_removed_while_it_leads(stage):
    beat = stage.scheduler(first={})
    run(beat, 0.5)
    assert stage.sent()
    inner = beat._inner
    inner.add(name="second", task="other", schedule=schedule(0.1, app=stage.app))
    del inner.schedule["first"]
    run(beat, 0.2)
    stage.sent()
    run(beat, 0.5)
    assert 3 <= len(stage.sent()) <= 6


@pytest.mark.parametrize("missed", ["once", "skip", "all"])
def test_an_entry_made_anew_from_an_old_row_keeps_its_time(stage, missed):
    beat = stage.scheduler(entry={"every": 2.0, "options": {"missed": missed}})
    run(beat, 2.2)
    assert len(stage.sent()) == 1
    entry = beat.schedule["entry"]
    entry.last_run_at -= timedelta(hours=1)
    beat._inner._heap = None
    run(beat, 1.3)
    assert stage.sent() == []
    run(beat, 0.8)
    assert len(stage.sent()) == 1, "two seconds after its last run, not after the row was read"


class Deaf:
    """A backend that does not answer."""

    def update(self, name, change):
        raise BackendUnavailable("the connection was cut")


class Aside(Scheduler):
    """Keeps what it has moved on beside its schedule, as a database's scheduler does."""

    def reserve(self, entry):
        return next(entry)


@pytest.mark.parametrize("kind", [PersistentScheduler, Aside])
def test_a_tick_that_could_not_be_claimed_is_sent_late_and_no_other_is_moved(stage, kind):
    stage.app.conf.tasklocks_beat_scheduler = kind
    beat = stage.scheduler(often={"every": 0.3}, seldom={"every": 2.0})
    run(beat, 0.5)
    assert len(stage.sent()) == 1
    beat._book._backend = Deaf()
    run(beat, 1.0)
    assert stage.sent() == []
    beat._book._backend = beat._backend
    run(beat, 0.2)
    assert len(stage.sent()) == 1
    run(beat, 0.2)
    stage.sent()
    run(beat, 0.45)
    ids = stage.sent()
    assert 2 <= len(ids) <= 3, "one of the seldom entry, in its time, and those of the other"
    assert len(set(ids)) == len(ids)


def test_a_tick_that_the_broker_refused_is_sent_again_if_it_must_be(stage):
    options = {"delivery": "at_least_once", "overlap": "skip"}
    beat = stage.scheduler(entry={"every": 0.4, "options": options})
    beat.tick()
    gate, send, refused = beat._gate, beat._gate._send, []

    def refuse(entry, **kwargs):
        refused.append(entry.options["task_id"])
        raise ConnectionError("the broker is down")

    gate._send = refuse
    run(beat, 0.6)
    assert refused
    assert stage.sent() == []
    gate._send = send
    run(beat, 0.2)
    assert stage.sent() == refused[:1]


def test_a_leader_that_is_overtaken_sends_nothing_more_and_stays_a_standby(stage):
    beat = stage.scheduler(entry={"every": 0.1})
    run(beat, 0.5)
    stage.sent()
    backend = connect(stage.locks)
    backend.force_release("celery-beat")
    newer = Book(backend, "celery-beat")
    newer.open(2**60)
    run(beat, 1.0)
    assert stage.sent() == []


def test_a_leader_whose_lease_is_taken_away_leads_again_with_a_new_one(stage):
    beat = stage.scheduler(entry={"every": 0.1})
    run(beat, 0.3)
    connect(stage.locks).force_release("celery-beat")
    run(beat, 1.5)
    stage.sent()
    run(beat, 0.5)
    assert stage.sent()
    assert len(connect(stage.locks).inspect("celery-beat").holders) == 1


def test_a_tick_whose_leader_is_overtaken_while_it_sends_is_sent_once(stage):
    beat = stage.scheduler(entry={"every": 0.3})
    while beat._gate is None:
        beat.tick()
    send, backend = beat._gate._send, connect(stage.locks)
    newer = Book(backend, "celery-beat")

    def overtaken(entry, **kwargs):
        backend.force_release("celery-beat")
        newer.open(2**60)
        return send(entry, **kwargs)

    beat._gate._send = overtaken
    run(beat, 1.5)
    assert len(stage.sent()) == 1
    assert not newer.runs()["entry"].sent, "so that the newer one knows not to send it"
    again = replace(newer.runs()["entry"], last=1)
    assert newer.claim([Claim("entry", again)]) == []


@pytest.mark.parametrize("overlap", ["allow", "skip"])
def test_a_leader_that_loses_its_lease_between_claim_and_send_sends_nothing(stage, overlap):
    beat = stage.scheduler(entry={"every": 0.3, "options": {"overlap": overlap}})
    while beat._gate is None:
        beat.tick()
    backend, lease = beat._gate._backend, beat._lead.lease

    class Slow:
        """What it is asked takes longer than the lease lasts."""

        def update(self, name, change):
            answer = backend.update(name, change)
            lease.end("its time ran out")
            return answer

    (beat._gate if overlap == "skip" else beat._book)._backend = Slow()
    while not lease.lost:
        time.sleep(max(beat.tick(), 0.0))
    assert stage.sent() == []
    beat._book._backend = backend
    assert runs.begin(backend, runs.key_of("celery-beat", "entry"), "another", "skip", 60.0) == []


class Faulty(PersistentScheduler):
    """Its database is gone."""

    def tick(self, *args, **kwargs):
        raise OSError("no route to the database")


def test_a_leader_whose_wrapped_scheduler_fails_hands_over_and_does_not_exit(stage, caplog):
    stage.app.conf.tasklocks_beat_scheduler = Faulty
    beat = stage.scheduler(entry={"every": 0.1})
    run(beat, 0.5)
    stage.app.conf.tasklocks_beat_scheduler = PersistentScheduler
    run(stage.scheduler(entry={"every": 0.1}), 0.5)
    assert stage.sent()
    assert "no route to the database" in caplog.text


class Elsewhere:
    """A backend as a host sees it whose clock is so many seconds ahead."""

    def __init__(self, backend, ahead: float) -> None:
        self._backend, self._ahead = backend, ahead

    def update(self, name, change):
        return self._backend.update(name, lambda text, now: change(text, now - self._ahead))


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_leader_whose_clock_jumps_sends_nothing_and_another_leads(stage, caplog, jump):
    entries = {"often": {"every": 0.1}, "seldom": {"every": 600.0}}
    beat = stage.scheduler(**copy.deepcopy(entries))
    run(beat, 0.5)
    other = stage.scheduler(**entries)
    stage.sent()
    beat._book._backend = Elsewhere(beat._backend, jump)
    run(beat, 1.2)
    assert len(stage.sent()) <= 10, "until it looked at the clock"
    assert beat._gate is None
    assert f"the clock of this host is 3600 s {'ahead of' if jump > 0 else 'behind'} that of the backend" in caplog.text
    run(other, 0.5)
    assert other._gate is not None
    assert stage.sent()


def test_a_wrong_clock_is_no_reason_to_send_nothing_if_nobody_else_leads(stage, caplog):
    beat = stage.scheduler(entry={"every": 0.1})
    beat._book._backend = Elsewhere(beat._backend, 3600)
    run(beat, 1.0)
    assert stage.sent() == []
    run(beat, 2.0)
    assert stage.sent()
    assert "but nobody else leads" in caplog.text


def test_many_ticks_of_one_moment_are_each_sent_once(stage):
    beat = stage.scheduler(**{f"entry{n}": {"every": 0.5} for n in range(100)})
    run(beat, 1.9)
    ids = stage.sent()
    assert len(ids) == len(set(ids))
    assert len(ids) > 100


def test_claims_that_were_not_used_are_given_back_at_the_end(stage):
    an_hour_ago = round((time.time() - 3600) * 1e6)
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.add({f"entry{n}": an_hour_ago for n in range(100)})
    beat = stage.scheduler(**{f"entry{n}": {"every": 60.0} for n in range(100)})
    while not beat._gate or not beat._gate._held:
        beat.tick()
    gate, ticks = beat._gate, 0
    while ticks < 11 or not gate._held:
        beat.tick()
        ticks += 1
        assert len(gate._held) < 10
    beat.close()
    book.look()
    assert all(each.sent for each in book.runs().values())
    ran = [name for name, each in book.runs().items() if each.last > an_hour_ago and name.startswith("entry")]
    assert len(ran) == len(stage.sent()) == ticks + 1


def test_a_beat_that_is_never_idle_writes_down_all_the_same_what_it_has_sent(stage):
    book = Book(connect(stage.locks), "celery-beat")
    book.open(1)
    book.add({f"entry{n}": round(time.time() - 3600) * 1_000_000 for n in range(40)})
    beat = stage.scheduler(always={"every": 0.001}, **{f"entry{n}": {"every": 600.0} for n in range(40)})
    run(beat, 2.0)
    book.look()
    assert [name for name, each in book.runs().items() if name != "always" and not each.sent] == []


def test_an_entry_that_must_not_overlap_waits_for_its_run(stage):
    beat = stage.scheduler(entry={"every": 0.1, "options": {"overlap": "skip"}})
    run(beat, 0.8)
    (first,) = stage.sent()
    runs._note(stage.app, runs.key_of("celery-beat", "entry"), first, None)
    run(beat, 0.5)
    (second,) = stage.sent()
    assert second != first


def test_one_may_wait_behind_the_one_that_runs(stage):
    beat = stage.scheduler(entry={"every": 0.1, "options": {"overlap": "queue_one"}})
    run(beat, 0.5)
    (first,) = stage.sent()
    runs._note(stage.app, runs.key_of("celery-beat", "entry"), first, "runs")
    run(beat, 0.8)
    assert len(stage.sent()) == 1


def test_a_run_that_nobody_ends_blocks_for_a_bounded_time(stage):
    beat = stage.scheduler(entry={"every": 0.1, "options": {"overlap": "skip", "overlap_expires": 0.6}})
    run(beat, 0.5)
    assert len(stage.sent()) == 1
    run(beat, 0.7)
    assert len(stage.sent()) == 1


def test_a_run_that_has_expired_unreceived_does_not_block_for_longer(stage):
    assert runs.lasts_at_most({"expires": 30}, 3600.0) == 90.0
    assert runs.lasts_at_most({"expires": datetime.now(timezone.utc) + timedelta(seconds=30)}, 3600.0) < 91.0
    assert runs.lasts_at_most({"expires": 7200}, 3600.0) == runs.lasts_at_most({}, 3600.0) == 3600.0


@pytest.mark.parametrize("option", ["missed", "overlap", "delivery"])
def test_a_wrong_option_stops_the_beat_at_its_start_with_the_entrys_name(stage, option):
    with pytest.raises(ConfigurationError, match=f"'nightly': {option} is 'never'"):
        stage.scheduler(nightly={"options": {option: "never"}})


def test_wishes_are_read_from_options_headers_and_the_declared_schedule():
    assert wish_of("e", {"overlap": "skip"}, {}).overlap == "skip"
    assert wish_of("e", {"headers": {"tasklocks_overlap": "skip"}}, {}).overlap == "skip"
    assert wish_of("e", {"queue": "q"}, {"overlap": "skip"}).overlap == "skip"
    assert wish_of("e", {}, {}).missed == "once"


def test_the_ttl_of_a_backend_that_cannot_keep_it_is_refused(stage):
    stage.app.conf.tasklocks_beat_ttl = 0.001
    with pytest.raises(ConfigurationError, match="tasklocks_beat_ttl"):
        stage.scheduler(entry={})
