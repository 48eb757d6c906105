"""`celery inspect beat_leader`: who leads, as every worker sees it whose app imports `tasklocks.beat`."""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command

from tasklocks.beat.lead import leader
from tasklocks.errors import BackendUnavailable

__all__ = ["beat_leader"]


@inspect_command()
def beat_leader(state: Any) -> dict[str, str]:
    """Say which process leads the beats of this app, and since when."""
    try:
        found = leader(state.app)
    except BackendUnavailable as down:
        return {"error": str(down)}
    if found is None:
        return {"leader": "nobody"}
    return {"leader": str(found), "host": found.host, "pid": found.pid, "since": found.since.isoformat()}
