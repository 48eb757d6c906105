"""The pictures in docs/images, from the results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.plot import Series, chart
from benchmarks.results import Result

__all__ = ["drawn"]

_HERD = {
    "herd-messages.svg": ("Messages for each release, in both directions", "messages"),
    "herd-bytes.svg": ("Kilobytes for each release, in both directions", "kilobytes"),
}


def drawn(folder: Path, results: Mapping[str, Result]) -> None:
    """Draw what is measured again and again with ever more waiters."""
    if "herd" not in results:
        return
    folder.mkdir(exist_ok=True)
    for file, (title, figure) in _HERD.items():
        (folder / file).write_text(chart(title, "waiters", _by_store(results["herd"], figure)), "utf-8")


def _by_store(result: Result, figure: str) -> Series:
    lines = defaultdict(list)
    for row in result.rows:
        lines[row["store"]].append((row["waiters"], row[figure]))
    return lines
