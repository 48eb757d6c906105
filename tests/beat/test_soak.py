"""Many failovers of each kind under a schedule of 200 entries, of our beat and of others.

Each writes its row into docs/beat.md:

    TASKLOCKS_WRITE_DOCS=1 python -m pytest -m soak tests/beat/test_soak.py
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beat import table
from tests.beat.beats import Field, schedule
from tests.beat.contenders import DJANGO_APP, PEERS, Contender, ours
from tests.beat.series import ENTRIES, Outcome, Series
from tests.conftest import SERVERS, SHARED_BACKENDS, require
from tests.processes import ROOT
from tests.servers import LastingRedisServer, Server
from tests.servers_postgresql import new_postgresql_database

HOW_MANY = int(os.environ.get("TASKLOCKS_BEAT_FAILOVERS", "20"))
TTL = float(os.environ.get("TASKLOCKS_BEAT_TTL", "10"))
ENDS = ["SIGTERM", "SIGKILL", "SIGSTOP", "restart"]
# SQLite has no server that could be restarted.
OURS = [(kind, end) for kind in SHARED_BACKENDS for end in ENDS if (kind, end) != ("sqlite", "restart")]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "end"), OURS)
def test_no_failover_fires_a_tick_twice_or_loses_one(kind, end, tmp_path, redis_database):
    contender = ours(TTL, HOW_MANY)
    with elects(kind, tmp_path) as (server, locks):
        shown = measured(contender, end, kind, server, locks, tmp_path, redis_database)
    assert shown.twice == 0
    assert shown.lost == 0
    assert end == "restart" or max(shown.leads) < (1.0 if end == "SIGTERM" else TTL + 2)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.name}, {peer.settings}")
def test_the_same_failovers_of_others(peer, end, tmp_path, redis_database, request):
    """Nothing is promised for them: it is measured."""
    env = rows_in(request.getfixturevalue("postgresql_url")) if peer.app == DJANGO_APP else {}
    with elects("redis", tmp_path) as (server, locks):
        shown = measured(peer, end, "redis", server, locks, tmp_path, redis_database, **env)
    assert shown.ticks > 0


def rows_in(server: str) -> dict[str, str]:
    """Put the schedule into rows of a new database; return what a beat has to know of it."""
    env = {"TEST_DJANGO_DATABASE": new_postgresql_database(server), "TEST_SCHEDULE": json.dumps(ENTRIES)}
    unused = {"BROKER_URL": "", "RESULT_BACKEND": "", "TEST_QUEUE": ""}
    for command in ("migrate", "fill"):
        line = [sys.executable, "-m", DJANGO_APP, command]
        subprocess.run(line, cwd=ROOT, env={**os.environ, **env, **unused}, check=True, timeout=120)
    return env


@contextlib.contextmanager
def elects(kind: str, folder: Path) -> Iterator[tuple[Server | None, str]]:
    """Start a server of its own for the lead, one that keeps its data; SQLite needs none."""
    if kind == "sqlite":
        yield None, f"sqlite:///{folder}/locks.db"
        return
    server = LastingRedisServer if kind == "redis" else SERVERS[kind]
    require(server)
    with server(folder / "server") as running:
        yield running, running.url


def measured(
    contender: Contender,
    end: str,
    kind: str,
    server: Server | None,
    locks: str,
    folder: Path,
    broker: str,
    **env: str,
) -> Outcome:
    conf = contender.conf_for(locks)
    with schedule(folder, locks=locks, broker=broker, entries=ENTRIES, app=contender.app, env=env, **conf) as field:
        shown = Series(field, contender, end, server).run()
        print(f"\n{contender.name}, {contender.settings}, {kind}, {end}: {shown}")
        keep_logs(field)
    table.write([contender.name, contender.settings, kind, end], shown.cells)
    return shown


def keep_logs(field: Field) -> None:
    """Leave the beats' logs where a failed test shows them."""
    (field.folder / "beats.log").write_text(field.logs_in_full())


def test_the_page_shows_every_series_and_of_ours_no_tick_twice_and_none_lost():
    shown = table.rows()
    for kind, end in OURS:
        times, _, twice, lost, _, _, longest = shown["tasklocks", "ttl 10 s", kind, end][:7]
        assert (times, twice, lost) == ("10" if end == "restart" else "20", "0", "0"), (kind, end)
        if end != "restart":
            assert float(longest.removesuffix(" s")) < (1 if end == "SIGTERM" else 12), (kind, end)
    for peer, end in itertools.product(PEERS, ENDS):
        assert (peer.name, peer.settings, "redis", end) in shown
