"""The table of failovers in docs/beat.md: each soak test writes its row if `TASKLOCKS_WRITE_DOCS` is set."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from tests.processes import ROOT

PAGE = ROOT / "docs" / "beat.md"
START, END = "<!-- failovers -->\n", "<!-- end of failovers -->\n"
KEY = ["scheduler", "settings", "lead in", "end"]
FIGURES = ["n", "ticks", "twice", "lost", "in doubt", "leads p50", "max", "sends p50", "max"]

Rows = dict[tuple[str, ...], list[str]]


def rows() -> Rows:
    """Return what the page shows: by scheduler, settings, backend and end."""
    return _read(PAGE.read_text("utf-8"))


def write(key: Sequence[str], cells: Sequence[str]) -> None:
    """Put one row into the page; two runs may write at once."""
    if not os.environ.get("TASKLOCKS_WRITE_DOCS"):
        return
    with PAGE.open("r+", encoding="utf-8") as page:
        fcntl.flock(page, fcntl.LOCK_EX)
        text = page.read()
        before, _, rest = text.partition(START)
        shown = _read(text) | {tuple(key): list(cells)}
        page.seek(0)
        page.truncate()
        page.write(before + START + _written(shown) + END + rest.partition(END)[2])


def _read(text: str) -> Rows:
    lines = text.partition(START)[2].partition(END)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {tuple(row[: len(KEY)]): row[len(KEY) :] for row in cells}


def _written(shown: Rows) -> str:
    head = [*KEY, *FIGURES]
    body = [[*key, *shown[key]] for key in sorted(shown, key=_order)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *body])


def _order(key: Sequence[str]) -> tuple[bool, Sequence[str]]:
    return key[0] != "tasklocks", key
