"""When the next start under a rate limit may be: the backend knows what is reserved, the app's tasks know the rate."""

from __future__ import annotations

from dataclasses import dataclass

from celery import Celery

from tasklocks.backends import Backend
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.cli.code import limits_named
from tasklocks.rates import RateState
from tasklocks.types import Pace

__all__ = ["NextStart", "next_starts"]


@dataclass(frozen=True, slots=True)
class NextStart:
    """When a start that costs 1 would be, if one were reserved now.

    Attributes:
        task: the task whose rate it is.
        rate: the rate, in words.
        wait: seconds.
    """

    task: str
    rate: str
    wait: float


def next_starts(app: Celery | None, backend: Backend, name: str) -> list[NextStart]:
    """Return the next start under a rate limit for each of the app's tasks that has it; nothing is reserved."""
    said = {(task, limit.paces()) for task, limit in limits_named(app, name) if isinstance(limit, RateSpec)}
    return [NextStart(task, _said(paces), _wait(backend, name, paces)) for task, paces in sorted(said, key=repr)]


def _wait(backend: Backend, name: str, paces: tuple[Pace, ...]) -> float:
    text, now = backend.update(name, lambda text, now: (text, 0.0, (text, now)))
    # On a copy: what is read is not written back.
    return RateState.read(text).reserve(paces, 1.0, now, None).wait


def _said(paces: tuple[Pace, ...]) -> str:
    return ", ".join(f"{pace.limit:g} in {pace.period:g} s" for pace in paces)
