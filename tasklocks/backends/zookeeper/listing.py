"""Limits and texts, folder by folder, for those who look at all of them.

Limits lie in folders by a digest of their names, so a page is what follows in the order of folders. A node's name may
be cut; its content has the limit's in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasklocks.backends.zookeeper import texts
from tasklocks.backends.zookeeper.nodes import name_in
from tasklocks.backends.zookeeper.session import Session, missing
from tasklocks.types import LimitState, Page

__all__ = ["page"]


def page(session: Session, inspect: Callable[[str], LimitState], after: str, most: int) -> Page:
    """See `Backend.page`; a page ends where a folder ends, or before."""
    folder, _, node = after.partition("/")
    folders = [each for each in _children(session, session.root) if each >= folder]
    for number, each in enumerate(folders):
        behind = [found for found in _children(session, f"{session.root}/{each}") if each > folder or found > node]
        if behind:
            goes_on = len(behind) > most or number + 1 < len(folders)
            shown = behind[:most]
            limits, kept = _shown(session, inspect, each, shown)
            return Page(limits, kept, f"{each}/{shown[-1]}" if goes_on else "")
    return Page((), (), "")


def _shown(
    session: Session, inspect: Callable[[str], LimitState], folder: str, nodes: Sequence[str]
) -> tuple[tuple[LimitState, ...], tuple[tuple[str, str], ...]]:
    paths = [f"{session.root}/{folder}/{node}" for node in nodes]
    contents = [each[0] for each in session.ask(*map(session.content, paths)) if not missing(each)]
    if folder == texts.FOLDER:
        return (), tuple(texts.named(content, session.server_time()) for content in contents)
    return tuple(inspect(name) for name in map(name_in, contents) if name), ()


def _children(session: Session, path: str) -> list[str]:
    (listed,) = session.ask(session.names(path))
    return [] if missing(listed) else sorted(listed[0])
