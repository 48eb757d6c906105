"""Frees what a pool child held, or waited for, as soon as its process is gone, and never before.

Celery reports the end of a killed or timed-out task at moments of its own: up to seconds late, or, at a hard time
limit and a revoke, while the task's `finally` still runs. So the worker's main process watches its children's processes
themselves, by pidfd (Linux ≥ 5.3; elsewhere what a killed child held lapses with its ttl), and releases what the dead
one's ledger says.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import signals

from tasklocks import clock, ledger
from tasklocks.backends import with_fingerprint
from tasklocks.errors import TaskLocksError
from tasklocks.ledger import Entry

__all__ = ["Watch", "children", "watch_of_this_worker"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it, for this user only
_DOOR = "door"
_TRY_AGAIN = 1.0  # seconds, while a backend does not answer
_GIVE_UP = 300.0  # seconds after which a lease has lapsed by itself, whatever its backend did

_logger = logging.getLogger("tasklocks")


class Watch:
    """Watches the processes that say hello at its door; one thread of the worker's main process.

    Attributes:
        folder: where the ledgers are; this worker's own, for this user only.
        on_gone: called with the id of each process that is gone, by the watch's thread.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tasklocks-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
        self._pid = os.getpid()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._door.bind(str(self.folder / _DOOR))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._unreleased: list[tuple[Entry, float]] = []
        self.on_gone: list[Callable[[int], None]] = []
        self._thread = threading.Thread(target=self._run, name="tasklocks-watch", daemon=True)
        self._thread.start()

    @property
    def mine(self) -> bool:
        """Whether this process is the one that watches, and not a child that inherited the watch."""
        return self._pid == os.getpid()

    def hello(self) -> None:
        """Keep a ledger in this process from now on, and be watched (called in a child)."""
        ledger.keep_in(self.folder)
        self._say(b"%d" % os.getpid())

    def children(self) -> Mapping[int, Sequence[Entry]]:
        """Return what the children hold or wait for, by process."""
        return ledger.peek(self.folder)

    def close(self) -> None:
        """Release what dead children have left, and stop watching."""
        self._say(b"")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._door:
                os.close(key.fd)
        self._selector.close()
        self._door.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _say(self, what: bytes) -> None:
        """Tell the thread of a process, or, with nothing, to end."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(what, str(self.folder / _DOOR))

    def _run(self) -> None:
        go_on = True
        while go_on:
            go_on = self._look(_TRY_AGAIN if self._unreleased else None)
            self._release_the_rest()
        # Who died meanwhile, too.
        self._look(0)

    def _look(self, timeout: float | None) -> bool:
        """Wait for news and see to it; False: it is time to end."""
        go_on = True
        for key, _ in self._selector.select(timeout):
            if key.fileobj is not self._door:
                self._gone(key.fd, key.data)
            elif said := self._door.recv(32):
                self._watch(int(said))
            else:
                go_on = False
        return go_on

    def _watch(self, pid: int) -> None:
        try:
            self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        except ProcessLookupError:
            self._settle(pid)
        except OSError as error:
            _logger.warning("pool process %d is not watched; if it is killed, what it holds lapses: %s", pid, error)

    def _gone(self, fd: int, pid: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        self._settle(pid)

    def _settle(self, pid: int) -> None:
        for tell in self.on_gone:
            tell(pid)
        left = ledger.read(self.folder, pid)
        if left:
            limits = ", ".join(sorted({repr(entry.name) for entry in left}))
            _logger.warning("pool process %d is gone; what it had of %s is given back", pid, limits)
        self._unreleased += [(entry, clock.now() + _GIVE_UP) for entry in left]
        self._release_the_rest()

    def _release_the_rest(self) -> None:
        waiting, self._unreleased = self._unreleased, []
        for entry, until in waiting:
            if not _released(entry) and clock.now() < until:
                self._unreleased.append((entry, until))


def _released(entry: Entry) -> bool:
    """Release what the entry names; tell whether its backend answered."""
    backend = with_fingerprint(entry.backend)
    if backend is None:
        _logger.warning("what is left of limit %r lapses by itself: only the task knew its backend", entry.name)
        return True
    try:
        backend.release(entry.name, entry.owner, max(entry.at_least - clock.now(), 0.0))
    except TaskLocksError as error:
        _logger.warning("limit %r is not given back yet, trying again: %s", entry.name, error)
        return False
    except Exception:
        # A fault of a backend must not end the thread: what other children leave depends on it.
        _logger.exception("limit %r is not given back yet, trying again", entry.name)
        return False
    return True


class _Worker:
    """The watch of this worker; children inherit it."""

    watch: Watch | None = None


def children() -> Mapping[int, Sequence[Entry]]:
    """Return what the pool processes of this worker hold or wait for; nothing where there are none to be watched."""
    watch = _Worker.watch
    return watch.children() if watch is not None and watch.mine else {}


def watch_of_this_worker() -> Watch | None:
    """Return the watch over this process's pool, or over this process, if it is of a pool."""
    return _Worker.watch


@signals.worker_init.connect(dispatch_uid="tasklocks.watch")
def _start(sender: Any = None, options: Any = None, **_: Any) -> None:
    if hasattr(os, "pidfd_open") and _forks(sender, options or {}):
        _Worker.watch = Watch()


@signals.worker_process_init.connect(dispatch_uid="tasklocks.watch")
def _be_watched(**_: Any) -> None:
    if _Worker.watch is not None and not _Worker.watch.mine:
        _Worker.watch.hello()


@signals.worker_shutdown.connect(dispatch_uid="tasklocks.watch")
def _stop(**_: Any) -> None:
    if _Worker.watch is not None and _Worker.watch.mine:
        _Worker.watch.close()
        _Worker.watch = None


def _forks(worker: Any, options: Any) -> bool:
    pool = options.get("pool_cls") or worker.app.conf.worker_pool
    return pool in ("prefork", "processes") or getattr(pool, "__module__", "") == "celery.concurrency.prefork"
