"""Steps on a backend at a pace at which nothing lapses, and the end of the comparison where that cannot be kept."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, Backend, Listener
from tasklocks.backends.memory import MemoryBackend
from tasklocks.errors import BackendUnavailable
from tasklocks.testing.asking import look
from tasklocks.testing.plain import Model

__all__ = ["Paced", "timely"]


def timely(step: Callable[..., None]) -> Callable[..., None]:
    """Return a step that claims first what might lapse, and whose outcome counts only if nothing did."""

    @functools.wraps(step)
    def timed(self: Paced, **drawn: Any) -> None:
        self.keep_up()
        try:
            step(self, **drawn)
        except (AssertionError, BackendUnavailable):
            if self.in_time():
                raise
            self.give_up()

    return timed


class Paced(RuleBasedStateMachine):
    """One limit of a backend and the model of it; what is granted in it is claimed before it lapses."""

    def __init__(self, backend: Backend, name: str) -> None:
        super().__init__()
        self.backend = backend
        self.name = name
        self.model = Model()
        self.ears: dict[str, Listener] = {}
        self.kept_at = clock.now()
        self.counts = True

    def in_time(self) -> bool:
        """Whether nothing can have lapsed that the model has."""
        return self.counts and clock.now() - self.kept_at < GRANT_TTL / 2

    def keep_up(self) -> None:
        """Claim everything before a part of it can lapse."""
        if not self.in_time():
            self.give_up()
        elif clock.now() - self.kept_at > GRANT_TTL / 3:
            self.claim_all()

    def give_up(self) -> None:
        """Let nothing count any more: something may have lapsed.

        The run goes on, with a backend that costs nothing, for it must draw what it would have drawn.
        """
        if self.counts:
            self.counts = False
            self.teardown()
            self.ears, self.backend = {}, MemoryBackend("memory://")

    def claim_all(self) -> None:
        """A lease that was handed on and not claimed would lapse."""
        self.kept_at = clock.now()
        for owner, permits in self.model.leases.items():
            look(self.backend, owner, self.name, permits=permits, capacity=self.model.capacity)

    def teardown(self) -> None:
        for listener in self.ears.values():
            listener.close()

    def pass_time(self, until: float) -> None:
        """Wait, and notice it if the machine or the store stands still meanwhile."""
        while self.counts and clock.now() < until:
            self.kept_at = clock.now()
            self.backend.inspect(self.name)
            time.sleep(0.1)
            if not self.in_time():
                self.give_up()
