"""What one sees while the demo runs: bars and holders on a terminal, a line every second elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from record import Story
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Row", "Show", "live"]

_BAR = 20
_PLAIN_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of task.

    Attributes:
        task: its name.
        limit: its lock.
        capacity: the lock's permits.
        total: how many of its bodies have to run under the lock.
    """

    task: str
    limit: str
    capacity: int
    total: int

    def counts(self, story: Story) -> tuple[int, int, int]:
        """Return how many are done, running and waiting."""
        holds = story.of(self.limit)
        running = sum(hold.end is None for hold in holds)
        return len(holds) - running, running, self.total - len(holds)


class Show:
    """Shows a story that goes on."""

    def __init__(self, rows: tuple[Row, ...], console: Console, screen: Live | None) -> None:
        self._rows = rows
        self._console = console
        self._screen = screen
        self._began = self._printed = time.monotonic()

    def update(self, story: Story) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if self._screen is not None:
            self._screen.update(_screen(self._rows, story, now))
        elif now - self._printed >= _PLAIN_EVERY:
            self._printed = now
            self._console.print(
                f"{now - self._began:5.1f} s  {_line(self._rows, story)}", highlight=False, soft_wrap=True
            )


@contextmanager
def live(rows: tuple[Row, ...], console: Console) -> Iterator[Show]:
    """Return what shows the progress until the block is left."""
    if not console.is_terminal:
        yield Show(rows, console, None)
        return
    with Live(console=console, refresh_per_second=10) as screen:
        yield Show(rows, console, screen)


def _line(rows: tuple[Row, ...], story: Story) -> str:
    parts = ["{}: {} done, {} running, {} waiting".format(row.task, *row.counts(story)) for row in rows]
    return "; ".join([*parts, f"sent again {len(story.again)} times"])


def _screen(rows: tuple[Row, ...], story: Story, now: float) -> Group:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        done, running, waiting = row.counts(story)
        permits = f"{row.capacity} at once"
        numbers = f"{done} done, {running} running, {waiting} waiting"
        table.add_row(Text(row.task, "bold"), Text(permits, "dim"), _bar(done, running, row.total), numbers)
    again = Text(f"busy tasks were sent again {len(story.again)} times", "dim")
    return Group(table, again, Text("holders now", "bold"), _holders(rows, story, now))


def _bar(done: int, running: int, total: int) -> Text:
    ended = round(done / total * _BAR)
    active = min(running, _BAR - ended)
    return Text.assemble(
        ("━" * ended, "green"), ("━" * active, "bold yellow"), ("─" * (_BAR - ended - active), "bright_black")
    )


def _holders(rows: tuple[Row, ...], story: Story, now: float) -> Table:
    """Return a table of as many lines as there are permits, so that it does not jump."""
    table = Table.grid(padding=(0, 2))
    for row in rows:
        running = [hold for hold in story.of(row.limit) if hold.end is None]
        for hold in running:
            who = f"{hold.worker.partition('@')[0]} pid {hold.pid}"
            table.add_row(f"  {row.limit}", hold.what, who, f"token {hold.token}", f"{now - hold.start:.1f} s")
        for _ in range(row.capacity - len(running)):
            table.add_row(f"  {row.limit}", Text("free", "dim"))
    return table
