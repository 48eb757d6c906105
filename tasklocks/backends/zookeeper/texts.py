"""Small texts by name, each in a node of its own: read, changed here, written if the node has the same version.

The server removes nothing that is no one's, so whoever makes a text looks after a few others whose time is over.
"""

from __future__ import annotations

import json
import random
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change
from tasklocks.backends.zookeeper.nodes import limit_node
from tasklocks.backends.zookeeper.session import Session, failure, missing

__all__ = ["FOLDER", "named", "update"]

FOLDER = "texts"
"""Where they are, below the prefix."""

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05
_LOOKED_AFTER = 4

T = TypeVar("T")


def update(session: Session, name: str, change: Change[T]) -> T:
    """See `Backend.update`."""
    folder = f"{session.root}/{FOLDER}"
    path = f"{folder}/{limit_node(name).partition('/')[2]}"
    pause = _FIRST_PAUSE
    while True:
        now = session.server_time()
        (found,) = session.ask(session.content(path))
        old = "" if missing(found) else _live(found[0], now)
        new, keep, answer = change(old, now)
        if new == old or _written(session, folder, path, found, json.dumps([now + keep, new, name]).encode()):
            return answer
        clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)


def named(content: bytes, now: float) -> tuple[str, str]:
    """Return name and text of a node's content."""
    return str(_said(content)[2]), _live(content, now)


def _written(session: Session, folder: str, path: str, found: Any, content: bytes) -> bool:
    """Write the content, unless somebody was faster."""
    if not missing(found):
        (stat,) = session.ask(session.write(path, content, found[1].version))
        if failure(stat) is None:
            session.note_time(stat.mtime, stat.mzxid)
        return failure(stat) is None
    (made,) = session.ask(session.create(path, content))
    if missing(made):
        session.make_root()
        made = session.ask(session.container(folder), session.create(path, content))[1]
    if failure(made) is None:
        _look_after(session, folder)
    return failure(made) is None


def _look_after(session: Session, folder: str) -> None:
    (listed,) = session.ask(session.names(folder))
    names = [] if missing(listed) else listed[0]
    paths = [f"{folder}/{name}" for name in random.sample(names, min(len(names), _LOOKED_AFTER))]
    found = zip(paths, session.ask(*map(session.content, paths)), strict=True) if paths else ()
    now = session.server_time()
    over = [
        session.delete(path, answer[1].version)
        for path, answer in found
        if failure(answer) is None and _end(answer[0]) <= now
    ]
    if over:
        session.ask(*over)


def _live(content: bytes, now: float) -> str:
    return str(_said(content)[1]) if _end(content) > now else ""


def _end(content: bytes) -> float:
    until = _said(content)[0]
    return float(until) if isinstance(until, (int, float)) else 0.0


def _said(content: bytes) -> Any:
    try:
        said = json.loads(content)
    except ValueError:
        return 0.0, "", ""
    return said if isinstance(said, list) and len(said) == 3 else (0.0, "", "")
