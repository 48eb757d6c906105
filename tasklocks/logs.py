"""The log: one line for each moment, on a logger for each kind (`tasklocks.lost`, `tasklocks.waiting`, …).

The same facts stand in each record's `extra`, under names that stay (docs/watching.md): no credentials, and of a call's
arguments only what its limit's name shows.
"""

from __future__ import annotations

import logging
from typing import Any

from tasklocks import news
from tasklocks.news import About, Kind, News

__all__ = ["follow"]

_LINES: dict[Kind, tuple[int, str]] = {
    "waiting": (logging.DEBUG, "{who} waits for limit {limit!r}{ahead}{reason}"),
    "acquired": (logging.DEBUG, "{who} has limit {limit!r} after {waited:.3f} s of waiting"),
    "released": (logging.DEBUG, "{who} gives limit {limit!r} back after {held:.3f} s"),
    "lost": (logging.WARNING, "the lease of {limit!r} is lost{reason}{by}"),
    "skipped": (logging.INFO, "{who} is skipped{reason}"),
    "refused": (logging.INFO, "{who} does not wait{reason}"),
    "timed_out": (logging.INFO, "{who} has waited for too long{reason}"),
    "unreachable": (logging.WARNING, "{who} waits, for its backend is not usable{reason}"),
}

_loggers = {kind: logging.getLogger(f"tasklocks.{kind}") for kind in _LINES}
_DETAILS = frozenset(kind for kind, (level, _) in _LINES.items() if level == logging.DEBUG)


def follow() -> None:
    """Write lines of level DEBUG from now on if the loggers want them now, or not any more if they don't.

    A task that nobody watches must not pay for asking a logger each time. So they are asked here: when a worker or a
    process of its pool starts, and at the first lease of any other process. Whoever changes levels later calls it.
    """
    wanted = {kind for kind in _DETAILS if _loggers[kind].isEnabledFor(logging.DEBUG)}
    news.unsubscribe(_write, _DETAILS - wanted)
    if wanted:
        news.subscribe(_write, wanted)


def _write(told: News) -> None:
    level, line = _LINES[told.kind]
    logger = _loggers[told.kind]
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _text(line, told), extra=_extra(told))


def _extra(told: News) -> dict[str, Any]:
    return {f"tasklocks_{name}": value for name, value in news.facts(told).items()}


def _text(line: str, told: News) -> str:
    parts: dict[str, Any] = {
        "who": _who(told.about),
        "by": f"; it was {_who(told.about)}'s" if told.about.task else "",
        "ahead": "" if told.place is None else f", {told.place} in front",
        "reason": f": {told.reason}" if told.reason else "",
    }
    return line.format(limit=told.about.limit, waited=told.waited, held=told.held or 0.0, **parts)


def _who(about: About) -> str:
    if about.task:
        return f"{about.task}[{about.task_id}]" if about.task_id else about.task
    return about.owner or "somebody"


news.subscribe(_write, set(_LINES) - _DETAILS)
