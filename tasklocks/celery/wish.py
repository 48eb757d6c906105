"""One rate limit of one call, and the steps on its backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasklocks import ratelimit
from tasklocks.backends import Backend, fingerprint
from tasklocks.backends.base import RETENTION
from tasklocks.celery.conf import Settings
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.waited import Booked
from tasklocks.celery.work import Work
from tasklocks.rates import RateState
from tasklocks.started import Started
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

__all__ = ["Wish", "told_apart", "wish_of"]

_SHORTEST_GRACE = 0.25
_LONGEST_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call wants of one rate limit.

    Attributes:
        spec: what the decorator says.
        backend: where the limit lives.
        name: the limit.
        paces: its rates now.
        cost: what the call takes of them.
        apart: what tells it from a limit of the same name on another backend, if the call wishes for both.
    """

    spec: RateSpec
    backend: Backend
    name: str
    paces: tuple[Pace, ...]
    cost: float
    apart: str = ""

    @property
    def key(self) -> str:
        """What the call knows the limit by."""
        return self.name + self.apart

    def __str__(self) -> str:
        return f"rate limit {self.name!r} ({', '.join(f'{pace.limit:g} in {pace.period:g} s' for pace in self.paces)})"

    @property
    def grace(self) -> float:
        """For how many seconds after its moment a start is still good.

        A tenth of the period, 0.25 s at the least, a minute at the most; what comes later: see `RateState.begin`.
        """
        return min(max(min(pace.period for pace in self.paces) / 10, _SHORTEST_GRACE), _LONGEST_GRACE)

    @property
    def started(self) -> Started:
        """What the body can do to the limit."""
        return Started(self.name, lambda until: ratelimit.pause_until(self.backend, self.name, until))

    def reserve(self, max_wait: float | None) -> Slot | Refused:
        """Reserve the next start."""
        return self.backend.reserve(self.request(max_wait))

    def begin(self, booked: Booked) -> tuple[Booked, float] | None:
        """Return what a task has that comes back with a start, and the seconds until it; None: it has lost it."""

        def change(text: str, now: float) -> tuple[str, float, tuple[Booked, float] | None]:
            state = RateState.read(text)
            left = state.due(self.paces, booked.start, booked.made) - now
            if booked.late and (left > 0 or (left >= -self.grace and now >= state.paused_until)):
                return text, 0.0, (booked, left)
            slot = state.begin(self.paces, self.cost, booked.slot, now, self.grace)
            if slot is None:
                return text, 0.0, None
            if slot.made == booked.made:
                return text, 0.0, (booked, slot.wait)
            late = Booked(self.key, slot.start, slot.made, late=True)
            return state.written(), state.lasts(now) + RETENTION, (late, slot.wait)

        return self.backend.update(self.name, change)

    def give_back(self, booked: Booked) -> bool:
        """Let others have a start, if that is exact; return whether it was."""

        def change(text: str, now: float) -> tuple[str, float, bool]:
            state = RateState.read(text)
            if booked.late or not state.give_back(self.paces, self.cost, booked.slot, now):
                return text, 0.0, False
            return state.written(), state.lasts(now) + RETENTION, True

        return self.backend.update(self.name, change)

    def left(self, booked: Booked) -> float:
        """Return the seconds until a reserved start, with the pauses since; 0.0: none."""
        return ratelimit.slot_left(self.backend, self.name, self.paces, booked.slot)

    def request(self, max_wait: float | None) -> ReserveRequest:
        """Return what to ask the backend for."""
        return ReserveRequest(self.name, self.paces, self.cost, max_wait)


def wish_of(spec: RateSpec, settings: Settings, work: Work) -> Wish:
    """Return what a call wants of the limit; raise `ConfigurationError` if it could never start."""
    paces = spec.paces()
    cost = spec.cost_of(paces, work.key_args, work.kwargs)
    name = spec.key(work.key_args, work.kwargs)
    return Wish(spec, settings.backend(spec.backend, spec.where), name, paces, cost)


def told_apart(wishes: Sequence[Wish]) -> list[Wish]:
    """Return the wishes of one call, with keys of their own for limits of one name on several backends."""
    homes: dict[str, Backend] = {}
    return [
        wish
        if homes.setdefault(wish.name, wish.backend) is wish.backend
        else replace(wish, apart=f"@{fingerprint(wish.backend)[:12]}")
        for wish in wishes
    ]
