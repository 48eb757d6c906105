"""Where this process hears which of its waiters were served: one key and one watch, however many wait.

Whoever ends an entry writes the names of those who are served by that into the keys of their processes, in the same
transaction if it knew them before. A watch goes on from the revision at which it broke off, so nothing is missed. News
only saves time: the line itself is the truth, and a waiter looks at it now and then.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from typing import Protocol

from tasklocks import clock
from tasklocks.backends.etcd import news
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.ops import Compare, EtcdError, Put, Range, Transport, Txn, Watched
from tasklocks.errors import TaskLocksError
from tasklocks.types import Busy, Grant

__all__ = ["Ears", "Listener"]

_PAUSE = 0.2
_UNUSED = 30.0  # seconds without a listener after which the watch is ended


class Knowledge(Protocol):
    """What this process knows of limits and of its waiters there."""

    def served(self, name: str, owner: str, create: int) -> Grant | None:
        """Note that the entry of an owner, made at a revision, holds permits; return its lease, if it is known."""

    def is_live(self, grant: Grant) -> bool:
        """Return whether a lease of this process has not been given back."""

    def learn(self, name: str, line: Line) -> None:
        """Take over what another process knows of a limit."""


_logger = logging.getLogger("tasklocks")


class Listener:
    """Wakes one waiter."""

    def __init__(self, address: str, is_live: Callable[[Grant], bool], close: Callable[[], None]) -> None:
        self.address = address
        self._is_live = is_live
        self._close = close
        self._news = threading.Event()
        self._grant: Grant | None = None

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        self._news.wait(timeout)
        self._news.clear()
        grant, self._grant = self._grant, None
        # The word may be about an earlier wait of the same owner, which gave up.
        return grant if grant is not None and self._is_live(grant) else None

    def wake(self, grant: Grant | None = None) -> None:
        """Let it look, or take `grant`."""
        self._grant = grant
        self._news.set()

    def close(self) -> None:
        """Stop listening."""
        self._close()


class Ears:
    """The listeners of one process.

    Args:
        transport: to etcd.
        key: returns the key at which the process of a given name hears.
        session: returns the etcd lease that the key ends with.
        knowledge: is told what is heard.
    """

    def __init__(
        self, transport: Transport, key: Callable[[str], bytes], session: Callable[[], int], knowledge: Knowledge
    ) -> None:
        self.address = secrets.token_hex(8)
        self.key = key(self.address)
        self.lease = 0
        self._transport = transport
        self._session = session
        self._knowledge = knowledge
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}
        self._unused_since = clock.now()
        self._stopping: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def listener(self, owner: str) -> Listener:
        """Return an ear for `owner`."""
        listener = Listener(self.address, self._knowledge.is_live, lambda: self._discard(owner))
        with self._lock:
            self._listeners[owner] = listener
            if self._stopping is None:
                stopping = threading.Event()
                args = (stopping, self._key_made())
                thread = threading.Thread(target=self._run, args=args, name="tasklocks-listener", daemon=True)
                thread.start()
                # Last: an exception from a signal before this only makes the next listener do all of it again.
                self._thread, self._stopping = thread, stopping
        return listener

    def tell(self, name: str, owner: str, create: int) -> None:
        """Let a waiter of this process know that it was served."""
        grant, listener = self._knowledge.served(name, owner, create), self._listeners.get(owner)
        if listener is not None:
            listener.wake(grant)

    def rest(self) -> None:
        """End the watch if nobody has listened for a while."""
        with self._lock:
            unused = not self._listeners and clock.now() - self._unused_since > _UNUSED
            stopping = self._no_longer() if unused else None
        self._end(stopping)

    def close(self) -> None:
        """End the watch; the next listener opens it again."""
        with self._lock:
            stopping = self._no_longer()
        self._end(stopping)

    @property
    def open(self) -> bool:
        """Whether there is a watch already."""
        return self._stopping is not None

    def _no_longer(self) -> threading.Event | None:
        stopping, self._stopping, self.lease = self._stopping, None, 0
        return stopping

    def _end(self, stopping: threading.Event | None) -> None:
        if stopping is not None and self._thread is not None:
            stopping.set()
            self._transport.stop_watching()
            self._thread.join(1.0)

    def _discard(self, owner: str) -> None:
        with self._lock:
            self._listeners.pop(owner, None)
            self._unused_since = clock.now()

    def _run(self, stopping: threading.Event, start: int | None) -> None:
        while not stopping.is_set():
            if start is None:
                start = self._key_made()
                # What was said before was not heard.
                self._wake_all()
            if start is not None:
                self._try_to_listen(start, stopping)
            stopping.wait(_PAUSE)
            start = None

    def _try_to_listen(self, start: int, stopping: threading.Event) -> None:
        try:
            self._listen(start, stopping)
        except (TaskLocksError, EtcdError) as error:
            _logger.debug("the watch of etcd broke off: %s", error)
        except Exception:
            # A fault must not end the thread: waiters would only hear by looking.
            _logger.exception("the watch of etcd broke off, trying again")

    def _key_made(self) -> int | None:
        """Make the key if need be; return the revision from which on to watch, None if etcd does not answer."""
        absent = Compare(self.key, "create", "EQUAL", 0)
        try:
            self.lease = self._session()
            reply = self._transport.txn(Txn((absent,), (Put(self.key, b"[]", self.lease),), (Range(self.key),)))
        except (TaskLocksError, EtcdError) as error:
            _logger.debug("no watch of etcd could be opened: %s", error)
            return None
        return reply.revision + 1

    def _wake_all(self) -> None:
        for listener in list(self._listeners.values()):
            listener.wake()

    def _listen(self, start: int, stopping: threading.Event) -> None:
        while not stopping.is_set():
            for watched in self._transport.watch(self.key, start):
                if stopping.is_set() or (watched is not None and watched.value is None):
                    return  # the key is gone with its session
                if watched is not None:
                    start = watched.revision + 1
                    self._hear(watched)

    def _hear(self, watched: Watched) -> None:
        word = news.read(watched.value or b"[]")
        if word is None:
            # Of another version, perhaps.
            self._wake_all()
            return
        self._knowledge.learn(word.name, word.line)
        for owner, create in word.served:
            self.tell(word.name, owner, create)
