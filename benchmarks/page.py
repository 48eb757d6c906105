"""Puts the tables into docs/benchmarks.md, between marks; what stands around them is written by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks import targets
from benchmarks.measures import MEASURES
from benchmarks.results import Result
from benchmarks.tables import for_markdown

__all__ = ["updated"]

_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: Path, results: Mapping[str, Result]) -> None:
    """Replace each marked part of the page by the table of that result, if there is one."""
    tables = {name: _section(result) for name, result in results.items()}
    tables["promises"] = for_markdown(
        targets.COLUMNS, targets.checked({name: each.rows for name, each in results.items()})
    )

    def fresh(mark: re.Match[str]) -> str:
        begin, name, end = mark.groups()
        return f"{begin}{tables[name]}\n{end}" if name in tables else mark.group()

    page.write_text(_MARKED.sub(fresh, page.read_text()))


def _section(result: Result) -> str:
    return f"{for_markdown(MEASURES[result.measure].columns, result.rows)}\n\n{_circumstances(result)}"


def _circumstances(result: Result) -> str:
    facts = result.circumstances
    versions = ", ".join([*facts["stores"], *(f"{name} {number}" for name, number in facts["packages"].items())])
    text = (
        f"Measured {facts['date']}, {result.seconds:g} s each, on {facts['machine']} "
        f"(load before: {facts['load_before']:g}), {versions}."
    )
    missing = " ".join(f"Not measured: {name} ({reason})." for name, reason in result.skipped.items())
    return f"{text} {missing}".strip()
