"""`python -m benchmarks`: measure, show, and keep the results."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import page, pictures, targets
from benchmarks.contestants import chosen
from benchmarks.machine import circumstances
from benchmarks.measures import MEASURES
from benchmarks.plan import FULL, QUICK, Plan, prepared
from benchmarks.results import Result, load, save
from benchmarks.tables import for_terminal

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "benchmarks.md"

_console = Console(width=None if sys.stdout.isatty() else 160)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; return 1 if a mutex of ours let two in or a rate too many, else 0."""
    asked = _parser().parse_args(arguments)
    # The first warns of each busy lock, which is what the proof of exclusion wants, the others when a relay is gone.
    for talkative in ("redis_lock", "kazoo", "tasklocks.zookeeper"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    scale = QUICK if asked.quick else FULL
    if asked.seconds:
        scale = dataclasses.replace(scale, seconds=asked.seconds, rate_seconds=max(1.0, round(asked.seconds)))
    with prepared(chosen(asked.only), scale) as plan:
        results = {name: _measured(name, plan) for name in asked.measures or MEASURES}
        # From here on clients outlive their servers by a moment, and would complain.
        logging.disable(logging.CRITICAL)
    rows = targets.checked({name: result.rows for name, result in results.items()})
    _console.print(for_terminal("Promises", targets.COLUMNS, [row for row in rows if row["kept"]]))
    _keep(results, asked)
    rows_of_all = [row for result in results.values() for row in result.rows]
    return int(any(row.get("overlaps") or row.get("fullest", 0) > 1 for row in rows_of_all))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="contestants whose store or name has it")
    parser.add_argument("--seconds", type=float, help=f"of measuring for each contestant; default: {FULL.seconds:g}")
    parser.add_argument("--quick", action="store_true", help="show that all runs, in seconds; figures mean nothing")
    parser.add_argument(
        "--results",
        type=lambda text: Path(text).resolve(),
        help="folder for the JSON files; default: benchmarks/results, and "
        "nowhere with --only or --quick, for figures of different runs should not be compared",
    )
    return parser


def _measured(name: str, plan: Plan) -> Result:
    measure = MEASURES[name]
    facts = circumstances(plan, measure.packages)
    with _console.status(f"{measure.title} …"):
        rows = measure.run(plan)
    _console.print(for_terminal(measure.title, measure.columns, rows))
    return Result(name, facts, measure.seconds(plan.scale), plan.skipped, rows)


def _keep(results: dict[str, Result], asked: argparse.Namespace) -> None:
    folder = asked.results or (None if asked.only or asked.quick else RESULTS)
    if folder is None:
        return
    for result in results.values():
        save(result, folder)
    if folder == RESULTS:
        page.updated(PAGE, load(RESULTS))
        pictures.drawn(PAGE.parent / "images", load(RESULTS))


if __name__ == "__main__":
    raise SystemExit(main())
