"""`watch`: the list of limits in use, again and again. It reads as `ls` does; when nobody watches, nobody pays."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec

import click

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.cli.access import command
from tasklocks.cli.listing import COLUMNS, busiest, cells
from tasklocks.cli.output import rich_table, say_json, table_text
from tasklocks.overview import rows
from tasklocks.views import Row

__all__ = ["watch"]


@command
@click.option("--interval", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds.")
@click.option("--limit", "most", type=click.IntRange(min=1), default=30, show_default=True, help="Rows.")
@click.option("--times", type=click.IntRange(min=1), help="How often; default: until Ctrl-C.")
def watch(backend: Backend, interval: float, most: int, times: int | None, as_json: bool) -> None:
    """Show the limits in use, live; with --json one line at a time."""
    seen = _seen(backend, interval, most, times)
    with suppress(KeyboardInterrupt):
        if as_json:
            for found in seen:
                say_json({"limits": found})
        elif sys.stdout.isatty() and find_spec("rich"):
            _show_live(seen)
        else:
            for found in seen:
                click.echo(table_text(COLUMNS, [cells(row) for row in found]) + "\n")


def _seen(backend: Backend, interval: float, most: int, times: int | None) -> Iterator[list[Row]]:
    for turn in itertools.count() if times is None else range(times):
        if turn:
            clock.pause(interval)
        yield busiest(rows(backend), most)


def _show_live(seen: Iterator[list[Row]]) -> None:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        for found in seen:
            live.update(rich_table(COLUMNS, [cells(row) for row in found]), refresh=True)
