"""What limits are called on the page: their names, or digests of them where names may tell too much."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable

__all__ = ["Shown", "digests", "real_name"]

Shown = Callable[[str], str]
"""From a limit's name to what the page calls it."""


def digests() -> Shown:
    """Return what calls each name by a digest: the same while this process lives, and of no use to anybody else."""
    key = secrets.token_bytes(16)

    def digest(name: str) -> str:
        return "limit-" + hashlib.blake2b(name.encode("utf-8", "replace"), key=key, digest_size=6).hexdigest()

    return digest


def real_name(shown: Shown, called: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that the page calls so."""
    return next((name for name in names if shown(name) == called), None)
