"""How answers look: JSON for programs, tables for people; in colour only where a terminal and `rich` are there.

What owners wrote about themselves is data: control characters in it are shown by their codes, never obeyed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from tasklocks.names import escaped

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ago", "rich_table", "say", "say_json", "say_table", "table_text", "when"]

Rows = Sequence[Sequence[str]]


def say(text: str, *, aside: bool = False) -> None:
    """Print a sentence; `aside`, beside the answer."""
    click.echo(escaped(text), err=aside)


def say_json(answer: Any) -> None:
    """Print an answer as one JSON document."""
    click.echo(json.dumps(answer, default=_plain, ensure_ascii=False))


def say_table(headers: Sequence[str], rows: Rows) -> None:
    """Print a table."""
    if sys.stdout.isatty() and find_spec("rich"):
        from rich.console import Console

        Console().print(rich_table(headers, rows))
    else:
        click.echo(table_text(headers, rows))


def table_text(headers: Sequence[str], rows: Rows) -> str:
    """Return a table as plain text, two spaces between its columns."""
    lines = [list(headers), *([escaped(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def rich_table(headers: Sequence[str], rows: Rows) -> Table:
    """Return a table for `rich`."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        # As Text, for a name with square brackets in it is no markup.
        table.add_row(*(Text(escaped(cell)) for cell in row))
    return table


def ago(seconds: float | None) -> str:
    """Return a duration as people say it."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{minutes} min" if hours == 0 else f"{hours} h {minutes} min"


def when(moment: float) -> str:
    """Return a moment of a clock as local time."""
    return datetime.fromtimestamp(moment).astimezone().isoformat(sep=" ", timespec="seconds")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")
