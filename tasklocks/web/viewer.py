"""What one viewer is sent: the part of a look that its page shows, and of that only what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasklocks.web.beats import beats
from tasklocks.web.detail import detail, strip, timeline
from tasklocks.web.hiding import Shown, real_name
from tasklocks.web.history import History
from tasklocks.web.lines import ORDERS, PAGE, Query, found, held, line
from tasklocks.web.poller import Seen, Shows
from tasklocks.web.rates import rate_lines
from tasklocks.web.snapshot import Snapshot

__all__ = ["VIEWS", "Viewer", "Wish", "answer", "wish_of"]

VIEWS = ("limits", "limit", "rates", "beats")

Event = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a viewer looks at.

    Attributes:
        view: one of `VIEWS`.
        query: of the list.
        name: the limit that is open, as the page calls it.
    """

    view: str = "limits"
    query: Query = field(default_factory=Query)
    name: str = ""


def wish_of(said: Mapping[str, str]) -> Wish:
    """Return the wish in a URL's query; what is not understood is as if it were not there."""
    view, order, page = said.get("view", ""), said.get("order", ""), said.get("page", "")
    query = Query(
        said.get("q", "")[:1000],
        order if order in ORDERS else "trouble",
        min(int(page), 1_000_000) if page.isascii() and page.isdecimal() and len(page) < 8 else 0,
        said.get("idle") == "1",
    )
    return Wish(view if view in VIEWS else "limits", query, said.get("name", "")[:2000])


def answer(snapshot: Snapshot, wish: Wish, shown: Shown) -> dict[str, Any]:
    """Return what the wish asks for, whole."""
    if wish.view == "rates":
        return {"rates": rate_lines(snapshot.texts, snapshot.at, shown)}
    if wish.view == "beats":
        return {"beats": beats(snapshot)}
    if wish.view == "limit":
        name = real_name(shown, wish.name, snapshot.limits)
        return {"limit": None if name is None else _detail(snapshot, name, shown)}
    page = found(snapshot, wish.query, shown)
    rows = [{"name": shown(state.name)} | line(state) for state in page.states]
    return {"rows": rows, "found": page.found, "total": page.total, "page": wish.query.page, "of_page": PAGE}


class Viewer:
    """One page in one browser.

    Args:
        wish: what it looks at; a browser that wants something else asks anew.
        shown: what it calls limits.
        history: the past of the limits.
    """

    def __init__(self, wish: Wish, shown: Shown, history: History) -> None:
        self.shows = Shows()
        self._wish = wish
        self._shown = shown
        self._history = history
        self._sent: dict[str, Any] = {}
        self._rows: dict[str, dict[str, Any]] = {}

    def events(self, seen: Seen) -> Iterator[Event]:
        """Yield what is new for this viewer."""
        yield "look", {"at": seen.snapshot.now() if seen.snapshot else None, "error": seen.error}
        if seen.snapshot is None:
            return
        yield from self._if_new("totals", _totals(seen.snapshot))
        if self._wish.view == "limits":
            yield from self._list(seen.snapshot)
        elif self._wish.view == "limit":
            yield from self._limit(seen.snapshot)
        else:
            parts = answer(seen.snapshot, self._wish, self._shown)
            yield from self._if_new(self._wish.view, parts[self._wish.view])

    def _list(self, snapshot: Snapshot) -> Iterator[Event]:
        page = found(snapshot, self._wish.query, self._shown)
        self.shows.listed = {state.name for state in page.states}
        rows = {state.name: line(state) for state in page.states}
        changed = {self._shown(name): self._row(name, row) for name, row in rows.items() if self._rows.get(name) != row}
        frame = {"order": [self._shown(name) for name in rows], "found": page.found, "total": page.total}
        self._rows = rows
        if changed or self._sent.get("list") != frame:
            self._sent["list"] = frame
            yield "list", frame | {"rows": changed}

    def _row(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        # Once; from then on the browser goes on by itself.
        return row if name in self._rows else row | {"strip": strip(self._history.past(name))}

    def _limit(self, snapshot: Snapshot) -> Iterator[Event]:
        opened = next(iter(self.shows.opened), None)
        name = opened or real_name(self._shown, self._wish.name, snapshot.limits)
        if name is None:
            yield from self._if_new("limit", None)
            return
        self.shows.opened = {name}
        yield from self._if_new("limit", _detail(snapshot, name, self._shown))
        yield from self._if_new("timeline", timeline(self._history.past(name)))

    def _if_new(self, event: str, data: Any) -> Iterator[Event]:
        if event not in self._sent or self._sent[event] != data:
            self._sent[event] = data
            yield event, data


def _detail(snapshot: Snapshot, name: str, shown: Shown) -> dict[str, Any]:
    return detail(snapshot.limit(name), snapshot.at, snapshot.sizes.get(name), shown)


def _totals(snapshot: Snapshot) -> dict[str, int]:
    states = [each for each in snapshot.limits.values() if each.holders or each.waiters]
    return {
        "used": len(states),
        "awaited": sum(bool(each.waiters) for each in states),
        "waiting": sum(len(each.waiters) for each in states),
        "over": sum(held(each) > each.capacity for each in states),
    }
