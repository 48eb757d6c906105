"""The rate limits under which the caller started: what a pause from inside holds back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime

from tasklocks.durations import PauseLength, Until, until_when
from tasklocks.errors import ConfigurationError

__all__ = ["Started", "pause_here", "started_here", "under"]


@dataclass(frozen=True, slots=True)
class Started:
    """A rate limit under which something runs.

    Attributes:
        name: the limit.
        pause: lets nothing start before a moment.
    """

    name: str
    pause: Callable[[Until], None]


_started: ContextVar[tuple[Started, ...]] = ContextVar("tasklocks_started", default=())


@contextmanager
def under(limits: Sequence[Started]) -> Iterator[None]:
    """Run the block under `limits`, outermost first."""
    token = _started.set((*_started.get(), *limits))
    try:
        yield
    finally:
        _started.reset(token)


def started_here() -> tuple[Started, ...]:
    """Return the rate limits around the caller, outermost first."""
    return _started.get()


def pause_here(length: PauseLength | None, name: str | None = None, *, until: datetime | None = None) -> None:
    """Pause the innermost rate limit around the caller, or the one with `name`.

    Raises:
        ConfigurationError: there is none; the message names those that there are. Or the time makes no sense.
        BackendUnavailable: the backend does not answer.
    """
    wanted = [each for each in _started.get() if name in (None, each.name)]
    if not wanted:
        known = ", ".join(repr(each.name) for each in _started.get()) or "none"
        which = "a rate limit" if name is None else f"rate limit {name!r}"
        raise ConfigurationError(f"{which} cannot be paused from here; what runs here is under: {known}")
    wanted[-1].pause(until_when(length, until, setting=f"rate limit {wanted[-1].name!r}: pause"))
