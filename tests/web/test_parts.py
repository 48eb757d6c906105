"""The parts of the page that need no server: what is remembered, for how long, and what comes first."""

from __future__ import annotations

import asyncio
import random

import pytest

from tasklocks import connect
from tasklocks.errors import ConfigurationError
from tasklocks.names import escaped
from tasklocks.testing.asking import taken
from tasklocks.types import Holder, LimitState, Waiter
from tasklocks.web.actions import ACTIONS
from tasklocks.web.hiding import digests
from tasklocks.web.history import History
from tasklocks.web.lines import ORDERS, Query, found
from tasklocks.web.poller import Poller, Shows
from tasklocks.web.snapshot import Snapshot
from tasklocks.web.viewer import Viewer, Wish, wish_of

NOW = 1_800_000_000.0


def state(name: str, *owners: str, capacity: int = 1, waiters: int = 0, since: float = NOW) -> LimitState:
    holders = tuple(Holder(owner, 1, number, since, 30.0, "") for number, owner in enumerate(owners, 1))
    line = tuple(Waiter(f"ticket-{number}", 1, since, True, "") for number in range(waiters))
    return LimitState(name, capacity, holders, line, None)


def seen(*states: LimitState) -> Snapshot:
    return Snapshot(NOW, 0.0, 0.0, 0.01, {each.name: each for each in states}, {}, {})


def names(snapshot: Snapshot, **query: object) -> list[str]:
    return [each.name for each in found(snapshot, Query(**query), escaped).states]


def test_trouble_comes_first():
    snapshot = seen(
        state("calm", "a"),
        state("old", "a", since=NOW - 60),
        state("jam", "a", waiters=9),
        state("queue", "a", waiters=2),
        state("overlap", "a", "b"),
        state("unused"),
    )
    assert names(snapshot) == ["overlap", "jam", "queue", "old", "calm"]
    assert names(snapshot, order="hold")[0] == "old"
    assert names(snapshot, order="name", idle=True) == ["calm", "jam", "old", "overlap", "queue", "unused"]


@pytest.mark.parametrize("order", ORDERS)
def test_pages_show_every_limit_once(order):
    states = [state(f"limit-{number}", "a", waiters=number % 3) for number in range(120)]
    random.Random(1).shuffle(states)
    pages = [names(seen(*states), order=order, page=page) for page in range(4)]
    assert [len(page) for page in pages] == [50, 50, 20, 0]
    assert {name for page in pages for name in page} == {each.name for each in states}


def test_digests_are_the_same_for_a_process_and_tell_nothing_to_another():
    one, other = digests(), digests()
    assert one("import-7") == one("import-7") != one("import-8")
    assert one("import-7") != other("import-7")
    assert "import" not in one("import-7")


def test_a_past_says_when_each_lease_began_and_ended():
    history = History()
    for at, owners in ((0, ["a"]), (1, ["a"]), (2, ["b"]), (3, [])):
        holders = [Holder(owner, 1, ord(owner), {"a": NOW - 5, "b": NOW + 1.4}[owner], 30.0, "") for owner in owners]
        history.add(NOW + at, [LimitState("report", 1, tuple(holders), (), None)])
    past = history.past("report")
    # The first one ended between two looks; most likely when the next one began.
    assert [(span.label, span.since - NOW, span.until - NOW) for span in past.holds.values()] == [
        ("a", -5, pytest.approx(1.4)),
        ("b", pytest.approx(1.4), 3),
    ]
    assert [(at - NOW, held) for at, _, held, _ in past.samples] == [(0, 1), (3, 0)]


def test_a_task_that_waits_again_has_a_wait_more():
    history = History()
    for at, waiting in ((0, 1), (1, 0), (2, 1)):
        history.add(NOW + at, [state("report", "a", waiters=waiting, since=NOW + at)])
    assert [(each.since - NOW, each.until and each.until - NOW) for each in history.past("report").waits.values()] == [
        (0, 1),
        (2, None),
    ]


def test_what_nobody_looked_at_is_not_as_if_it_were_seen():
    history = History()
    history.add(NOW, [state("report", "a")])
    history.gap()
    history.add(NOW + 60, [state("report", "a")])
    assert history.past("report").samples == [(NOW, 1, 1, 0), (NOW, -1, 0, 0), (NOW + 60, 1, 1, 0)]


def test_the_past_is_bounded_in_time_in_samples_and_in_limits():
    history = History()
    history.keep({"once"}, NOW)
    history.add(NOW, [state("once", "a")])
    for second in range(0, 1200, 2):
        for moment in (NOW + second, NOW + second + 0.5):
            history.keep({"report"}, moment)
            history.add(moment, [state("report", f"owner-{moment}", waiters=round(2 * moment) % 2)])
    past = history.past("report")
    assert len(past.samples) == 300
    assert past.samples[0][0] >= NOW + 1198 - 302
    assert len(past.holds) <= 301
    assert history.past("once").samples == []
    assert len(history.keep({f"limit-{number}" for number in range(1500)}, NOW + 1200)) == 1000
    assert history.past("report").samples == [], "the longest ago goes first"


def test_a_wish_that_makes_no_sense_is_the_first_page_of_everything():
    said = {"view": "nothing", "order": "; drop", "page": "-1", "idle": "yes", "q": "x" * 9999}
    wish = wish_of(said)
    assert (wish.view, wish.query.order, wish.query.page, wish.query.idle) == ("limits", "trouble", 0, False)
    assert len(wish.query.text) == 1000
    assert wish_of({"page": "9" * 50}).query.page == 0
    assert wish_of({"page": "²"}).query.page == 0


@pytest.mark.parametrize("word", ACTIONS)
def test_nothing_is_done_to_a_limit_that_cannot_be(word, tmp_path):
    with pytest.raises(ConfigurationError):
        ACTIONS[word](connect(f"memory://{tmp_path.name}"), "", {"owner": "a", "permits": 1, "seconds": 1})


def test_two_viewers_share_one_reader_and_what_it_has_seen(tmp_path):
    backend = connect(f"memory://{tmp_path.name}")
    taken(backend, "a", "report")

    async def watch() -> None:
        poller = Poller(backend, every=0.05, linger=0.1)
        async with poller.watching(Shows()) as first, poller.watching(Shows()) as second:
            numbers = []
            async for look in first:
                numbers.append(look.number)
                if len(numbers) == 4:
                    break
            late = await anext(second)
            assert numbers == [1, 2, 3, 4]
            assert late.number == 4, "what was seen while it did not look is not sent again"
        assert poller.reading
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not poller.reading:
                break
        assert not poller.reading
        assert poller.seen.snapshot is None
        async with poller.watching(Shows()) as again:
            assert (await anext(again)).snapshot is not None
        await poller.close()

    asyncio.run(watch())


def test_a_viewer_is_sent_a_line_once_and_then_what_changes():
    viewer = Viewer(Wish(), escaped, History())

    def lists(*states: LimitState) -> list[dict]:
        from tasklocks.web.poller import Seen

        return [data for event, data in viewer.events(Seen(1, seen(*states))) if event == "list"]

    (first,) = lists(state("a", "x"), state("b", "x"))
    assert set(first["rows"]) == {"a", "b"}
    assert lists(state("a", "x"), state("b", "x")) == []
    (changed,) = lists(state("a", "x"), state("b", "x", waiters=1))
    assert (changed["order"], set(changed["rows"])) == (["b", "a"], {"b"})
    (gone,) = lists(state("a", "x"))
    assert (gone["order"], gone["rows"]) == (["a"], {})
