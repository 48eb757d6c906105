"""Under what circumstances something was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.plan import Plan

__all__ = ["circumstances"]


def circumstances(plan: Plan, others: Sequence[str] = ()) -> dict[str, Any]:
    """Return the date, the machine and the version of everything that takes part, with `others` if they are there."""
    packages = dict.fromkeys(each.package for each in plan.contestants if each.package)
    packages.update((name, None) for name in others if _is_there(name))
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} shared cores, loopback, {platform.system()}",
        "load_before": round(os.getloadavg()[0], 2),
        "stores": [store.software for store in plan.stores.values()],
        "packages": {name: version(name) for name in ("tasklocks", *packages)},
    }


def _is_there(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
