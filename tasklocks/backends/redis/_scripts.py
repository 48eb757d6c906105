"""The steps as Lua scripts, packed for the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tasklocks.backends.base import GRANT_TTL, HOLD_WEIGHT, HOLDERS_SHOWN, RETENTION, SHORTER_HOLD_WEIGHT

__all__ = [
    "ABOUT",
    "ACQUIRE",
    "FORCE_RELEASE",
    "INSPECT",
    "PAGE",
    "READ_TEXT",
    "RELEASE",
    "RENEW",
    "RESERVE_FIXED",
    "RESERVE_GCRA",
    "RESERVE_SLIDING",
    "TAKE_ALL",
    "WRITE_TEXT",
    "Script",
    "micros",
    "packed",
]

_FOREVER = 10**15  # microseconds, 31 years: added to a time it is still exact in Lua's numbers
_DEAF_AT_MOST = 100  # waiters that one step passes over

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """One step.

    Attributes:
        source: what to send to a server that does not know the script yet.
        sha: its name on the server.
    """

    source: bytes
    sha: bytes

    def by_name(self, keys: bytes, key_count: int, args: Sequence[object]) -> bytes:
        """Return the packed call, for a server that knows the script."""
        return b"*%d\r\n$7\r\nEVALSHA\r\n%b%b" % (3 + key_count + len(args), self.sha, keys) + packed(args)

    def in_full(self, keys: bytes, key_count: int, args: Sequence[object]) -> bytes:
        """Return the packed call that brings the script along."""
        return b"*%d\r\n$4\r\nEVAL\r\n%b%b" % (3 + key_count + len(args), self.source, keys) + packed(args)


def packed(args: Sequence[object]) -> bytes:
    """Return the arguments as bulk strings of the Redis protocol."""
    texts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])


def micros(seconds: float) -> int:
    """Return the microseconds that scripts reckon in."""
    return min(round(seconds * 1_000_000), _FOREVER)


def _script(*parts: str, functions: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Script:
    """Return the script made of the parts.

    Args:
        parts: files, in order.
        functions: from what a function of the script is called, with its arguments, to the parts that it is made of.
    """
    constants = (
        f"local GRANT_TTL, RETENTION = {micros(GRANT_TTL)}, {micros(RETENTION)}\n"
        f"local SHORTER_HOLD_WEIGHT = {SHORTER_HOLD_WEIGHT}\n"
        f"local HOLD_WEIGHT, HOLDERS_SHOWN, DEAF_AT_MOST = {HOLD_WEIGHT}, {HOLDERS_SHOWN}, {_DEAF_AT_MOST}\n"
    )
    made = "".join(f"local function {head}\n{_joined(each)}\nend\n" for head, each in functions.items())
    source = (constants + made + _joined(parts)).encode()
    return Script(packed([source]), packed([hashlib.sha1(source).hexdigest()]))  # noqa: S324 - as Redis names scripts


def _joined(parts: Sequence[str]) -> str:
    return "".join(_FOLDER.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)


ABOUT = _script("about")
ACQUIRE = _script("grant_at_once", "start", "acquire_free", "limit", "line", "acquire")
RENEW = _script("start", "limit", "line", "renew")
RELEASE = _script("start", "release_unawaited", "limit", "line", "release")
FORCE_RELEASE = _script("start", "limit", "line", "force_release")
INSPECT = _script("start", "limit", "line", "inspect")
RESERVE_FIXED = _script("write_at_once", "rate_state", "reserve_fixed")
RESERVE_GCRA = _script("write_at_once", "rate_state", "reserve_gcra")
RESERVE_SLIDING = _script("write_at_once", "rate_state", "reserve_sliding")
PAGE = _script("page", functions={"state_of(KEYS)": ("start", "limit", "line", "inspect")})
READ_TEXT = _script("read_text")
TAKE_ALL = _script(
    "take_all",
    functions={
        "acquire(KEYS, ARGV, begins)": ("start", "acquire_free", "limit", "line", "acquire"),
        "gcra(KEYS, ARGV, put)": ("rate_state", "reserve_gcra"),
        "fixed(KEYS, ARGV, put)": ("rate_state", "reserve_fixed"),
        "sliding(KEYS, ARGV, put)": ("rate_state", "reserve_sliding"),
        "given(KEYS, ARGV, put)": ("given",),
    },
)
WRITE_TEXT = _script("write_text")
