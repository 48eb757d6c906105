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
    lines = [_line(view) for view in views if view is not None]
    return sorted(lines, key=lambda line: (-line["paused"], -line["booked"], line["name"]))[:_SHOWN]


def _line(view: RateView) -> dict[str, Any]:
    return {
        "name": view.name,
        "algorithm": view.algorithm,
        "paused": round(view.paused_for, 1),
        "booked": round(view.booked_for, 1),
        "used": view.used,
    }
