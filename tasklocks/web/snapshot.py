"""One look at all that a backend keeps, and a quick second look at a few limits of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.overview import backend_clock, pages
from tasklocks.resizing import sizes
from tasklocks.types import LimitState

__all__ = ["Snapshot", "idle_state", "refreshed", "taken"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a backend kept at one moment, about: it is read page by page.

    Attributes:
        at: backend's clock, before the first page, or when a part was looked at again.
        asked_at: local clock, at the same moment.
        taken_at: local clock, after the last page.
        took: seconds.
        limits: by name.
        texts: small texts by name, such as the states of rate limits.
        sizes: what operators said that capacities are.
    """

    at: float
    asked_at: float
    taken_at: float
    took: float
    limits: Mapping[str, LimitState]
    texts: Mapping[str, str]
    sizes: Mapping[str, int]

    def now(self) -> float:
        """Return the backend's clock now, as far as the local one tells."""
        return self.at + clock.now() - self.asked_at

    def limit(self, name: str) -> LimitState:
        """Return what was known of a limit, also of one that was not there."""
        return self.limits.get(name) or idle_state(name)


def idle_state(name: str) -> LimitState:
    """Return the state of a limit that nobody knows."""
    return LimitState(name, 0, (), (), None)


def taken(backend: Backend) -> Snapshot:
    """Read it all; raises what the backend raises."""
    began, at = clock.now(), backend_clock(backend)
    limits: dict[str, LimitState] = {}
    texts: dict[str, str] = {}
    for page in pages(backend):
        limits |= {state.name: state for state in page.limits}
        texts |= page.texts
    said = sizes(backend)
    ended = clock.now()
    return Snapshot(at, began, ended, ended - began, limits, texts, said)


def refreshed(backend: Backend, before: Snapshot, names: Collection[str]) -> Snapshot:
    """Look again at a few limits; the others stay as they were seen."""
    asked_at, at = clock.now(), backend_clock(backend)
    again = {name: backend.inspect(name) for name in names}
    return replace(before, at=at, asked_at=asked_at, limits={**before.limits, **again})
