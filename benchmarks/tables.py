"""How rows are shown: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

__all__ = ["Column", "for_markdown", "for_terminal"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: of the value in a row.
        title: what stands above it.
        form: how a number is written, as in `format`; empty: the value is text.
    """

    key: str
    title: str
    form: str = ""

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the row's value as it is shown."""
        value = row.get(self.key)
        return "-" if value is None else format(value, self.form)


def for_terminal(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table for rich."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.title, justify="right" if column.form else "left", no_wrap=True)
    for row in rows:
        style = "bold" if row.get("role") == "tasklocks" else ""
        table.add_row(*(column.text(row) for column in columns), style=style)
    return table


def for_markdown(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table in Markdown."""
    lines = [[column.title for column in columns], ["---:" if column.form else "---" for column in columns]]
    lines += [[column.text(row) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
