"""What is asked of etcd and what it answers, as values; each transport writes them in its own form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Compare",
    "Delete",
    "EtcdError",
    "KeyValue",
    "LeaseGoneError",
    "Op",
    "Put",
    "Range",
    "Rows",
    "Transport",
    "Txn",
    "TxnReply",
    "Watched",
    "prefix_end",
]


@dataclass(frozen=True, slots=True)
class Compare:
    """True if `field` of the key (of every key up to `end`) is in `relation` to `value`.

    Attributes:
        field: `create`, `mod`, or `value`. A key that is not there has create and mod 0, and no value.
        relation: `EQUAL`, `LESS` or `GREATER`.
    """

    key: bytes
    field: str
    relation: str
    value: int | bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; `lease` 0: none; `keep_lease`: the one that it has."""

    key: bytes
    value: bytes
    lease: int = 0
    keep_lease: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key (up to `end`)."""

    key: bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Range:
    """Read a key, or all up to `end`, in the order in which they were created, or of keys; at most `limit` if not 0."""

    key: bytes
    end: bytes = b""
    limit: int = 0
    by_key: bool = False


Op = Put | Delete | Range


@dataclass(frozen=True, slots=True)
class Txn:
    """Do `success` if every comparison holds, else `failure`; in one step that no other one overlaps."""

    compare: tuple[Compare, ...]
    success: tuple[Op, ...]
    failure: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it is at one revision."""

    key: bytes
    value: bytes
    create: int
    mod: int
    lease: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a `Range`; `total` counts also what was over its limit."""

    kvs: tuple[KeyValue, ...]
    total: int


@dataclass(frozen=True, slots=True)
class TxnReply:
    """The answer to a `Txn`.

    Attributes:
        done: whether the comparisons held.
        revision: of the store, after the transaction.
        rows: the answers to the ranges of the branch that was taken, in order.
        deleted: how many keys its deletes removed.
    """

    done: bool
    revision: int
    rows: tuple[Rows, ...]
    deleted: int


@dataclass(frozen=True, slots=True)
class Watched:
    """News of a key: its new value, and the store's revision; no value if it was deleted."""

    revision: int
    value: bytes | None


class EtcdError(Exception):
    """An answer of etcd that is an error; `code` is gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class LeaseGoneError(EtcdError):
    """A write named an etcd lease that is over."""


class Transport(Protocol):
    """The few calls of etcd that the backend needs.

    Each raises `BackendUnavailable` if no endpoint answers in time, `BackendRefused` if etcd refuses the user.
    """

    @property
    def breaks(self) -> int:
        """How often a connection was lost; etcd may have come back with older data then."""

    @property
    def term(self) -> int:
        """In whose reign the last transaction was done: a number that grows with each new leader; 0 before the first.

        A transaction is one that a majority agreed to, so no leader of a later term was known to a majority then.
        """

    def txn(self, txn: Txn) -> TxnReply:
        """Run a transaction."""

    def grant(self, ttl: int) -> tuple[int, int]:
        """Make an etcd lease; return its id and the seconds that etcd gave it."""

    def keep_alive(self, lease: int) -> tuple[int, int]:
        """Let the lease last for its full time from now; return it in seconds, 0 if the lease is over, and the term.

        The leader answers without asking a majority, so one that was deposed and does not know it may answer.
        """

    def remaining(self, lease: int) -> int:
        """Return the whole seconds that the lease lasts unless it is kept alive; -1 if it is over."""

    def revoke(self, lease: int) -> None:
        """End the lease and delete its keys."""

    def watch(self, key: bytes, start: int) -> Iterator[Watched | None]:
        """Yield the news of `key` from revision `start` on; None now and then, when there was none."""

    def version(self) -> str:
        """Return the version of the endpoint in use."""

    def stop_watching(self) -> None:
        """End the watch of another thread."""

    def close(self) -> None:
        """Close all connections."""


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
