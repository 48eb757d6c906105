"""What every backend promises about what it leaves behind: after a while, nothing.

A limit that nobody uses may be remembered for an hour or two (`RETENTION`), not for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from tasklocks.backends import Backend
from tasklocks.testing.asking import away, look, taken
from tasklocks.testing.forks import in_threads

FEW = 5
"""What a backend may keep for itself, such as its version, or where its tokens begin."""

_THREADS = 4
_WITHIN = 0.1  # seconds for each limit, and a minute for all


def test_limits_that_were_used_once_are_not_kept_for_ever(
    backend: Backend, left_for_ever: Callable[[], int], how_many: int
) -> None:
    def use(name: str) -> None:
        taken(backend, "a", name)
        backend.release(name, "a")

    _for_each(how_many, use)
    assert left_for_ever() <= FEW


def test_limits_of_which_nobody_heard_again_are_not_kept_for_ever(
    backend: Backend, left_for_ever: Callable[[], int], how_many: int
) -> None:
    """As a killed worker leaves them: one holds, one stays away, and the name is never used again."""

    def abandon(name: str) -> None:
        taken(backend, "a", name, ttl=backend.capabilities.min_ttl)
        look(backend, "b", name, place=away("b", keep=0.1))

    _for_each(how_many, abandon)
    assert left_for_ever() <= FEW


def _for_each(count: int, do: Callable[[str], None]) -> None:
    """Do it with so many names, in a few threads."""
    names, guard = (f"limit-{number}" for number in range(count)), threading.Lock()

    def do_some() -> None:
        while (name := _next(names, guard)) is not None:
            do(name)

    in_threads(_THREADS, do_some, within=60 + _WITHIN * count)


def _next(names: Iterator[str], guard: threading.Lock) -> str | None:
    with guard:
        return next(names, None)
