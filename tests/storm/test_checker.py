"""The checker finds every kind of violation, planted into a right record, and has nothing against what is right."""

from __future__ import annotations

import dataclasses

import pytest

from tests.storm.checker import Verdict, check
from tests.storm.records import Journal, Record, read

CAPACITIES = {"mutex": 1, "some": 3}
TTL = 1.0


class Story:
    """Tells records: one holder a token, one process a holder."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def _tell(self, what: str, at: float, token: int, limit: str, **facts: float) -> Story:
        owner = "-" if what == "killed" else f"owner-{token}"
        record = Record(what, at, token, limit, owner, token, deadline=at + TTL)
        self.records.append(dataclasses.replace(record, **facts))
        return self

    def granted(self, at: float, token: int, limit: str = "mutex", **facts: float) -> Story:
        return self._tell("granted", at, token, limit, **{"asked": at - 0.01, **facts})

    def renewed(self, at: float, token: int, limit: str = "mutex") -> Story:
        return self._tell("renewed", at, token, limit)

    def told(self, at: float, token: int, limit: str = "mutex") -> Story:
        return self._tell("told", at, token, limit)

    def released(self, at: float, token: int, limit: str = "mutex") -> Story:
        return self._tell("released", at, token, limit)

    def sure(self, at: float, token: int, limit: str = "mutex") -> Story:
        return self._tell("sure", at, token, limit, asked=at - 0.001)

    def wrote(self, at: float, token: int) -> Story:
        return self._tell("wrote", at, token, "mutex")

    def refused(self, at: float, token: int) -> Story:
        return self._tell("refused", at, token, "mutex")

    def killed(self, at: float, token: int) -> Story:
        return self._tell("killed", at, token, "-")

    def verdict(self, **options: bool) -> Verdict:
        return check(sorted(self.records, key=lambda record: record.at), CAPACITIES, **options)


def right() -> Story:
    """All that may happen, rightly: nobody finds fault with it."""
    story = Story().granted(10.0, 1).sure(10.1, 1).wrote(10.2, 1).released(10.3, 1)
    story.granted(10.3, 2).renewed(10.6, 2).renewed(11.2, 2).sure(12.1, 2).released(12.15, 2)
    story.granted(13.0, 3).killed(13.1, 3)
    story.granted(14.0, 4)  # frozen until 15.5
    story.granted(15.0, 5).wrote(15.1, 5).released(15.2, 5)
    story.refused(15.5, 4).told(15.6, 4).released(15.7, 4)
    # Frozen between the answer and its record: it is heard too late, when others had their turn.
    story.granted(17.0, 6, asked=15.7, deadline=16.8).released(17.1, 6)
    story.granted(16.9, 7, asked=16.0).released(16.95, 7)
    story.granted(10.0, 21, "some", permits=2).granted(10.1, 22, "some").released(10.2, 21, "some")
    story.granted(10.3, 23, "some", permits=2).released(10.4, 22, "some").released(10.5, 23, "some")
    return story


def test_what_is_right_is_not_complained_of():
    verdict = right().verdict()
    assert verdict.complaints == ()
    assert (verdict.leases, verdict.renewals, verdict.told, verdict.killed) == (10, 2, 1, 1)
    assert (verdict.lapsed, verdict.wrote, verdict.refused) == (2, 2, 1)
    assert verdict.at_once == {"mutex": 1, "some": 3}


def planted(*wanted: str, story: Story) -> object:
    return pytest.param(story, wanted, id=wanted[0])


@pytest.mark.parametrize(
    ("story", "wanted"),
    [
        planted("2 permits of 1", "token 99", story=right().granted(10.25, 99).released(10.28, 99)),
        planted("renewed: 2 permits of 1", story=right().granted(11.9, 99).released(11.95, 99)),
        planted("killed, but not over: 2 permits of 1", story=right().granted(13.5, 99).released(13.6, 99)),
        planted("frozen, but not over: 2 permits of 1", story=right().granted(14.9, 99).released(14.95, 99)),
        planted("weighted: 4 permits of 3", story=right().granted(10.35, 99, "some").released(10.38, 99, "some")),
        planted("one by one: 4 permits of 3", story=right().granted(10.15, 99, "some").released(10.38, 99, "some")),
        planted("not larger", story=Story().granted(1, 5).released(2, 5).granted(3, 4).released(4, 4)),
        planted(
            "asked too early to tell, but rivals: not larger",
            story=Story().granted(1, 5, asked=0.5).released(2, 5).granted(3, 4, asked=0.5).released(4, 4),
        ),
        planted(
            "not rivals, but asked later: not larger",
            story=Story().granted(1, 5, "some").granted(1.1, 4, "some").released(2, 5, "some").released(2, 4, "some"),
        ),
        planted(
            "given twice",
            story=Story().granted(1, 5, "some").granted(1, 5, "some", owner="x").released(2, 5, "some")
            ._tell("released", 2, 5, "some", owner="x"),
        ),
        planted("without reason", story=right().sure(14.2, 3)),
        planted("after its release: without reason", story=right().sure(10.4, 1)),
        planted("refused", story=right().refused(12.0, 2)),
        planted("nobody was granted", story=right().wrote(20.0, 77)),
        planted("never given back", story=right().granted(30.0, 99)),
        planted("wrote twice", story=right().wrote(10.25, 1)),
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(story, wanted):
    complaints = story.verdict().complaints
    for text in wanted:
        assert any(text.rpartition(": ")[2] in complaint for complaint in complaints), complaints


def test_a_watched_process_that_is_gone_holds_nothing_any_more():
    story = right().granted(13.2, 88).released(13.3, 88)
    assert any("token 88" in complaint for complaint in story.verdict().complaints)
    watched = right().granted(13.2, 8, asked=13.11)
    watched.records = [each for each in watched.records if each.at < 13.3 or each.limit == "some"]
    assert watched.released(13.3, 8).verdict(watched=True).complaints == ()


def test_records_come_back_from_their_file_as_they_were(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    for record in right().records:
        journal._append(record)
    journal.close()
    assert read(path) == sorted(right().records, key=lambda record: record.at)
