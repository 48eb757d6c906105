"""The etcd leases of this process: one for each ttl in whole seconds, kept alive by one thread, ended when unused.

etcd takes an expired lease away up to half a second late, and only knows whole seconds. So the lease behind a ttl is
shorter by that, and a dead holder's permits are free within the ttl that was asked for.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tasklocks import clock
from tasklocks.backends.base import RETENTION
from tasklocks.backends.etcd.ops import EtcdError, Transport
from tasklocks.errors import BackendUnavailable

__all__ = ["LATE", "MIN_TTL", "WAITING", "Session", "Sessions"]

LATE = 0.6
"""Seconds that etcd may take to notice that a lease is over, and to act on it."""

_SHORTEST = 2  # whole seconds; etcd gives no less by default

MIN_TTL = _SHORTEST + LATE
"""The shortest ttl that can be kept, in seconds."""

WAITING = MIN_TTL
"""The ttl of waiters' places, in seconds: for so long a dead waiter at the head can keep permits from the next."""

_UNUSED = 60.0  # seconds after which an etcd lease that nothing needs is ended
_LONGEST_BEAT = 3.0
_TRIES = 5

_logger = logging.getLogger("tasklocks")


@dataclass(slots=True)
class Session:
    """An etcd lease; `alive_until`, on the local clock, is the time up to which it lasts for certain."""

    id: int
    ttl: int
    alive_until: float
    used_at: float

    @property
    def beat(self) -> float:
        """Seconds between two signs of life."""
        return min(self.ttl / 4, _LONGEST_BEAT)

    @property
    def due(self) -> float:
        """Local clock; when to give the next sign of life."""
        return self.alive_until - self.ttl + self.beat


class Sessions:
    """The etcd leases of one process.

    Args:
        transport: to etcd.
        agree: runs a transaction that changes nothing.
        in_use: returns the leases that entries depend on.
        each_beat: is called by the thread about every half second.

    Attributes:
        made: the leases of this process so far, one for each time that it was idle for long, or cut off.
    """

    def __init__(
        self,
        transport: Transport,
        agree: Callable[[], object],
        in_use: Callable[[], set[int]],
        each_beat: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._agree = agree
        self._in_use = in_use
        self._each_beat = each_beat
        self._lock = threading.Lock()
        self._sessions: dict[int, Session] = {}
        self._retention: Session | None = None
        self.made: set[int] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, ttl: float, *, renewed: bool = False) -> Session:
        """Return the session behind `ttl`, with most of its time left; with all of it if `renewed`."""
        whole, now = max(_SHORTEST, math.floor(ttl - LATE)), clock.now()
        session = self._sessions.get(whole)
        if session is None or session.alive_until <= now:
            return self._make(whole)
        session.used_at = now
        if renewed or now > session.due + session.beat:
            return session if self.keep_alive(session) else self._make(whole)
        return session

    def lasts_until(self, lease: int) -> float:
        """Return up to when a lease of this process lasts for certain; the past if that is over."""
        alive = (session.alive_until for session in list(self._sessions.values()) if session.id == lease)
        return next(alive, -math.inf)

    def retention(self) -> int:
        """Return an etcd lease for what outlives its use by RETENTION, and not much more."""
        kept = self._retention
        if kept is not None and kept.alive_until - clock.now() >= RETENTION:
            return kept.id
        with self._lock:
            if self._retention is kept:
                now = clock.now()
                lease, ttl = self._transport.grant(math.ceil(1.5 * RETENTION))
                self._retention = Session(lease, ttl, now + ttl, now)
            kept = self._retention
        return kept.id if kept is not None else self.retention()

    def once(self, seconds: float) -> int:
        """Return a new etcd lease that nobody keeps alive."""
        return self._transport.grant(max(_SHORTEST, math.ceil(seconds)))[0]

    def keep_alive(self, session: Session) -> bool:
        """Give a sign of life; return whether the session still lives."""
        for _ in range(_TRIES):
            sent = clock.now()
            ttl, term = self._transport.keep_alive(session.id)
            if self._still_leads(term):
                break
        else:
            raise BackendUnavailable("etcd changes its leader again and again")
        if ttl > 0:
            session.alive_until = max(session.alive_until, sent + ttl)
            return True
        self._forget(session)
        return False

    def _still_leads(self, term: int) -> bool:
        """Return whether an answer is not one of a leader that was deposed while it was frozen, and has just woken.

        Such a one answers a sign of life as if it led, and the leader of now hears nothing of it. In the usual case the
        last transaction was of the same term. Else a majority is asked: a new term may have begun, or all data is lost.
        """
        if term != self._transport.term:
            self._agree()
        return term == self._transport.term

    def doubt(self) -> None:
        """Find out which etcd leases are over, after one was said to be."""
        self._retention = None
        for session in list(self._sessions.values()):
            self.keep_alive(session)

    def close(self) -> None:
        """Stop giving signs of life; end the leases that nothing depends on."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        for session in list(self._sessions.values()):
            if session.id not in self._in_use():
                self._end(session)

    def _make(self, whole: int) -> Session:
        with self._lock:
            now, known = clock.now(), self._sessions.get(whole)
            if known is not None and known.alive_until > now:
                return known
            lease, ttl = self._transport.grant(whole)
            session = self._sessions[whole] = Session(lease, ttl, now + ttl, now)
            self.made.add(lease)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="tasklocks-etcd-beat", daemon=True)
                self._thread.start()
            return session

    def _forget(self, session: Session) -> None:
        with self._lock:
            for whole, each in list(self._sessions.items()):
                if each is session:
                    del self._sessions[whole]

    def _run(self) -> None:
        while not self._stop.wait(self._pause()):
            self._try_to_beat()

    def _try_to_beat(self) -> None:
        try:
            self._each_beat()
            self._beat()
        except BackendUnavailable as error:
            _logger.debug("no sign of life could be given to etcd: %s", error)
        except Exception:
            # A fault must not end the thread: every lease of the process depends on it.
            _logger.exception("no sign of life could be given to etcd, trying again")

    def _pause(self) -> float:
        now = clock.now()
        first = min((session.due for session in list(self._sessions.values())), default=math.inf)
        return min(max(first - now, 0.05), 0.5)

    def _beat(self) -> None:
        now = clock.now()
        for session in [each for each in list(self._sessions.values()) if each.due <= now]:
            if session.used_at + _UNUSED < now and session.id not in self._in_use():
                self._end(session)
            else:
                self.keep_alive(session)

    def _end(self, session: Session) -> None:
        self._forget(session)
        try:
            self._transport.revoke(session.id)
        except (BackendUnavailable, EtcdError) as error:
            _logger.debug("an etcd lease was left to end by itself: %s", error)
