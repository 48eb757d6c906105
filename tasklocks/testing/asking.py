"""Ways for tests to ask a backend, and to wait in its line step by step."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import WAITER_TTL, Backend, Listener
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["LONG", "NAME", "Line", "Waiting", "away", "free", "held", "look", "taken", "until_over"]

NAME = "limit"
LONG = 60.0

_probes = itertools.count(1)


def look(backend: Backend, owner: str, name: str = NAME, **wish: Any) -> Grant | Busy:
    """Ask once; what is not said: one permit of one, for a long time, without taking a place."""
    return backend.acquire(AcquireRequest(name, owner, **{"ttl": LONG, **wish}))


def taken(backend: Backend, owner: str, name: str = NAME, **wish: Any) -> Grant:
    """Ask, and insist on a lease."""
    answer = look(backend, owner, name, **wish)
    assert isinstance(answer, Grant), f"{owner} got {answer}"
    return answer


def held(backend: Backend, name: str = NAME, **wish: Any) -> Busy:
    """Ask as a stranger, and insist that the limit is busy."""
    answer = look(backend, f"stranger-{next(_probes)}", name, **wish)
    assert isinstance(answer, Busy), f"free: {answer}"
    return answer


def free(backend: Backend, name: str = NAME, **wish: Any) -> bool:
    """Whether a stranger would get a lease now; it gives it back."""
    owner = f"stranger-{next(_probes)}"
    if isinstance(look(backend, owner, name, **wish), Busy):
        return False
    backend.release(name, owner)
    return True


def away(ticket: str, keep: float = LONG) -> Place:
    """The place of one who comes back by itself."""
    return Place(ticket, keep)


@dataclass
class Waiting:
    """One waiter in line, which waits only when it is told to."""

    backend: Backend
    request: AcquireRequest
    listener: Listener
    busy: Busy

    def ask(self) -> Grant | Busy:
        """Ask again, as a waiter does now and then."""
        answer = self.backend.acquire(self.request)
        if isinstance(answer, Busy):
            self.busy = answer
        return answer

    def hears(self, within: float = 5.0) -> Grant | None:
        """Wait until it is told of its lease, and take it; None if nothing came in time.

        A backend that pushes is not asked before it has pushed.
        """
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            patience = left if self.backend.capabilities.push else min(left, 0.05)
            pushed = self.listener.wait(patience, self.busy)
            if self.backend.capabilities.push and time.monotonic() >= deadline:
                return None  # nothing was heard; what asking would bring now does not count
            answer = pushed or self.ask()
            if isinstance(answer, Grant):
                return answer
        return None

    def leave(self) -> bool:
        """Give up waiting."""
        return self.backend.release(self.request.name, self.request.owner)


class Line:
    """The waiters of one test; their ears are closed at its end."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._ears = ExitStack()

    def join(self, owner: str, name: str = NAME, *, keep: float = WAITER_TTL, **wish: Any) -> Waiting:
        """Put a listening waiter in line, and insist that it has to wait."""
        listener = self.backend.listen(owner)
        self._ears.callback(listener.close)
        wanted = AcquireRequest(name, owner, **{"ttl": LONG, **wish})
        wanted = replace(wanted, place=Place(owner, keep, listener.address))
        answer = self.backend.acquire(wanted)
        assert isinstance(answer, Busy), f"{owner} need not wait: {answer}"
        return Waiting(self.backend, wanted, listener, answer)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ears.close()


def until_over(grant: Grant, margin: float = 0.1) -> None:
    """Sleep until the lease has ended, by everybody's clock."""
    time.sleep(max(0.0, grant.deadline - clock.now()) + margin)
