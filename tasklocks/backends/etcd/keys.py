"""Which keys a limit has, and what stands in them.

    PREFIX/NAME/limit           how many permits there are
    PREFIX/NAME/hold            how long permits are usually held
    PREFIX/NAME/line/OWNER      one permit holder or listening waiter; the line's order is that of creation
    PREFIX/NAME/away/TICKET     one who comes back by itself
    PREFIX//base                what is added to a revision to make a token
    PREFIX//ears/PROCESS        where a process hears which of its waiters were served
    PREFIX//texts/NAME          a text, such as the state of a rate limit

Values are JSON, read as data only; what cannot be read counts as one permit, taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tasklocks.backends.etcd.ops import KeyValue, prefix_end

__all__ = [
    "CLOSED",
    "UNKNOWN_CAPACITY",
    "UNKNOWN_USUAL",
    "Away",
    "Capacity",
    "Entry",
    "Keys",
    "LimitKeys",
    "Usual",
    "number",
    "written",
]

CLOSED = b"|"
"""The value of an entry that only keeps permits taken begins behind this in byte order, every other one before it."""

_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class LimitKeys:
    """The keys of one limit."""

    all: bytes
    capacity: bytes
    hold: bytes
    line: bytes
    away: bytes

    @property
    def line_end(self) -> bytes:
        """The end of the line; from `capacity` to here there is nothing but the capacity and the line."""
        return prefix_end(self.line)

    def entry(self, owner: str) -> bytes:
        """Return the key of an owner in line."""
        return self.line + _escaped(owner)

    def away_place(self, ticket: str) -> bytes:
        """Return the key of one who is away."""
        return self.away + _escaped(ticket)


class Keys:
    """The keys of one prefix, behind a namespace that may be empty and is taken as it is."""

    def __init__(self, namespace: str, prefix: str) -> None:
        self._prefix = (namespace + "/" if namespace else "").encode() + _escaped(prefix) + b"/"
        self.base = self._prefix + b"/base"
        self._limits: dict[str, LimitKeys] = {}

    def limit(self, name: str) -> LimitKeys:
        """Return the keys of a limit."""
        known = self._limits.get(name)
        if known is None:
            if len(self._limits) >= _REMEMBERED:
                self._limits.clear()
            known = self._limits[name] = self._made(name)
        return known

    def _made(self, name: str) -> LimitKeys:
        root = self._prefix + _escaped(name) + b"/"
        return LimitKeys(root, root + b"limit", root + b"hold", root + b"line/", root + b"away/")

    @property
    def everything(self) -> bytes:
        """What all keys begin with."""
        return self._prefix

    def folder_of(self, key: bytes) -> tuple[bytes, str]:
        """Return what all keys of the same limit begin with, and the limit's name, which is empty if there is none."""
        name = key[len(self._prefix) :].partition(b"/")[0]
        return self._prefix + name + b"/", _unescaped(name)

    def text_named(self, key: bytes) -> str | None:
        """Return the name of the text at a key; None if none is kept there."""
        texts = self.text("")
        return _unescaped(key[len(texts) :]) if key.startswith(texts) else None

    def text(self, name: str) -> bytes:
        """Return the key of a text."""
        return self._prefix + b"/texts/" + _escaped(name)

    def ear(self, process: str) -> bytes:
        """Return the key at which a process hears."""
        return self._prefix + b"/ears/" + _escaped(process)


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the line of a limit: a holder if it is far enough in front, else a listening waiter.

    Attributes:
        owner: whose it is.
        permits: how many it holds or waits for.
        ttl: seconds that its lease lasts without renewal; of a closed entry, for how long it is kept.
        joined: wall clock; when it was made.
        since: wall clock; when its owner took the lease; 0.0 if that is not written, or it waits.
        base: what makes a token of its revision.
        ear: the process that listens for it; empty if none.
        info: what the owner said about itself.
        closed: released, only its permits stay taken.
        create: the revision at which it was made, 0 before.
        mod: the revision of its last change, 0 before.
        lease: the etcd lease that it ends with.
    """

    owner: str
    permits: int
    ttl: float
    joined: float
    since: float
    base: int
    ear: str
    info: str
    closed: bool = False
    create: int = 0
    mod: int = 0
    lease: int = 0

    @property
    def token(self) -> int:
        """Its fencing token."""
        return self.base + self.create

    def written(self) -> bytes:
        """Return the value of its key."""
        facts = [self.owner, self.permits, self.ttl, self.joined, self.since, self.base, self.ear, self.info]
        return (b"~" if self.closed else b"") + written(facts)

    @classmethod
    def read(cls, kv: KeyValue) -> Entry:
        """Return the entry in a key."""
        closed = kv.value.startswith(b"~")
        facts = _read(kv.value.lstrip(b"~"))
        revisions = (closed, kv.create, kv.mod, kv.lease)
        match facts:
            case [str(owner), int(permits), ttl, joined, since, int(base), str(ear), str(info)]:
                return cls(owner, permits, number(ttl), number(joined), number(since), base, ear, info, *revisions)
            case _:
                return cls(_last_part(kv.key), 1, 0.0, 0.0, 0.0, 0, "", "", *revisions)


@dataclass(frozen=True, slots=True)
class Away:
    """A place of one who comes back by itself; an estimate, by the wall clock of whoever wrote it."""

    ticket: str
    permits: int
    since: float
    until: float
    info: str

    def written(self) -> bytes:
        """Return the value of its key."""
        return written([self.ticket, self.permits, self.since, self.until, self.info])

    @classmethod
    def read(cls, kv: KeyValue) -> Away:
        """Return the place in a key."""
        match _read(kv.value):
            case [str(ticket), int(permits), since, until, str(info)]:
                return cls(ticket, permits, number(since), number(until), info)
            case _:
                return cls(_last_part(kv.key), 1, 0.0, 0.0, "")


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many permits a limit has.

    Attributes:
        permits: in all; 0 if that was never said.
        served_to: entries made up to this revision hold permits even if the capacity shrank since they were served.
        mod: the revision of its last change, 0 if it is not written.
    """

    permits: int = 0
    served_to: int = 0
    mod: int = 0

    def written(self) -> bytes:
        """Return the value of its key."""
        return written([self.permits, self.served_to])

    @classmethod
    def read(cls, kv: KeyValue) -> Capacity:
        """Return the capacity in a key."""
        match _read(kv.value):
            case [int(permits), int(served_to)]:
                return cls(permits, served_to, kv.mod)
            case _:
                return cls(mod=kv.mod)


@dataclass(frozen=True, slots=True)
class Usual:
    """How long permits of a limit are held.

    Attributes:
        hold: seconds, on average; None if unknown.
        released: wall clock; when a permit was last released.
    """

    hold: float | None = None
    released: float = 0.0

    def written(self) -> bytes:
        """Return the value of its key."""
        return written([self.hold, self.released])

    @classmethod
    def read(cls, kv: KeyValue) -> Usual:
        """Return what stands in a key."""
        match _read(kv.value):
            case [hold, released]:
                return cls(None if hold is None else number(hold), number(released))
            case _:
                return cls()


UNKNOWN_CAPACITY = Capacity()
UNKNOWN_USUAL = Usual()


def written(facts: list[Any]) -> bytes:
    """Return facts as bytes."""
    return json.dumps(facts, separators=(",", ":")).encode()


def number(value: object) -> float:
    """Return `value` if it is a number, else 0.0."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def _read(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _escaped(text: str) -> bytes:
    return text.replace("%", "%25").replace("/", "%2F").encode()


def _last_part(key: bytes) -> str:
    return _unescaped(key.rpartition(b"/")[2])


def _unescaped(part: bytes) -> str:
    return part.decode(errors="replace").replace("%2F", "/").replace("%25", "%")
