"""Names of limits: what is allowed, and how a name becomes part of a backend's key.

A name may hold any text that can be shown on one line. What comes from a task's arguments is data, so it must not
be able to leave the prefix, break a key's structure or forge a line in a log.
"""

from __future__ import annotations

import re

from tasklocks.errors import ConfigurationError

__all__ = ["MAX_NAME", "check_name", "escaped"]

MAX_NAME = 1000
"""The longest name of a limit, in characters."""

# What must not stand in a key as it is: control characters, Unicode's line ends and direction overrides, and lone
# surrogates, which no backend can store.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""Return `text` with control characters shown as `%` and their code.

    >>> escaped("a\nb")
    'a%0Ab'
    """
    return _UNSAFE.sub(lambda found: f"%{ord(found.group()):02X}", text)


def check_name(name: object, *, where: str = "the limit's name") -> str:
    """Return `name` if it can name a limit.

    Raises:
        ConfigurationError: not a text, empty, too long, or with control characters.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{where} must be a text, not {type(name).__name__} {_short(name)}")
    if not name.strip():
        raise ConfigurationError(f"{where} is empty")
    if len(name) > MAX_NAME:
        raise ConfigurationError(
            f"{where} has {len(name)} characters, {MAX_NAME} are allowed: {_short(name)}; "
            "use an id or a digest of the long part"
        )
    if _UNSAFE.search(name):
        raise ConfigurationError(f"{where} has control characters: {_short(escaped(name))}")
    return name


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
