"""What one run measures: which contestants, where, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contestants import Contestant, release_of
from benchmarks.pair import prove_exclusion
from benchmarks.stores import STORES, MissingServerError, Store
from tasklocks import ConfigurationError

__all__ = ["FULL", "QUICK", "Plan", "Scale", "prepared"]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        seconds: of measuring for each contestant in each comparison.
        crowd: how many others hold and wait, smallest first.
        processes: how many processes want one mutex at once.
        handoffs: from holder to waiter, for each contestant.
        leases: how many are renewed at once.
        waiters: how many wait for one limit, fewest first.
        permits: how many that limit has.
        rate_seconds: for which a rate limit is asked as fast as can be; whole seconds.
        tasks: how many wait for one limit in workers.
        hold: seconds for which each of them holds it.
        listed: how many limits a list has.
        watched: how many limits change while somebody watches the page.
        ways: how many ways without admission are measured beside it.
        line: how many tasks of a millisecond wait in a long queue.
        line_seconds: for how long workers run them at the most.
    """

    seconds: float
    crowd: Sequence[int]
    processes: Sequence[int]
    handoffs: int
    leases: Sequence[int]
    waiters: Sequence[int]
    permits: int
    rate_seconds: float
    tasks: int
    hold: float
    listed: int
    watched: int
    ways: int
    line: int
    line_seconds: float


FULL = Scale(
    seconds=5.0,
    crowd=(1, 100, 10_000),
    processes=(2, 10, 50),
    handoffs=100,
    leases=(1, 100, 1000),
    waiters=(10, 100, 1000, 5000),
    permits=1000,
    rate_seconds=30.0,
    tasks=1000,
    hold=0.05,
    listed=100_000,
    watched=1000,
    ways=4,
    line=100_000,
    line_seconds=60.0,
)
QUICK = Scale(
    seconds=0.1,
    crowd=(1, 20),
    processes=(2,),
    handoffs=3,
    leases=(10,),
    waiters=(2, 8),
    permits=12,
    tasks=6,
    hold=0.01,
    listed=300,
    watched=60,
    ways=0,
    line=40,
    line_seconds=10.0,
    rate_seconds=1.0,
)
"""Shows that everything runs; its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, with its stores open.

    Attributes:
        contestants: who is measured; each has proven that it excludes.
        skipped: who is not, and why.
        stores: where, by name.
        scale: how much.
    """

    contestants: Sequence[Contestant]
    skipped: Mapping[str, str]
    stores: Mapping[str, Store]
    scale: Scale

    def url(self, contestant: Contestant) -> str:
        """Return the URL of the contestant's store."""
        return self.stores[contestant.store].url

    def ours(self) -> list[Contestant]:
        """Return tasklocks on each of the stores."""
        return [each for each in self.contestants if each.role == "tasklocks"]


@contextmanager
def prepared(contestants: Sequence[Contestant], scale: Scale) -> Iterator[Plan]:
    """Open the stores that the contestants need, prove that each contestant excludes, and close all at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tasklocks-bench-")))
        stores, skipped = _opened(contestants, stack, folder)
        for each in contestants:
            reason = skipped.get(each.name) or _refusal(each, stores[each.store].url)
            if reason:
                skipped[each.name] = reason
        yield Plan([each for each in contestants if each.name not in skipped], skipped, stores, scale)


def _opened(
    contestants: Sequence[Contestant], stack: ExitStack, folder: Path
) -> tuple[dict[str, Store], dict[str, str]]:
    """Return the stores, open, and why some contestants cannot take part."""
    skipped = {each.name: f"{each.package} is not installed" for each in contestants if release_of(each) is None}
    stores = {}
    for name in dict.fromkeys(each.store for each in contestants if each.name not in skipped):
        opened = _open(name, stack, folder)
        if isinstance(opened, Store):
            stores[name] = opened
        else:
            skipped.update((each.name, opened) for each in contestants if each.store == name)
    return stores, skipped


def _open(name: str, stack: ExitStack, folder: Path) -> Store | str:
    """Return the store, or why it is not there."""
    try:
        return STORES[name](stack, folder)
    except MissingServerError as error:
        return str(error)


def _refusal(contestant: Contestant, url: str) -> str:
    """Return why the contestant cannot take part although its package is there; empty if it can.

    Raises:
        RuntimeError: it can, but it excludes nobody.
    """
    try:
        prove_exclusion(contestant.make, url, f"proof of {contestant.name}")
    except ConfigurationError as error:
        return str(error)
    return ""
