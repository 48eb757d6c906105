"""`Pair`: a named mutex as the benchmarks see it, and the proof that it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pair", "prove_exclusion"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two halves that are measured.

    Attributes:
        acquire: takes the mutex and returns True; when busy it waits if its argument is true, else returns False.
        release: gives it back.
    """

    acquire: Callable[[bool], bool]
    release: Callable[[], object]


def prove_exclusion(make: Callable[[str, str], Pair], url: str, name: str) -> None:
    """Raise RuntimeError unless `make` makes mutexes: a fast one that excludes nobody must not win."""
    first, second = make(url, name), make(url, name)
    steps = [first.acquire(False), second.acquire(False), _released(first) and second.acquire(False)]
    if steps != [True, False, True]:
        raise RuntimeError(f"{name}: free, taken, free again gave {steps}, not [True, False, True]")
    second.release()


def _released(pair: Pair) -> bool:
    pair.release()
    return True
