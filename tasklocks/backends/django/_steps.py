"""The steps on PostgreSQL as text: each is a few statements, sent together as one transaction.

The first statement takes a lock of the limit that lasts until the transaction ends. Each later one sees what was
committed before the lock was given, for at the level READ COMMITTED every statement looks anew. So no statement can
work on what another process has changed meanwhile, which a single large statement that waits for a row would do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from tasklocks.backends.django._statements import Statement, array, literal
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
    "read_texts",
    "release",
    "renew",
    "undo",
    "version",
    "write_text",
]

_LONGEST_KEY = 1000  # bytes; a key and an owner must fit into one entry of an index, which has 2700
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


def acquire(full: str, request: AcquireRequest, *, undoable: bool = False) -> list[Statement]:
    """Return the statements; two answer: with the capacity before, and with a lease or why there is none.

    Args:
        full: the limit.
        request: what is asked for.
        undoable: the lease can be undone by `undo`.
    """
    place = request.place or _NOWHERE
    away = 2 if request.place is None else int(place.address is None)
    key = key_of(full)
    facts = {
        **_facts(key, request.owner),
        "full": literal(full if full != key else None),
        "permits": literal(request.permits),
        "capacity": literal(request.capacity),
        "ttl": literal(float(request.ttl)),
        "info": literal(request.info),
        "away": literal(away),
        "ticket": literal(place.ticket),
        "keep": literal(float(place.keep)),
        "address": literal(place.address),
        "since": literal(None if request.since is None else float(request.since)),
    }
    line = ["place"] if request.place is not None else []
    point = ["savepoint"] if undoable else []
    return _filled(["lock", "state", "drop", "serve", *point, "take", *line, "answer"], facts)


def renew(keys: Sequence[str], grants: Sequence[Grant]) -> list[Statement]:
    """Return the statements; the last one answers with the leases that are there."""
    facts = {
        "keys": _keys(keys),
        "numbers": array(range(len(keys)), "int"),
        "names": array(keys, "text"),
        "owners": array((grant.owner for grant in grants), "text"),
        "ttls": array((float(grant.ttl) for grant in grants), "float8"),
    }
    return _filled(["lock", "drop", "serve", "extend"], facts)


def release(key: str, owner: str, keep: float) -> list[Statement]:
    """Return the statements; the one that answers says how many leases were ended."""
    return _filled(["lock", "end", "drop", "serve"], {**_facts(key, owner), "keep": literal(float(keep))})


def force_release(key: str, owner: str | None) -> list[Statement]:
    """Return the statements; the one that answers says how many leases were ended."""
    return _filled(["lock", "drop", "serve", "take_away", "serve"], _facts(key, owner))


def inspect(key: str) -> list[Statement]:
    """Return the statement that shows one limit."""
    return _filled(["limits"], {"some": f"name = {literal(key)}", "prefix": "''"})


def read_texts(keys: Sequence[str]) -> list[Statement]:
    """Return the statements that read texts and keep others from them until the transaction ends."""
    lock = _filled(["lock"], {"keys": _keys(f"text of {key}" for key in keys)})
    return [*_filled(["patience"], {}), *lock, *_filled(["read_texts"], {"keys": _keys(keys)})]


def write_text(full: str, text: str, keep: float, *, lock: str | None = None, owner: str = "") -> Statement:
    """Return the statement that writes a text; with a `lock`, only if `owner` has a lease of it."""
    key = key_of(full)
    facts = {"full": literal(full if full != key else None), "text": literal(text), "keep": literal(float(keep))}
    if lock is None:
        return Statement("write_text", {**_facts(key, ""), **facts})
    return Statement("write_text_if_leased", {**_facts(key, owner), **facts, "lock": literal(key_of(lock))})


def undo(full: str, request: AcquireRequest) -> list[Statement]:
    """Return the statements that undo a lease, and give up the place of one who comes back by itself."""
    place = request.place or _NOWHERE
    facts = {"key": literal(key_of(full)), "ticket": literal(place.ticket)}
    return _filled(["undo", "come_back_no_more"], facts)


def page(table: str, prefix: str, after: int, most: int) -> list[Statement]:
    """Return the statement that shows some `limits` or `texts`."""
    some = f"id > {after} ORDER BY id LIMIT {most}"
    return _filled([table], {"some": some, "prefix": literal(full_key_of(prefix, ""))})


def version() -> list[Statement]:
    """Return the statement that answers with the server's version."""
    return _filled(["version"], {})


def idle() -> list[Statement]:
    """Return the statements that forget old texts, and lock and name some limits that nobody seems to use."""
    return _filled(["forget_texts", "idle"], {})


def forget(keys: Sequence[str]) -> list[Statement]:
    """Return the statement that forgets those of the limits that are still not used."""
    return _filled(["forget"], {"keys": _keys(keys)})


def _facts(key: str, owner: str | None) -> dict[str, str]:
    return {"keys": _keys([key]), "key": literal(key), "owner": literal(owner)}


def _keys(keys: Iterable[str]) -> str:
    # In one order for all, so that no two wait for each other's locks.
    return array(sorted(set(keys)), "text")


def _filled(names: Iterable[str], facts: dict[str, str]) -> list[Statement]:
    return [Statement(name, facts) for name in names]
