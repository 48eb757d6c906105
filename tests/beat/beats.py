"""Real beats in processes of their own, and a reader that notes every tick that reaches the broker.

with schedule(folder, locks=url, broker=url, entries={"fast": {"every": 1}}) as field:
    first, second = field.start(), field.start()
    leader = field.leader()
    ...
    assert field.twice() == []
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.processes import ChildProcess, eventually
from tests.workers import settings

APP = "tests.apps.beat"
LEADS = "leading from now on"
STANDS_BY = "standing by"


@dataclass(frozen=True)
class Tick:
    """One message of a beat: when it arrived, when it was sent, and by which process."""

    entry: str
    task_id: str
    at: float
    sent: float
    pid: int


class Beat:
    """One `celery beat` process."""

    def __init__(self, name: str, process: ChildProcess) -> None:
        self.name = name
        self.process = process

    def log(self) -> str:
        return self.process.log()

    @property
    def leads(self) -> bool:
        """Whether the last that it said is that it leads."""
        said = [line for line in self.log().splitlines() if LEADS in line or STANDS_BY in line or "no more" in line]
        return self.process.running and bool(said) and LEADS in said[-1]

    @property
    def stands_by(self) -> bool:
        said = [line for line in self.log().splitlines() if LEADS in line or STANDS_BY in line or "no more" in line]
        return self.process.running and bool(said) and STANDS_BY in said[-1]

    def wait_for(self, text: str, *, times: int = 1, within: float = 20.0) -> None:
        assert eventually(lambda: self.log().count(text) >= times, within=within), f"{text!r} not in:\n{self.log()}"


class Reader(threading.Thread):
    """Takes the messages of a queue of the Redis broker, as a worker would."""

    def __init__(self, url: str, queue: str) -> None:
        super().__init__(name="reader", daemon=True)
        self.ticks: list[Tick] = []
        self._url, self._queue = url, queue
        self._over = threading.Event()

    def run(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            while not self._over.is_set():
                with contextlib.suppress(redis.exceptions.ConnectionError):
                    if (found := client.brpop([self._queue], timeout=0.2)) is not None:
                        self.ticks.append(_tick(found[1]))

    def close(self) -> None:
        self._over.set()
        self.join()


class Field:
    """The beats of one schedule, and what they have sent."""

    def __init__(self, folder: Path, chosen: Any) -> None:
        self.folder = folder
        self.settings = chosen
        self.beats: list[Beat] = []
        self.reader = Reader(chosen.environ["BROKER_URL"], chosen.environ["TEST_QUEUE"])
        self._numbers = itertools.count(1)

    @property
    def ticks(self) -> list[Tick]:
        return list(self.reader.ticks)

    def start(self, *args: str, scheduler: str = "tasklocks.beat:LeaderScheduler", **env: str) -> Beat:
        """Start one more beat, with a schedule file of its own, as on a host of its own."""
        name = f"beat{next(self._numbers)}"
        own = ["--schedule", str(self.folder / f"{name}-schedule"), "--pidfile="]
        command = [sys.executable, "-m", "celery", "-A", self.settings.app, "beat", "--loglevel", "INFO", *own]
        log = self.folder / f"{name}.log"
        process = ChildProcess([*command, "-S", scheduler, *args], log=log, env={**self.settings.environ, **env})
        self.beats.append(Beat(name, process))
        return self.beats[-1]

    def leader(self, within: float = 20.0) -> Beat:
        """Wait until one leads, and return it."""
        assert eventually(lambda: any(beat.leads for beat in self.beats), within=within), self.logs()
        return next(beat for beat in self.beats if beat.leads)

    def pair(self) -> tuple[Beat, Beat]:
        """Start two beats; return the one that leads and the one that stands by."""
        first, second = self.start(), self.start()
        leader = self.leader()
        other = second if leader is first else first
        assert eventually(lambda: other.stands_by, within=20), self.logs()
        return leader, other

    def wait_for_ticks(self, count: int, *, since: float = 0.0, within: float = 20.0) -> None:
        """Wait until so many ticks have arrived after `since`."""
        enough = eventually(lambda: sum(tick.at > since for tick in self.ticks) >= count, within=within)
        assert enough, f"{self.ticks}\n{self.logs()}"

    def twice(self) -> list[str]:
        """Return the task ids that arrived more than once; an id stands for an entry and its due time."""
        return [task_id for task_id, count in Counter(tick.task_id for tick in self.ticks).items() if count > 1]

    def gaps(self, entry: str) -> list[float]:
        """Return the seconds between the ticks of an entry."""
        times = [tick.at for tick in self.ticks if tick.entry == entry]
        return [after - before for before, after in itertools.pairwise(times)]

    def logs_in_full(self) -> str:
        return "\n".join(beat.log() for beat in self.beats)

    def logs(self) -> str:
        return "\n".join(f"--- {beat.name}\n{beat.log()[-3000:]}" for beat in self.beats)


@contextlib.contextmanager
def schedule(
    folder: Path,
    *,
    locks: str,
    broker: str,
    entries: Mapping[str, Mapping[str, Any]],
    app: str = APP,
    env: Mapping[str, str] | None = None,
    **conf: Any,
) -> Iterator[Field]:
    """Prepare a schedule; whatever beats are started in the block are gone after it."""
    own = {"TEST_SCHEDULE": json.dumps(entries), **(env or {})}
    conf.setdefault("tasklocks_beat_ttl", 3.0)
    conf.setdefault("result_expires", 0)
    field = Field(folder, settings(app, broker=broker, backend=broker, locks=locks, env=own, **conf))
    field.reader.start()
    try:
        yield field
    finally:
        for beat in field.beats:
            beat.process.kill()
        field.reader.close()


def _tick(message: bytes) -> Tick:
    import base64

    fields = json.loads(message)
    (args, _, _) = json.loads(base64.b64decode(fields["body"]))
    headers = fields["headers"]
    return Tick(args[0], headers["id"], time.time(), *headers["sent"])


def entries_of(ticks: Sequence[Tick]) -> Counter[str]:
    return Counter(tick.entry for tick in ticks)
