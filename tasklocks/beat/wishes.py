"""What an entry asks of this beat: options beside those of `apply_async`, which they never reach.

They stand in the entry's `options`; for entries of a database, whose rows have no room for them, in its headers under
the same name with `tasklocks_` in front, or in `beat_schedule` under the entry's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasklocks.durations import seconds
from tasklocks.errors import ConfigurationError

__all__ = ["Wish", "check_schedule", "wish_of", "without_wishes"]

_CHOICES = {
    "missed": ("once", "skip", "all"),
    "delivery": ("at_most_once", "at_least_once"),
    "overlap": ("allow", "skip", "queue_one"),
}
_OWN = (*_CHOICES, "overlap_expires")
_HEADER = "tasklocks_"


@dataclass(frozen=True, slots=True)
class Wish:
    """What one entry asks for.

    Attributes:
        missed: what becomes of ticks that were due while nobody led: `once` one run for all of them, `skip` none,
            `all` one run for each of the newest 100.
        delivery: what becomes of a tick whose leader died while sending it.
        overlap: whether a run is sent while earlier ones wait or run: `allow`; `skip` no; `queue_one` while none waits.
        overlap_expires: seconds after which a run that nobody has ended counts as ended.
    """

    missed: str = "once"
    delivery: str = "at_most_once"
    overlap: str = "allow"
    overlap_expires: float = 3600.0


def wish_of(name: str, options: Mapping[str, Any], declared: Mapping[str, Any]) -> Wish:
    """Return what an entry asks for.

    Args:
        name: the entry.
        options: its options.
        declared: the options that `beat_schedule` has for an entry of that name.

    Raises:
        ConfigurationError: an option that cannot be kept; the message names the entry.
    """
    if not (options or declared):
        return Wish()
    headers = options.get("headers") or {}
    said = {own: declared[own] for own in _OWN if own in declared}
    said |= {own: headers[_HEADER + own] for own in _OWN if _HEADER + own in headers}
    said |= {own: options[own] for own in _OWN if own in options}
    for own, value in said.items():
        if own in _CHOICES and value not in _CHOICES[own]:
            choices = ", ".join(map(repr, _CHOICES[own]))
            raise ConfigurationError(f"beat entry {name!r}: {own} is {value!r}, the choices are {choices}")
    if "overlap_expires" in said:
        where = f"beat entry {name!r}: overlap_expires"
        said["overlap_expires"] = seconds(said["overlap_expires"], setting=where, exclusive=True)
    return Wish(**said)


def without_wishes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are Celery's, with headers of their own."""
    kept = {option: value for option, value in options.items() if option not in _OWN}
    headers = options.get("headers") or {}
    kept["headers"] = {key: value for key, value in headers.items() if key.removeprefix(_HEADER) not in _OWN}
    return kept


def check_schedule(entries: Mapping[str, Any]) -> None:
    """Check the options of all entries of `beat_schedule`.

    Raises:
        ConfigurationError: one of them cannot be kept; the message names the entry.
    """
    for name, entry in entries.items():
        if isinstance(entry, Mapping):
            wish_of(name, entry.get("options") or {}, {})
