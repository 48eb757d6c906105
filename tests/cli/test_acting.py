"""What an operator may do to a limit at night."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tasklocks import Lock, RateLimit
from tasklocks.errors import LeaseLost
from tasklocks.testing.asking import free, held, taken


def test_release_asks_first(tasklocks, backend):
    taken(backend, "a", "report")
    refused = tasklocks("release", "report", answer="n\n")
    assert refused.exit_code == 1
    assert "Take 'report' away from this holder?" in refused.output
    held(backend, "report")
    assert "does not hold 'report' any more" in tasklocks.says("release", "report", answer="y\n")
    assert free(backend, "report")


def test_release_takes_all_holders_or_the_one_that_is_named(tasklocks, backend):
    for owner in ("a", "b", "c"):
        taken(backend, owner, "report", capacity=3, info=f'{{"task":"t","id":"id-of-{owner}"}}')
    tasklocks.says("release", "report", "--holder", "b", "--yes")
    tasklocks.says("release", "report", "--holder", "id-of-c", "--yes")
    assert [each.owner for each in backend.inspect("report").holders] == ["a"]
    assert tasklocks("release", "report", "--holder", "b", "--yes").exit_code == 1
    tasklocks.says("release", "report", "--yes")
    assert backend.inspect("report").holders == ()


def test_a_holder_whose_lease_is_released_is_told(tasklocks, backend):
    with Lock("report", backend=backend, ttl=max(1.0, backend.capabilities.min_ttl)) as lease:
        tasklocks.says("release", "report", "--yes")
        with pytest.raises(LeaseLost, match="taken away"):
            lease.renew()
        assert lease.lost


def test_a_rate_limit_is_paused_and_resumed(tasklocks, backend):
    limit = RateLimit("partner-api", "1000/s", backend=backend)
    limit.reserve()
    assert "nothing starts under 'partner-api' for 30 s" in tasklocks.says("pause", "partner-api", "--for", "30")
    assert limit.reserve() > 20
    (row,) = tasklocks.knows("ls")["limits"]
    assert 20 < row["paused_for"] <= 30
    assert tasklocks.says("resume", "partner-api") == "'partner-api' is not paused\n"
    assert limit.reserve() < 5


def test_a_rate_limit_is_paused_until_a_moment_also_one_that_was_not_used_yet(tasklocks, backend):
    soon = (datetime.now(timezone.utc) + timedelta(seconds=60)).isoformat()
    assert tasklocks("pause", "not-used-yet", "--until", soon).exit_code == 1
    answer = tasklocks.knows("pause", "not-used-yet", "--until", soon, "--anyway")
    assert 40 < answer["paused_for"] < 80
    assert RateLimit("not-used-yet", "10/s", backend=backend).reserve() > 30


@pytest.mark.parametrize("wrong", [[], ["--until", "tomorrow"], ["--until", "2026-11-21T06:00"], ["--for", "0"]])
def test_a_pause_without_a_clear_end_is_refused(at, wrong, tmp_path):
    assert at(f"memory://{tmp_path.name}")("pause", "x", "--anyway", *wrong).exit_code == 2
