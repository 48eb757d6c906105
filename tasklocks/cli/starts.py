"""When the next start under a rate limit may be: the backend knows what is reserved, the app's tasks know the rate."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from celery import Celery

from tasklocks.backends import Backend
from tasklocks.celery.marks import limits_of
from tasklocks.celery.rate_spec import RateSpec
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
    if app is None:
        return []
    app.finalize()
    app.loader.import_default_modules()
    found = {(where, paces): _wait(backend, name, paces) for where, paces in _paces(app, name)}
    return [NextStart(where, _said(paces), wait) for (where, paces), wait in sorted(found.items(), key=repr)]


def _paces(app: Celery, name: str) -> Iterator[tuple[str, tuple[Pace, ...]]]:
    for task in app.tasks.values():
        for spec in limits_of(task):
            if isinstance(spec, RateSpec) and spec.template and _fits(spec.template, name):
                yield task.name, spec.paces()


def _fits(template: str, name: str) -> bool:
    parts = string.Formatter().parse(template)
    pattern = "".join(re.escape(text) + ("" if field is None else ".*") for text, field, *_ in parts)
    return re.fullmatch(pattern, name, re.DOTALL) is not None


def _wait(backend: Backend, name: str, paces: tuple[Pace, ...]) -> float:
    text, now = backend.update(name, lambda text, now: (text, 0.0, (text, now)))
    # On a copy: what is read is not written back.
    return RateState.read(text).reserve(paces, 1.0, now, None).wait


def _said(paces: tuple[Pace, ...]) -> str:
    return ", ".join(f"{pace.limit:g} in {pace.period:g} s" for pace in paces)
