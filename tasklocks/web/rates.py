"""Rate limits as the page shows them: what is booked, what a window has used, and pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasklocks.consumption import rate_view
from tasklocks.views import RateView
from tasklocks.web.hiding import Shown

__all__ = ["rate_lines"]

_SHOWN = 500


def rate_lines(texts: Mapping[str, str], at: float, shown: Shown) -> list[dict[str, Any]]:
    """Return a line for each rate limit: the paused ones first, then those that are booked furthest ahead."""
    views = (rate_view(shown(name), text, at) for name, text in texts.items())
    lines = [_line(view, at) for view in views if view is not None]
    return sorted(lines, key=lambda line: (-line["paused_until"], -line["booked_until"], line["name"]))[:_SHOWN]


def _line(view: RateView, at: float) -> dict[str, Any]:
    # Moments, for they stay as they are while time goes on.
    return {
        "name": view.name,
        "algorithm": view.algorithm,
        "paused_until": round(at + view.paused_for, 1) if view.paused_for else 0.0,
        "booked_until": round(at + view.booked_for, 1) if view.booked_for else 0.0,
        "used": view.used,
    }
