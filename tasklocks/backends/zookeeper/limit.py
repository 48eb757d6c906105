"""One limit as one step sees it: listed, and settled, which means without what is over and with its line served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tasklocks.backends.zookeeper import pruning
from tasklocks.backends.zookeeper.known import Held, Known
from tasklocks.backends.zookeeper.nodes import (
    AWAY,
    LEASE,
    LEASES,
    WAITER,
    Header,
    Node,
    Row,
    away_until,
    in_order,
    limit_node,
    read,
    read_header,
    row,
    written,
    written_header,
)
from tasklocks.backends.zookeeper.session import Session, failure, missing
from tasklocks.backends.zookeeper.view import Settled, View, serve
from tasklocks.errors import BackendUnavailable

__all__ = ["Limit"]

_TRIES = 30
_SWEPT = 20  # lapsed places of those who are away that one step removes


class Limit:
    """One limit on the server.

    Args:
        session: this process's session.
        known: what this process knows.
        name: the limit.
    """

    def __init__(self, session: Session, known: Known, name: str) -> None:
        self.session = session
        self.known = known
        self.name = name
        self.path = f"{session.root}/{limit_node(name)}"
        self.queue = f"{self.path}/q"
        self.outside = f"{self.path}/a"

    def make(self, capacity: int) -> None:
        """Create the limit's node, and what is above it."""
        # The server forgets idle limits after a minute; what this process still knows of it is as good.
        last = self.known.headers.get(self.path, Header(capacity, None, 0))
        content = written_header(self.name, last)
        above = self.session.container(self.path.rpartition("/")[0])
        if missing(self.session.ask(above, self.session.container(self.path, content))[1]):
            self.session.make_root()
            self.session.ask(above, self.session.container(self.path, content))

        pruning.prune_now_and_then(self.session)

    def view(self) -> View | None:
        """Return what is there; None if the limit is not."""
        session = self.session
        for _ in range(_TRIES):
            # Others move between two listings: from the leases into the line when they did not fit, and back when they
            # are granted. So the line is listed between two listings of the leases, and nobody is missed.
            first, queue, away, top = session.ask(
                session.names(self.path),
                session.names(self.queue),
                session.names(self.outside),
                session.names(self.path),
            )
            if missing(first) or missing(top):
                return None
            if not self._went_somewhere(first[0], _names(queue), top[0]):
                return self._view(_names(queue), _names(away), top)
        raise BackendUnavailable(f"the limit {self.name!r} changes faster than it can be read")

    def _went_somewhere(self, first: list[str], queue: list[str], top: list[str]) -> bool:
        """Tell whether a lease went away meanwhile that may be in line now, and is not in this listing of it."""
        gone = self.nodes(self.path, set(first) - set(top), (LEASE,))
        return bool({node.digest for node in gone} - {node.digest for node in self.nodes(self.queue, queue, (WAITER,))})

    def _view(self, queue: list[str], away: list[str], top: Any) -> View:
        leases = self.nodes(self.path, top[0], LEASES)
        moved = {node.digest for node in leases}
        line = [node for node in self.nodes(self.queue, queue, (WAITER,)) if node.digest not in moved]
        outside = self.nodes(self.outside, away, (AWAY,))
        return View(self.header(top[1].version), top[1].cversion, leases, line, outside)

    def header(self, version: int) -> Header:
        """Return the limit's header, read again only if it is not of this version or newer."""
        known = self.known.headers.get(self.path)
        if known is not None and known.version == version:
            return known
        return self.fresh_header()

    def fresh_header(self) -> Header:
        """Read the limit's header."""
        (answer,) = self.session.ask(self.session.content(self.path))
        if missing(answer):
            return Header(0, None, -1)
        header = self.known.headers[self.path] = read_header(answer[0], answer[1].version)
        return header

    def header_write(self, header: Header) -> Any:
        """Replace the header, if it still is of the version that it was."""
        return self.session.write(self.path, written_header(self.name, header), header.version)

    def nodes(self, folder: str, names: Iterable[str], kinds: Sequence[str]) -> list[Node]:
        """Return what the names tell, first come first."""
        listed = (read(folder, name) for name in names)
        return in_order(node for node in listed if node is not None and node.kind in kinds)

    def rows(self, nodes: Sequence[Node]) -> dict[str, Row]:
        """Read the nodes; those that are gone are missing in the result."""
        if not nodes:
            return {}
        answers = self.session.ask(*(self.session.content(node.path) for node in nodes))
        found = {
            node.path: row(node, answer[0], answer[1], self.session.token(answer[1].czxid))
            for node, answer in zip(nodes, answers, strict=True)
            if not missing(answer)
        }
        self.known.rows.update(found)
        return found

    def settle(
        self, *, capacity: int | None = None, without: Node | None = None, served: Node | None = None
    ) -> Settled | None:
        """Drop what is over and serve the line.

        Args:
            capacity: what counts from now on; None: what counted before.
            without: a lease that does not count: the caller is not sure of it yet.
            served: a waiter that the caller serves itself.

        Returns:
            What is there then; None if there is no limit.
        """
        self._drop_abandoned()
        replaced = None
        for _ in range(_TRIES):
            view = self.view()
            if view is None:
                return None
            view.leases = [node for node in view.leases if node != without]
            settled = self._settled(view)
            if settled is None:
                continue
            settled.replaced = replaced
            wanted = view.header.capacity if capacity is None else capacity
            stays = wanted == view.header.capacity
            # Before the capacity changes, whoever has its permits is marked: a smaller one must not take them away.
            # Who is served here was not told of any yet, and is to be served under the new one.
            if not self._mark(settled, served):
                continue
            if stays:
                return settled
            if self.write_header(_with_capacity(view.header, wanted, settled.now)):
                replaced = view.header.capacity or None
        raise BackendUnavailable(f"the limit {self.name!r} changes faster than it can be read")

    def renewed(self, held: Held, stat: Any, deadline: float) -> None:
        """Note that a lease of this process lasts longer now."""
        self.session.note_time(stat.mtime, stat.mzxid)
        self.known.rows.pop(held.path, None)
        held.deadline = deadline

    def write_header(self, header: Header) -> bool:
        """Replace the header unless somebody else did; tell whether it was done."""
        (answer,) = self.session.ask(self.header_write(header))
        if isinstance(answer, Exception):
            return False
        self.known.headers[self.path] = replace(header, version=answer.version)
        return True

    def _drop_abandoned(self) -> None:
        """Give up places of this process whose waiters did not ask again; those of dead processes go by themselves."""
        for seat in self.known.lapsed(self.path):
            self.known.forget(seat)
            self.session.send(self.session.delete(seat.path))

    def _settled(self, view: View) -> Settled | None:
        now = self.session.server_time()
        known = {node.path: self.known.rows[node.path] for node in view.leases if node.path in self.known.rows}
        # What is known of a lease may be old, but then it ends later than known, never earlier.
        unsure = [node for node in view.leases if node.path not in known or not _lasts(known[node.path], now)]
        heads = self._heads(view)
        fresh = self.rows([*unsure, *heads])
        # What is gone may be there under another name that was not listed: a waiter that holds a lease by now, a lease
        # whose permits stay taken. Then nobody must be served in its place.
        if any(node.path not in fresh for node in (*unsure, *heads)):
            return None
        over = [each for each in fresh.values() if each.is_over(now, self.session.epoch)]
        gone = self._removed(over)
        rows = {path: each for path, each in {**known, **fresh}.items() if path not in gone}
        view.leases = [node for node in view.leases if node.path not in gone]
        view.line = [node for node in view.line if node.path not in gone]
        view.away = self.present(view.away, now)
        return serve(Settled(view, rows, [], [], now))

    def _heads(self, view: View) -> list[Node]:
        """Return those in line of whom it must be known whether they are marked."""
        free = view.header.capacity - sum(node.permits for node in view.leases)
        # One more than fit: after a smaller capacity came, one who does not fit may have its permits all the same.
        # And at least a few, for what is over may make room for them.
        return view.line[: max(free, 4) + 1]

    def _removed(self, over: Sequence[Row]) -> set[str]:
        """Remove what is over, unless it was renewed just now; return the paths of what is gone."""
        if not over:
            return set()
        answers = self.session.ask(*(self.session.delete(each.node.path, each.version) for each in over))
        removed = {
            each.node.path for each, answer in zip(over, answers, strict=True) if answer is True or missing(answer)
        }
        for path in removed:
            self.known.rows.pop(path, None)
        return removed

    def present(self, away: Sequence[Node], now: float) -> list[Node]:
        """Return those who are away and still keep their places."""
        lapsed = [node for node in away if away_until(node) <= now]
        for node in lapsed[:_SWEPT]:
            self.session.send(self.session.delete(node.path))
        return [node for node in away if away_until(node) > now]

    def _mark(self, settled: Settled, served: Node | None) -> bool:
        """Mark those who were granted and may not know; tell whether all was as it was seen."""
        unmarked = [
            settled.rows[node.path]
            for node in settled.granted
            if node != served and node.path in settled.rows and not settled.rows[node.path].marked
        ]
        if any(node.path not in settled.rows for node in settled.granted):
            return False
        if not unmarked:
            return True
        session = self.session
        answers = session.ask(*(self._marking(each, settled.view.header) for each in unmarked))
        for each, answer in zip(unmarked, answers, strict=True):
            if failure(answer) is not None:
                return False
            settled.rows[each.node.path] = _marked(each, answer[-1])
        return True

    def _marking(self, waiter: Row, header: Header) -> Any:
        content = written(waiter.owner, waiter.ttl, waiter.info, marked=True)
        return self.session.together(
            self.session.unchanged(self.path, header.version),
            self.session.write(waiter.node.path, content, waiter.version),
        )


def _with_capacity(header: Header, capacity: int, now: float) -> Header:
    return replace(header, capacity=capacity, lowered=now if capacity < header.capacity else header.lowered)


def _lasts(known: Row, now: float) -> bool:
    return known.until is not None and known.until > now


def _marked(waiter: Row, stat: Any) -> Row:
    content = json.dumps({"owner": waiter.owner, "ttl": waiter.ttl, "info": waiter.info, "marked": True}).encode()
    return row(waiter.node, content, stat, waiter.token)


def _names(listed: Any) -> list[str]:
    return [] if missing(listed) else listed[0]
