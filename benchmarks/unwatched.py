"""`watching`: what a locked task pays for those who may watch it, in bytecodes of Python, which are the same each time.

The first row runs tasklocks with every line of news cut out of its source; the others run it as it is, without and with
somebody who watches. Each in a process of its own. Machine instructions are counted too where valgrind is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan

__all__ = ["measure"]

WAYS = {
    "cut": "all news cut out of the source",
    "nobody": "nobody watches",
    "events": "events enabled",
    "metrics": "metrics",
    "signal": "one receiver of each signal",
    "log": "log lines of level DEBUG",
}
_COUNTED_BY_MACHINE = ("cut", "nobody")
_FEW, _MANY = 100, 1100  # tasks; what the second has more is theirs, and not the process's start


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each way of watching, and for each kind of store."""
    stores = [each.store for each in plan.ours() if each.store in ("memory", "redis")]
    rows = [row for store in stores for row in _rows(store, plan)]
    by_way = {(row["store"], row["way"]): row for row in rows}
    for row in rows:
        row["times_cut"] = row["bytecodes"] / by_way[row["store"], WAYS["cut"]]["bytecodes"]
    return rows


def _rows(store: str, plan: Plan) -> list[dict[str, Any]]:
    ways = WAYS if plan.scale.seconds >= 1 else {way: WAYS[way] for way in _COUNTED_BY_MACHINE}
    url = "memory://unwatched" if store == "memory" else plan.stores[store].another(902)
    return [
        {
            "store": store,
            "way": title,
            "role": "tasklocks",
            "bytecodes": float(_run(way, url)),
            "instructions": _instructions(way, url, plan) if way in _COUNTED_BY_MACHINE else None,
        }
        for way, title in ways.items()
    ]


def _command(way: str, url: str, tasks: int = 0) -> list[str]:
    return [sys.executable, "-m", "benchmarks.unwatched_task", way, url, str(tasks)]


def _run(way: str, url: str) -> str:
    return subprocess.run(_command(way, url), check=True, capture_output=True, text=True).stdout


def _instructions(way: str, url: str, plan: Plan) -> float | None:
    """Return the machine's instructions a task; None: nobody can count them here, or it would take too long."""
    if shutil.which("valgrind") is None or plan.scale.seconds < 1 or url.startswith("redis"):
        return None
    few, many = (_counted(_command(way, url, tasks)) for tasks in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def _counted(command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run([*tool, f"--log-file={log}", *command], check=True, capture_output=True, env=environ)
        found = re.search(r"I +refs: +([\d,]+)", log.read_text())
        assert found, log.read_text()
        return int(found[1].replace(",", ""))
