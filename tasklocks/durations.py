"""One parser for every duration: seconds as a number, or a `timedelta`."""

from __future__ import annotations

import math
from datetime import timedelta

from tasklocks.errors import ConfigurationError

__all__ = ["Duration", "seconds"]

Duration = float | timedelta
"""A length of time: seconds as an int or float, or a `timedelta`."""


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
