"""A list of very many limits: read piece by piece, so that the server does its other work meanwhile."""

from __future__ import annotations

import time

import pytest
import redis

from benchmarks.listing import fill

MANY = 100_000
PAGE = 200


def test_no_command_of_a_list_looks_at_more_than_a_page(redis_server, at):
    fill(redis_server.url, 5_000)
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_resetstat()
        assert at(redis_server.url).knows("ls", "--limit", "3")["total"] == 5_000
        calls = {name: found["calls"] for name, found in client.info("commandstats").items()}
        keys = client.dbsize()
    assert "cmdstat_keys" not in calls
    assert calls["cmdstat_scan"] >= keys / PAGE / 2


def test_a_task_is_found_among_many(redis_server, at):
    fill(redis_server.url, 5_000)
    (answer,) = at(redis_server.url).knows("why", "task-4321")
    assert (answer["limit"], answer["does"]) == ("import-4321", "holds")


@pytest.mark.soak
def test_a_hundred_thousand_limits_are_listed_in_seconds(redis_server, at):
    fill(redis_server.url, MANY)
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("slowlog-log-slower-than", 100_000)
        client.slowlog_reset()
        began = time.monotonic()
        assert at(redis_server.url).knows("ls")["total"] == MANY
        took = time.monotonic() - began
        slow = client.slowlog_len()
    print(f"{MANY} limits in {took:.1f} s")
    assert took < 20  # 3 s if nothing else runs
    assert slow == 0, "others waited for more than 0.1 s"
