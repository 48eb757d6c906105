"""What this process holds or waits for, written where another one finds it when this one was killed.

A killed process releases nothing, and its permits would stay taken for their ttl. Whoever sees it die (a Celery
worker sees its pool's children) releases by name what the process has left in its ledger. An entry is written before
the permit is asked for and struck out after it is given back, so none is missed; releasing one too many is harmless.

A ledger is a file: kept in memory where the system has a folder for that, and only for this user's eyes. It names
backends by fingerprint, for a URL may hold a password.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasklocks.fork import PerProcess

__all__ = ["Entry", "keep_in", "note", "peek", "read", "strike"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to release if its process is gone.

    Attributes:
        backend: its fingerprint, see `backends.fingerprint`.
        name: the limit.
        owner: who holds or waits.
        at_least: local clock; the permits stay taken until then. 0: not at all.
    """

    backend: str
    name: str
    owner: str
    at_least: float = 0.0


class _Ledger:
    """The open ledger of one process."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._entries: dict[str, Entry] = {}

    def note(self, entry: Entry) -> None:
        with self._lock:
            self._entries[entry.owner] = entry
            self._write()

    def strike(self, owner: str) -> None:
        with self._lock:
            if self._entries.pop(owner, None) is not None:
                self._write()

    def _write(self) -> None:
        text = json.dumps([asdict(entry) for entry in self._entries.values()]).encode()
        # Its length in front: what is left of a longer text behind it does not count.
        os.pwrite(self._file, b"%d\n%b" % (len(text), text), 0)


_folder: dict[int, Path] = {}  # by process: what one that a task forks inherits is not its own
_open = PerProcess(lambda: _Ledger(_folder[os.getpid()] / str(os.getpid())))


def keep_in(folder: Path) -> None:
    """Keep a ledger from now on, in a file of `folder` that is named after this process."""
    _folder[os.getpid()] = folder


def note(backend: str, name: str, owner: str, at_least: float = 0.0) -> None:
    """Write down what is about to be asked for, see `Entry`. Without effect in a process that keeps no ledger."""
    if os.getpid() in _folder:
        _open().note(Entry(backend, name, owner, at_least))


def strike(owner: str) -> None:
    """Strike out what `owner` gave back or did not get."""
    if os.getpid() in _folder:
        _open().strike(owner)


def read(folder: Path, pid: int) -> Sequence[Entry]:
    """Return what the process `pid`, which is gone, has left in `folder`, and remove it."""
    path = folder / str(pid)
    left = _entries_in(path)
    path.unlink(missing_ok=True)
    return left


def peek(folder: Path) -> Mapping[int, Sequence[Entry]]:
    """Return what the processes that keep their ledgers in `folder` hold or wait for, by process."""
    return {int(path.name): _entries_in(path) for path in folder.iterdir() if path.name.isdigit()}


def _entries_in(path: Path) -> Sequence[Entry]:
    try:
        size, _, text = path.read_bytes().partition(b"\n")
        return [Entry(**entry) for entry in json.loads(text[: int(size or 0)] or "[]")]
    except (FileNotFoundError, ValueError, TypeError):
        return ()  # killed in the middle of writing; what it held lapses by itself
