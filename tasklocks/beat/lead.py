"""Who leads: one lease for all beats of a schedule. Losing it, or not reaching the backend, means standing by."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

from celery import Celery

from tasklocks import clock, who
from tasklocks.backends.base import Backend
from tasklocks.celery.conf import beat_settings_of, settings_of
from tasklocks.errors import BackendUnavailable, ConfigurationError, LockBusy, TaskLocksError
from tasklocks.leases import Lease
from tasklocks.semaphore import Lock
from tasklocks.types import Holder

__all__ = ["Lead", "Leader", "clock_text", "leader"]

_PAUSE = 1.0  # seconds between attempts while the backend does not answer

_logger = logging.getLogger("tasklocks.beat")


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a schedule.

    Attributes:
        host: where its process runs.
        pid: its process.
        since: since when, on the backend's clock.
        fencing_token: larger than that of every earlier leader.
    """

    host: str
    pid: str
    since: datetime
    fencing_token: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def leader(app: Celery) -> Leader | None:
    """Return who leads the schedule of `app` now, or None.

    Raises:
        BackendUnavailable: the backend does not answer.
    """
    backend = settings_of(app).backend(None, "beat")
    holders = backend.inspect(beat_settings_of(app).name).holders
    return _leader(holders[0]) if holders else None


class Lead:
    """This process's part in the election.

    Args:
        backend: where it is held.
        name: of the schedule.
        ttl: seconds after which a leader that is gone is replaced.
    """

    def __init__(self, backend: Backend, name: str, ttl: float) -> None:
        self._lock = Lock(name, ttl=ttl, backend=backend)
        self.name = name
        self._ttl = ttl
        self._told = ""
        self._not_before = 0.0
        self.lease: Lease | None = None

    @property
    def held(self) -> bool:
        """Whether this process leads, as far as it can know."""
        return self.lease is not None and not self.lease.lost

    def has_room(self) -> bool:
        """Tell whether the lease lasts for certain until something that is sent now has left this process."""
        return self.lease is not None and self.lease.expires_in() > min(1.0, self._ttl / 4)

    def wait(self, timeout: float) -> float:
        """Try to become leader for so many seconds; return how long to pause before the next attempt."""
        pause = self._not_before - clock.now()
        if pause > 0:
            return min(pause, timeout)
        try:
            self.lease = self._lock.acquire(timeout=timeout)
        except LockBusy as busy:
            self._tell(f"standing by; the leader is {_holder_text(busy)}")
        except ConfigurationError:
            # It refuses our credentials: a kind of not answering that a person must end, so the log has it all.
            _logger.exception("schedule %r: trying again", self.name)
            return _PAUSE
        except BackendUnavailable as down:
            self._tell(f"standing by; the backend does not answer: {down}", logging.WARNING)
            return _PAUSE
        else:
            self._tell(f"leading from now on, fencing token {self.lease.fencing_token}")
        return 0.0

    def step_back(self, why: str, seconds: float = 0.0) -> None:
        """Lead no more, and do not try again for so many seconds."""
        lease, self.lease = self.lease, None
        self._not_before = clock.now() + seconds
        if lease is None:
            return
        self._tell(f"leading no more: {why}", logging.WARNING if lease.lost or seconds else logging.INFO)
        try:
            lease.release()
        except TaskLocksError as error:
            _logger.warning("schedule %r: the lead ends by itself within %g s: %s", self.name, self._ttl, error)

    def _tell(self, text: str, level: int = logging.INFO) -> None:
        if text != self._told:
            self._told = text
            _logger.log(level, "schedule %r: %s", self.name, text)


def clock_text(ahead: float) -> str:
    """Say how wrong this host's clock is."""
    return f"the clock of this host is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of the backend"


def _holder_text(busy: LockBusy) -> str:
    if busy.busy is None or not busy.busy.holders:
        return "about to change"
    return str(_leader(busy.busy.holders[0]))


def _leader(holder: Holder) -> Leader:
    facts = who.read(holder.info)
    since = datetime.fromtimestamp(holder.since, timezone.utc)
    return Leader(facts.get("host", "?"), facts.get("pid", "?"), since, holder.fencing_token)
