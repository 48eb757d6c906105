"""One rate limit of one call, and the steps on its backend."""

from __future__ import annotations

from dataclasses import dataclass

from tasklocks import ratelimit
from tasklocks.backends import Backend
from tasklocks.celery.conf import Settings
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.waited import Booked
from tasklocks.celery.work import Work
from tasklocks.rates import RateState
from tasklocks.started import Started
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

__all__ = ["Wish", "wish_of"]

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
    """

    spec: RateSpec
    backend: Backend
    name: str
    paces: tuple[Pace, ...]
    cost: float

    def __str__(self) -> str:
        return f"rate limit {self.name!r} ({', '.join(f'{pace.limit:g} in {pace.period:g} s' for pace in self.paces)})"

    @property
    def grace(self) -> float:
        """For how many seconds after its moment a start is still good.

        Tasks that come late come together: after a standstill all of them would start at once. So who comes later than
        a tenth of the period (0.25 s at the least, a minute at the most) has lost the start, and reserves another.
        """
        return min(max(min(pace.period for pace in self.paces) / 10, _SHORTEST_GRACE), _LONGEST_GRACE)

    @property
    def started(self) -> Started:
        """What the body can do to the limit."""
        return Started(self.name, lambda length: ratelimit.pause(self.backend, self.name, self.paces, length))

    def reserve(self, max_wait: float | None) -> Slot | Refused:
        """Reserve the next start."""
        return self.backend.reserve(self._request(max_wait))

    def would_reserve(self, max_wait: float | None) -> Slot | Refused:
        """Return what `reserve` would answer, and reserve nothing."""
        request = self._request(max_wait)

        def change(text: str, now: float) -> tuple[str, float, Slot | Refused]:
            return text, 0.0, RateState.read(text).reserve(request.paces, request.cost, now, max_wait)

        return self.backend.update(self.name, change)

    def left(self, booked: Booked) -> float:
        """Return the seconds until a reserved start, with the pauses since; below 0: it is over for so long."""

        def change(text: str, now: float) -> tuple[str, float, float]:
            return text, 0.0, RateState.read(text).due(booked.start, booked.made) - now

        return self.backend.update(self.name, change)

    def _request(self, max_wait: float | None) -> ReserveRequest:
        return ReserveRequest(self.name, self.paces, self.cost, max_wait)


def wish_of(spec: RateSpec, settings: Settings, work: Work) -> Wish:
    """Return what a call wants of the limit; raise `ConfigurationError` if it could never start."""
    paces = spec.paces()
    cost = spec.cost_of(paces, work.key_args, work.kwargs)
    name = spec.key(work.key_args, work.kwargs)
    return Wish(spec, settings.backend(spec.backend, spec.where), name, paces, cost)
