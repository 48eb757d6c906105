"""Under what circumstances something was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from benchmarks.contestants import Contestant, release_of
from tests.servers import RedisServer

__all__ = ["circumstances"]


def circumstances(contestants: Sequence[Contestant]) -> dict[str, Any]:
    """Return the date, the machine and the version of everything that took part."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} shared cores, loopback, {platform.system()}",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {"tasklocks": version("tasklocks"), **_stores(contestants), **_packages(contestants)},
    }


def _stores(contestants: Sequence[Contestant]) -> dict[str, str]:
    known = {"sqlite": ("SQLite", lambda: sqlite3.sqlite_version), "redis": ("redis-server", _redis)}
    used = dict.fromkeys(each.store for each in contestants)
    return {known[store][0]: known[store][1]() for store in used if store in known}


def _redis() -> str:
    answer = subprocess.run([RedisServer.program, "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.removeprefix("v=") for word in answer.split() if word.startswith("v="))


def _packages(contestants: Sequence[Contestant]) -> dict[str, str]:
    return {each.package: release_of(each) or "missing" for each in contestants if each.package}
