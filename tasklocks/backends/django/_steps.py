"""The steps on PostgreSQL as text: each is a few statements, sent together as one transaction.

The first statement takes a lock of the limit that lasts until the transaction ends. Each later one sees what was
committed before the lock was given, for at the level READ COMMITTED every statement looks anew. So no statement can
work on what another process has changed meanwhile, which a single large statement that waits for a row would do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

from tasklocks.backends.base import GRANT_TTL, HOLD_WEIGHT, HOLDERS_SHOWN, RETENTION, SHORTER_HOLD_WEIGHT
from tasklocks.errors import ConfigurationError
from tasklocks.types import AcquireRequest, Grant, Place

__all__ = [
    "acquire",
    "force_release",
    "forget",
    "full_key_of",
    "idle",
    "inspect",
    "key_of",
    "page",
    "read_text",
    "release",
    "renew",
    "write_text",
]

_LONGEST_KEY = 1000  # bytes; a key and an owner must fit into one entry of an index, which has 2700
_NOW = "extract(epoch FROM clock_timestamp())::float8"
_NOWHERE = Place("", 0.0)


def full_key_of(prefix: str, name: str) -> str:
    """Return what a limit or a text is called in the database, as long as it may be."""
    # The first colon that is not escaped ends the prefix, so no name can reach into another prefix.
    escaped = prefix.replace("%", "%25").replace(":", "%3A")
    return f"{escaped}:{name}"


def key_of(full: str) -> str:
    """Return the key by which rows are found: the full one if it fits into an index."""
    if len(full.encode()) <= _LONGEST_KEY:
        return full
    return f"{full[:200]}~{hashlib.sha256(full.encode()).hexdigest()}"


def acquire(full: str, request: AcquireRequest) -> list[str]:
    """Return the statements; the last two answer with the capacity before, and with a lease or why there is none."""
    place = request.place
    away = 2 if place is None else int(place.address is None)
    key = key_of(full)
    facts = {
        **_facts(key, request.owner),
        "full": _literal(full if full != key else None),
        "permits": _literal(request.permits),
        "capacity": _literal(request.capacity),
        "ttl": _literal(request.ttl),
        "info": _literal(request.info),
        "away": _literal(away),
        "ticket": _literal((place or _NOWHERE).ticket),
        "keep": _literal((place or _NOWHERE).keep),
        "address": _literal((place or _NOWHERE).address),
        "shown": _literal(HOLDERS_SHOWN),
    }
    take = ["take", "place"] if place is not None else ["take"]
    return [_lock([key]), *_filled(["state", "drop", "serve", *take, "answer"], facts)]


def renew(keys: Sequence[str], grants: Sequence[Grant]) -> list[str]:
    """Return the statements; the last one answers with the leases that are there."""
    rows = ", ".join(
        f"({number}, {_literal(key)}, {_literal(grant.owner)}, {_literal(grant.ttl)})"
        for number, (key, grant) in enumerate(zip(keys, grants, strict=True))
    )
    return [_lock(keys), *_filled(["drop", "serve", "extend"], {**_facts_of_many(keys), "rows": rows})]


def release(key: str, owner: str, keep: float) -> list[str]:
    """Return the statements; the first one that answers says how many leases were ended."""
    facts = {
        **_facts(key, owner),
        "keep": _literal(keep),
        "weight": _literal(HOLD_WEIGHT),
        "shorter_weight": _literal(SHORTER_HOLD_WEIGHT),
    }
    return [_lock([key]), *_filled(["end", "drop", "serve"], facts)]


def force_release(key: str, owner: str | None) -> list[str]:
    """Return the statements; the one that answers says how many leases were ended."""
    return [_lock([key]), *_filled(["drop", "serve", "take_away", "serve"], _facts(key, owner))]


def inspect(key: str) -> list[str]:
    """Return the statement that shows one limit."""
    return _filled(["limits"], {"some": f"name = {_literal(key)}", "prefix": "''", "now": _NOW})


def read_text(key: str) -> list[str]:
    """Return the statements that read a text and keep others from it until the transaction ends."""
    # The process could be stopped before it ends it.
    patience = "SET LOCAL idle_in_transaction_session_timeout = '3s'"
    return [patience, _lock([f"text of {key}"]), *_filled(["read_text"], _facts(key, ""))]


def write_text(full: str, text: str, keep: float) -> list[str]:
    """Return the statement that writes a text."""
    key = key_of(full)
    facts = {"full": _literal(full if full != key else None), "text": _literal(text), "keep": _literal(keep)}
    return _filled(["write_text"], {**_facts(key, ""), **facts})


def page(table: str, prefix: str, after: int, most: int) -> list[str]:
    """Return the statement that shows some `limits` or `texts`."""
    some = f"id > {after} ORDER BY id LIMIT {most}"
    return _filled([table], {"some": some, "prefix": _literal(full_key_of(prefix, "")), "now": _NOW})


def idle() -> list[str]:
    """Return the statements that forget old texts, and lock and name some limits that nobody seems to use."""
    return _filled(["forget_texts", "idle"], {"now": _NOW, "retention": _literal(RETENTION)})


def forget(keys: Sequence[str]) -> list[str]:
    """Return the statement that forgets those of the limits that are still not used."""
    return _filled(["forget"], {**_facts_of_many(keys), "retention": _literal(RETENTION)})


def _facts(key: str, owner: str | None) -> dict[str, str]:
    return {**_facts_of_many([key]), "key": _literal(key), "owner": _literal(owner)}


def _facts_of_many(keys: Iterable[str]) -> dict[str, str]:
    return {"keys": ", ".join(map(_literal, sorted(set(keys)))), "now": _NOW, "grant_ttl": _literal(GRANT_TTL)}


def _lock(keys: Iterable[str]) -> str:
    # In one order for all, so that no two wait for each other.
    locks = (f"pg_advisory_xact_lock(hashtextextended({_literal(key)}, 0))" for key in sorted(set(keys)))
    return f"SELECT {', '.join(locks)}"


def _filled(names: Iterable[str], facts: dict[str, str]) -> list[str]:
    return [_statement(name).format_map(facts) for name in names]


@cache
def _statement(name: str) -> str:
    text = (resources.files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


def _literal(value: str | float | None) -> str:
    """Return a value as SQL; it reads the same whatever the server's settings for backslashes are."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"'{value!r}'::float8"
    if isinstance(value, int):
        return str(value)
    if "\0" in value:
        raise ConfigurationError("PostgreSQL keeps no text with a zero character in it")
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"
