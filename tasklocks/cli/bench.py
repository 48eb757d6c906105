"""`bench`: how fast locks are on this backend, from here, now. A first look; `make bench` compares with others."""

from __future__ import annotations

import secrets
import statistics

import click

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.cli.access import Failed, command
from tasklocks.cli.output import say_json
from tasklocks.types import AcquireRequest, Busy

__all__ = ["bench"]


@command
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=3.0, show_default=True)
def bench(backend: Backend, seconds: float, as_json: bool) -> None:
    """Measure an uncontended lock: acquire and release, one after the other."""
    name = f"tasklocks-bench-{secrets.token_hex(4)}"
    took: list[float] = []
    ends = clock.now() + seconds
    while clock.now() < ends:
        began = clock.now()
        if isinstance(backend.acquire(AcquireRequest(name, name)), Busy):
            raise Failed("a limit that nobody else uses is busy")
        backend.release(name, name)
        took.append((clock.now() - began) * 1000)
    answer = {"pairs": len(took), "p50_ms": statistics.median(took), "p99_ms": sorted(took)[int(len(took) * 0.99)]}
    if as_json:
        say_json({key: round(value, 3) for key, value in answer.items()})
    else:
        click.echo("acquire and release: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms, {pairs} pairs".format(**answer))
