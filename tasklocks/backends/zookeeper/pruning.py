"""Limits that nobody uses again do not keep the leases of killed holders: who passes looks after a few others.

The server removes a limit when its last child is gone, and ephemeral nodes with their sessions. A lease is neither.
Nobody waits for that: it takes as long as a dozen steps, and happens in a thread that ends with it.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Sequence
from typing import Any

from tasklocks.backends.zookeeper.nodes import AWAY, LEASES, Node, away_until, read, row
from tasklocks.backends.zookeeper.session import Session, missing
from tasklocks.errors import BackendUnavailable

__all__ = ["prune", "prune_now_and_then"]

_LOOKED_AT = 32  # folders of limits, and limits, at a time
_FEW = 8  # requests that are sent together
_NODES = 500
_NOW_AND_THEN = 16  # more limits are looked at than made, so that those that have ended cannot become more and more


def prune_now_and_then(session: Session) -> None:
    """Do it at one of several calls."""
    if random.randrange(_NOW_AND_THEN) == 0:  # noqa: S311 - not a secret
        prune(session)


def prune(session: Session) -> None:
    """Let what has ended in a few limits, taken at random, be removed; one look at a time is enough."""
    if not session.pruning.acquire(blocking=False):
        return
    try:
        threading.Thread(target=_prune, args=(session,), name="tasklocks-pruning-zookeeper", daemon=True).start()
    except RuntimeError:
        # The process has too many threads, or is about to end.
        session.pruning.release()


def _prune(session: Session) -> None:
    try:
        # It is nobody's wish: whoever asked for something else hears of a silent server by that.
        with contextlib.suppress(BackendUnavailable):
            _remove_ended(session, _some_limits(session))
    finally:
        session.pruning.release()


def _some_limits(session: Session) -> list[str]:
    # Folders of limits have names of two characters.
    folders = _some([path for path in _below(session, [session.root]) if path[-3] == "/"])
    limits: list[str] = []
    while folders and len(limits) < _LOOKED_AT:
        limits += _below(session, folders[:_FEW])
        del folders[:_FEW]
    return _some(limits)


def _remove_ended(session: Session, limits: Sequence[str]) -> None:
    paths = _below(session, limits)
    paths = [*paths, *_below(session, [path for path in paths if path.endswith("/a")])][:_NODES]
    nodes = [node for path in paths if (node := _node(path)) is not None]
    leases = [node for node in nodes if node.kind in LEASES]
    now = session.server_time()
    away = [node for node in nodes if node.kind == AWAY and away_until(node) <= now]
    # As in every step: what was renewed since it was read has another version, and stays.
    ended = [*_ended(session, leases, now), *(session.delete(node.path) for node in away)]
    _ask(session, ended)


def _ended(session: Session, leases: Sequence[Node], now: float) -> list[Any]:
    found = zip(leases, _ask(session, [session.content(node.path) for node in leases]), strict=True)
    rows = [row(node, answer[0], answer[1], 0) for node, answer in found if not missing(answer)]
    return [session.delete(each.node.path, each.version) for each in rows if each.is_over(now, session.epoch)]


def _below(session: Session, folders: Sequence[str]) -> list[str]:
    listed = zip(folders, _ask(session, [session.names(folder) for folder in folders]), strict=True)
    return [f"{folder}/{name}" for folder, answer in listed if not missing(answer) for name in answer[0]]


def _node(path: str) -> Node | None:
    folder, _, name = path.rpartition("/")
    return read(folder, name)


def _some(paths: Sequence[str]) -> list[str]:
    return random.sample(paths, min(len(paths), _LOOKED_AT))


def _ask(session: Session, requests: Sequence[Any]) -> list[Any]:
    # A few at a time: steps of others that come meanwhile are answered in between.
    parts = [requests[start : start + _FEW] for start in range(0, len(requests), _FEW)]
    return [answer for part in parts for answer in session.ask(*part)]
