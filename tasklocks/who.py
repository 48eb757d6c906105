"""What an owner says about itself, as one short text that backends carry without looking into it."""

from __future__ import annotations

import json
import os
import socket

from tasklocks.fork import PerProcess

__all__ = ["read", "this_process", "written"]


def written(**facts: str) -> str:
    """Return the facts as text."""
    return json.dumps(facts, separators=(",", ":"))


def read(info: str) -> dict[str, str]:
    """Return the facts that `written` wrote; empty for anything else, for what comes from a backend is only data."""
    try:
        facts = json.loads(info)
    except ValueError:
        return {}
    if not isinstance(facts, dict):
        return {}
    return {str(key): str(value) for key, value in facts.items()}


this_process = PerProcess(lambda: written(host=socket.gethostname(), pid=str(os.getpid())))
"""Return the facts about this process, as text."""
