"""One parser for every duration: seconds as a number, or a `timedelta`; and one for the end of a pause."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from tasklocks.errors import ConfigurationError

__all__ = ["Duration", "PauseLength", "Until", "seconds", "until_when"]

Duration = float | timedelta
"""A length of time: seconds as an int or float, or a `timedelta`."""

PauseLength = Duration | str
"""How long a pause is: a duration, or the value of an HTTP `Retry-After` header: seconds, or a date."""

_LONGEST_PAUSE = 1e9  # seconds, thirty years

Until = Callable[[float], float]
"""From what a clock shows now to the moment that is meant, both in seconds since the epoch."""


def seconds(value: Duration, *, setting: str, minimum: float = 0.0, exclusive: bool = False) -> float:
    """Return `value` in seconds.

    Args:
        value: seconds, or a `timedelta`.
        setting: what the value is for; named in the error.
        minimum: the smallest value that makes sense, in seconds.
        exclusive: whether `minimum` itself is too small.

    Raises:
        ConfigurationError: not a duration, not finite, or below `minimum`.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{setting} must be seconds or a timedelta, not {value!r}")
    if not math.isfinite(value):
        raise ConfigurationError(f"{setting} must be a finite number of seconds, not {value!r}")
    if value < minimum or (exclusive and value == minimum):
        relation = "more than" if exclusive else "at least"
        raise ConfigurationError(f"{setting} must be {relation} {minimum:g} s, not {value:g} s")
    return float(value)


def until_when(length: PauseLength | None, until: datetime | None, *, setting: str) -> Until:
    """Return when a pause ends that is for so long or until then; exactly one of them is given.

    Raises:
        ConfigurationError: both or none, no duration, no `Retry-After`, or a moment without a time zone.
    """
    if (length is None) == (until is None):
        raise ConfigurationError(f"{setting} needs either a length or until=, not both")
    if isinstance(length, str):
        length, until = _retry_after(length, setting)
    if length is not None:
        whole = seconds(length, setting=setting)
        if whole > _LONGEST_PAUSE:
            raise ConfigurationError(f"{setting} must be at most {_LONGEST_PAUSE:g} s, not {whole:g} s")
        return lambda now: now + whole
    if not isinstance(until, datetime) or until.utcoffset() is None:
        raise ConfigurationError(f"{setting}: until must be a datetime with a time zone, not {until!r}")
    moment = until.timestamp()
    return lambda now: moment


def _retry_after(header: str, setting: str) -> tuple[float, None] | tuple[None, datetime]:
    """Return what the header says: RFC 9110, section 10.2.3."""
    if header.strip().isdecimal():
        return float(header), None
    try:
        # A date in the form of RFC 5322 that names no zone, or "-0000", is not one that the header may have.
        return None, parsedate_to_datetime(header)
    except ValueError:
        raise ConfigurationError(f"{setting}: a Retry-After is seconds or a date, not {header!r}") from None
