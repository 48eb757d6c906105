"""Under what circumstances something was measured."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from benchmarks.plan import Plan

__all__ = ["circumstances"]


def circumstances(plan: Plan) -> dict[str, Any]:
    """Return the date, the machine and the version of everything that takes part."""
    packages = dict.fromkeys(each.package for each in plan.contestants if each.package)
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} shared cores, loopback, {platform.system()}",
        "load_before": round(os.getloadavg()[0], 2),
        "stores": [store.software for store in plan.stores.values()],
        "packages": {name: version(name) for name in ("tasklocks", *packages)},
    }
