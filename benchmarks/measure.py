"""The one loop that every comparison runs in: contestants take turns, so that noise of the machine hits all alike."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Block", "Subject", "in_rounds", "percentile", "ratio", "summary"]

_ROUNDS = 25
"""Turns of each contestant: enough for a median over rounds to pass over a few that were disturbed."""

_WARM_UP = 0.05


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: one call, again and again.

    Attributes:
        call: the work.
        server_cpu: seconds of processor time that its server has used so far.
    """

    call: Callable[[], object]
    server_cpu: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """One turn of one contestant; all times in seconds.

    Attributes:
        times: of each call.
        wall: of all calls together.
        cpu: processor time of this process.
        server_cpu: processor time of the server.
    """

    times: Sequence[float]
    wall: float
    cpu: float
    server_cpu: float

    @property
    def p50(self) -> float:
        """The median of this turn."""
        return statistics.median(self.times)


def in_rounds(subjects: Mapping[str, Subject], seconds: float) -> dict[str, list[Block]]:
    """Measure each subject for `seconds` in all, in turns that alternate, in a new order each round."""
    for subject in subjects.values():
        _turn(subject, _WARM_UP)
    blocks: dict[str, list[Block]] = {name: [] for name in subjects}
    for _ in range(_ROUNDS):
        # Between the rounds, so that nobody pays for what another one left behind.
        gc.collect()
        for name in random.sample(list(subjects), len(subjects)):
            blocks[name].append(_turn(subjects[name], seconds / _ROUNDS))
    return blocks


def _turn(subject: Subject, seconds: float) -> Block:
    times: list[float] = []
    call, clock = subject.call, time.perf_counter
    server_cpu, cpu = subject.server_cpu(), time.process_time()
    began = then = clock()
    while then < began + seconds:
        call()
        now = clock()
        times.append(now - then)
        then = now
    return Block(times, then - began, time.process_time() - cpu, subject.server_cpu() - server_cpu)


def summary(blocks: Sequence[Block]) -> dict[str, float]:
    """Return medians over the rounds; processor time as a mean, for it is counted in coarse steps."""
    calls = sum(len(block.times) for block in blocks)
    return {
        "p50_us": 1e6 * statistics.median(block.p50 for block in blocks),
        "p99_us": 1e6 * statistics.median(percentile(block.times, 0.99) for block in blocks),
        "per_second": statistics.median(len(block.times) / block.wall for block in blocks),
        "client_cpu_us": 1e6 * sum(block.cpu for block in blocks) / calls,
        "server_cpu_us": 1e6 * sum(block.server_cpu for block in blocks) / calls,
    }


def ratio(blocks: Sequence[Block], base: Sequence[Block]) -> float:
    """Return how many times as long as `base` it took: the median over the rounds, each compared within itself."""
    return statistics.median(mine.p50 / its.p50 for mine, its in zip(blocks, base, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
