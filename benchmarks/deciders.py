"""Who is asked whether something may start: the bare round trips, tasklocks, and other libraries on the same Redis.

Each as its documentation shows it, with a client of its own with redis-py's defaults, and refusals that come at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tasklocks import LockBusy, RateLimit
from tasklocks.types import Algorithm

__all__ = ["DECIDERS", "Decider", "Limits", "prove_decisions"]

_MANY = 1_000_000
"""In a minute: so many that nobody is ever refused."""

_BURST = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Two limits; each call asks for one start and says whether it may be.

    Attributes:
        free: of a limit that always has room.
        full: of one that has none left for a day.
    """

    free: Callable[[], bool]
    full: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Decider:
    """One way to ask.

    Attributes:
        name: what the tables show.
        role: `floor`, `tasklocks` or `peer`.
        make: from the URL of a Redis to its limits; names need not be new.
        algorithm: how it counts; empty: not at all.
        package: the distribution that it needs.
    """

    name: str
    role: str
    make: Callable[[str], Limits]
    algorithm: Algorithm | str = ""
    package: str = "redis"


def ping(url: str) -> Limits:
    """Return redis-py's PING."""
    from redis import Redis

    client = Redis.from_url(url)
    return Limits(client.ping, client.ping)


def script(url: str) -> Limits:
    """Return redis-py's call of a script that does nothing."""
    from redis import Redis

    client = Redis.from_url(url)
    sha = client.script_load("return 1")
    once = partial(client.evalsha, sha, 1, "key")
    return Limits(once, once)


def bare(url: str) -> Limits:
    """Return PING as one packet that was packed before, on a connection of redis-py without the client around it."""
    from redis import Redis

    connection = Redis.from_url(url, single_connection_client=True).connection

    def once() -> bool:
        connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"], False)
        return bool(connection.read_response())

    return Limits(once, once)


def ours(algorithm: Algorithm, url: str) -> Limits:
    """Return `RateLimit.acquire(blocking=False)`."""
    burst = _BURST if algorithm == "gcra" else None
    free = RateLimit(f"free {algorithm}", f"{_MANY}/m", burst=burst, algorithm=algorithm, backend=url)
    full = RateLimit(f"full {algorithm}", "1/d", algorithm=algorithm, backend=url)
    return _used_up(partial(_may, free), partial(_may, full))


def limits_of(strategy: str, url: str) -> Limits:
    """Return a limiter of limits."""
    from limits import parse, storage, strategies

    limiter = getattr(strategies, strategy)(storage.RedisStorage(url))
    free, full = parse(f"{_MANY}/minute"), parse("1/day")
    return _used_up(partial(limiter.hit, free, f"free {strategy}"), partial(limiter.hit, full, f"full {strategy}"))


def throttled(url: str) -> Limits:
    """Return throttled-py's GCRA."""
    from throttled import RedisStore, Throttled, per_day, per_min

    store = RedisStore(server=url)
    free = Throttled(key="free", using="gcra", quota=per_min(_MANY, burst=_BURST), store=store)
    full = Throttled(key="full", using="gcra", quota=per_day(1, burst=1), store=store)
    return _used_up(lambda: not free.limit().limited, lambda: not full.limit().limited)


def huey(url: str) -> Limits:
    """Return huey's rate limit, which counts in fixed windows."""
    from huey import RedisHuey
    from huey.exceptions import RateLimitExceeded

    owner = RedisHuey("bench", url=url)

    def may(limit: object) -> bool:
        try:
            limit.acquire()
        except RateLimitExceeded:
            return False
        return True

    return _used_up(partial(may, owner.rate_limit("free", _MANY, 60)), partial(may, owner.rate_limit("full", 1, 86400)))


DECIDERS = (
    Decider("floor: PING by redis-py", "floor", ping),
    Decider("floor: EVALSHA of nothing by redis-py", "floor", script),
    Decider("floor: PING without the client", "floor", bare),
    Decider("tasklocks gcra", "tasklocks", partial(ours, "gcra"), "gcra"),
    Decider("tasklocks sliding", "tasklocks", partial(ours, "sliding"), "sliding"),
    Decider("tasklocks fixed", "tasklocks", partial(ours, "fixed"), "fixed"),
    Decider("throttled-py gcra", "peer", throttled, "gcra", "throttled-py"),
    Decider("limits moving window", "peer", partial(limits_of, "MovingWindowRateLimiter"), "sliding", "limits"),
    Decider("limits fixed window", "peer", partial(limits_of, "FixedWindowRateLimiter"), "fixed", "limits"),
    Decider("huey", "peer", huey, "fixed", "huey"),
)


def prove_decisions(decider: Decider, limits: Limits) -> None:
    """Raise RuntimeError unless it admits and refuses: one that always says the same must not win."""
    said = [limits.free(), limits.free(), limits.full(), limits.full()]
    if decider.role != "floor" and said != [True, True, False, False]:
        raise RuntimeError(f"{decider.name}: free twice, full twice gave {said}")


def _may(limit: RateLimit) -> bool:
    try:
        limit.acquire(blocking=False)
    except LockBusy:
        return False
    return True


def _used_up(free: Callable[[], bool], full: Callable[[], bool]) -> Limits:
    full()
    return Limits(free, full)
