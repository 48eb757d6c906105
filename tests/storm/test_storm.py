"""Killed, frozen and cut off at random: no limit is ever held by too many, tokens grow, and no write is lost."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tasklocks import Lock, clock, connect
from tasklocks.backends.base import GRANT_TTL, WAITER_TTL
from tests.processes import ChildProcess, eventually
from tests.relay import Relay
from tests.storm.checker import Verdict, check
from tests.storm.hammer import CAPACITIES, MUTEX
from tests.storm.records import Journal, read
from tests.storm.store import Store
from tests.storm.weather import Weather, holder_in

TTL = 1.0
PROCESSES = 6


def test_in_a_short_storm_no_promise_is_broken(process_backend_url, tmp_path):
    _storm(process_backend_url, tmp_path, seconds=5.0)


@pytest.mark.soak
@pytest.mark.timeout(480)
def test_in_a_storm_of_minutes_no_promise_is_broken(process_backend_url, tmp_path):
    verdict = _storm(process_backend_url, tmp_path, seconds=300.0)
    assert min(verdict.renewals, verdict.refused) > 0, verdict


def test_the_storm_finds_out_a_lock_that_does_not_lock(tmp_path):
    """The memory backend knows nothing of other processes: used by several, it must be found out."""
    with pytest.raises(AssertionError, match=r"permits of \d were held"):
        _storm("memory://", tmp_path, seconds=1.0)


class Crew:
    """Processes that hammer a backend; whoever is killed has a successor."""

    def __init__(self, urls: Sequence[str], folder: Path, ttl: float) -> None:
        self._urls = itertools.cycle(urls)
        self._folder = folder
        self._ttl = ttl
        self.journal = Journal(folder / "journal")
        self.members = dict(self._start() for _ in range(PROCESSES))

    def _start(self) -> tuple[int, ChildProcess]:
        command = [sys.executable, "-m", "tests.storm.hammer", next(self._urls), str(self._folder), str(self._ttl)]
        child = ChildProcess(command, log=self._folder / "log")
        return child.pid, child

    def kill(self, pid: int) -> None:
        self.members.pop(pid).kill()
        self.journal.killed(pid)
        self.members.update([self._start()])

    def unserved(self, since: float) -> set[int]:
        """Who was granted no lease after a moment."""
        records = read(self._folder / "journal")
        return self.members.keys() - {each.pid for each in records if each.what == "granted" and each.at > since}

    def where(self, pids: set[int]) -> str:
        """What processes do now, line by line."""
        for pid in pids:
            self.members[pid].send(signal.SIGUSR1)
        time.sleep(1)
        states = {pid: "runs" if self.members[pid].running else "has ended" for pid in pids}
        return f"got no permit: {states}\n{(self._folder / 'log').read_text()[-8000:]}"

    def stop(self, within: float) -> None:
        (self._folder / "stop").touch()
        for each in self.members.values():
            assert each.wait(within) == 0, each.log()[-4000:]

    def close(self) -> None:
        for each in self.members.values():
            each.kill()
        self.journal.close()


@contextmanager
def _crew(url: str, folder: Path, ttl: float) -> Iterator[tuple[Crew, list[Relay]]]:
    with ExitStack() as stack:
        # Two ways to the server: those on the one go on while those on the other are cut off.
        port = urlsplit(url).port
        relays = [stack.enter_context(Relay(port)) for _ in range(2)] if port else []
        crew = Crew([_through(url, relay) for relay in relays] or [url], folder, ttl)
        stack.callback(crew.close)
        assert eventually(lambda: not crew.unserved(0), within=30), "a process did not start"
        yield crew, relays


def _through(url: str, relay: Relay) -> str:
    parts = urlsplit(url)
    # A MongoDB client would find its way past the relay: the server tells its own address.
    query = "&".join(filter(None, [parts.query, "directConnection=true" if parts.scheme == "mongodb" else ""]))
    credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{credentials}127.0.0.1:{relay.port}", query=query))


def _storm(url: str, folder: Path, seconds: float) -> Verdict:
    random.seed(time.time_ns())
    ttl = max(TTL, connect(url).capabilities.min_ttl)
    with _crew(url, folder, ttl) as (crew, relays):
        weather = Weather(
            lambda: list(crew.members),
            crew.kill,
            lambda pid: crew.members[pid].pause(),
            lambda pid: crew.members[pid].resume(),
            relays,
            lambda: holder_in(folder / "journal"),
            ttl,
        )
        began = time.monotonic()
        weather.blow(max(seconds, 4 * ttl))
        took = time.monotonic() - began
        _goes_on(crew, ttl)
        crew.stop(within=6 * ttl + WAITER_TTL)
    verdict = _judge(folder)
    print(f"\n{url.partition(':')[0]}: {verdict.leases / took:.0f} leases/s, {Counter(weather.happened)}\n{verdict}")
    _all_free(url, ttl)
    return verdict


def _goes_on(crew: Crew, ttl: float) -> None:
    """When the storm is over, everybody gets a permit: leases of the dead end within ttl, and the line moves."""
    since, bound = clock.now(), 3 * ttl + GRANT_TTL + WAITER_TTL
    served = eventually(lambda: not crew.unserved(since), within=bound, every=0.3)
    assert served, crew.where(crew.unserved(since))


def _judge(folder: Path) -> Verdict:
    records = read(folder / "journal")
    verdict = check(records, CAPACITIES)
    assert not verdict.complaints, "\n".join(verdict.complaints[:5])
    assert verdict.at_once == CAPACITIES, "not all permits were ever in use"
    assert min(verdict.leases, verdict.lapsed, verdict.killed, verdict.wrote) > 0, verdict
    _no_write_is_lost(folder, {each.token for each in records if each.what == "wrote"}, verdict)
    return verdict


def _no_write_is_lost(folder: Path, noted: set[int], verdict: Verdict) -> None:
    store = Store(folder / "store")
    tokens = store.tokens(MUTEX)
    assert store.value(MUTEX) == len(tokens), "a write was overwritten by one that had not seen it"
    assert noted <= tokens
    assert len(tokens - noted) <= verdict.killed, "only who was killed after a write could not note it"
    store.close()


def _all_free(url: str, ttl: float) -> None:
    backend = connect(url)
    assert eventually(lambda: not any(backend.inspect(name).holders for name in CAPACITIES), within=ttl + GRANT_TTL)
    Lock(MUTEX, backend=backend).acquire(blocking=False).release()
    backend.close()
