"""`LeaderScheduler`: `celery -A proj beat -S tasklocks.beat:LeaderScheduler`, on as many hosts as one likes.

One beat leads and runs the scheduler that `tasklocks_beat_scheduler` names; the others stand by, and one of them takes
over when the leader ends, however it ends. The wrapped scheduler is opened by taking the lead and closed by losing it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.utils.imports import load_extension_class_names
from kombu.utils.imports import symbol_by_name

from tasklocks import clock
from tasklocks.beat.book import Book
from tasklocks.beat.gate import Gate
from tasklocks.beat.lead import Lead, clock_text
from tasklocks.beat.stopping import StopsLater
from tasklocks.beat.wishes import check_schedule
from tasklocks.celery.conf import beat_settings_of, settings_of
from tasklocks.errors import BackendUnavailable, LeaseLost
from tasklocks.semaphore import check_ttl

__all__ = ["LeaderScheduler"]

_LOOK = 1.0  # seconds: a leader looks at its lease, a standby at who leads, at least so often
_PAUSE = 0.5  # seconds, while the backend does not answer
_IDLE = 0.01  # seconds without anything due, in which there is time to write down what was sent
_UNWRITTEN = 1.0  # seconds of sends that are not written down, at most, however busy it is
_ASTRAY = 60.0
"""Seconds by which a leader's clock may differ from that of its backend, if there is somebody else who could lead."""

_ALIASES = "celery.beat_schedulers"  # where packages register short names, such as "django"

_logger = logging.getLogger("tasklocks.beat")


class LeaderScheduler:
    """What Celery's beat drives: ticks of the wrapped scheduler while this process leads, attempts to lead otherwise.

    The arguments are those that Celery gives to any scheduler; they are passed on to the wrapped one.

    Raises:
        ConfigurationError: a setting, or an option of an entry, that cannot work.
    """

    # RedBeat's own hook in Celery asks every scheduler for the lock that it should take.
    lock_key = None

    def __init__(self, app: Celery, max_interval: float | None = None, lazy: bool = False, **options: Any) -> None:
        settings = beat_settings_of(app)
        self.app = app
        self.max_interval = max_interval or _LOOK
        self._options = {"app": app, "max_interval": max_interval, **options}
        self._class = symbol_by_name(settings.scheduler, dict(load_extension_class_names(_ALIASES)))
        self._name = settings.name
        self._ttl = settings.ttl
        self._backend = settings_of(app).backend(None, "beat")
        check_ttl(self._ttl, self._backend, "tasklocks_beat_ttl")
        check_schedule(app.conf.beat_schedule or {})
        self._lead = Lead(self._backend, self._name, self._ttl)
        self._book = Book(self._backend, self._name)
        self._stops = StopsLater()
        self._inner: Any = None
        self._gate: Gate | None = None
        self._waited_for_old_leader = False
        self._waited_for_better_clock = False
        self._ticking = False
        self._looked = self._wrote = -math.inf

    @property
    def schedule(self) -> Mapping[str, Any]:
        """The entries, while this process leads."""
        return self._inner.schedule if self._inner is not None else {}

    @property
    def info(self) -> str:
        """What beat shows at its start."""
        return f"       . leader of -> {self._name}, wrapping {self._class.__module__}.{self._class.__qualname__}"

    def tick(self) -> float:
        """Do what is to be done now; return the seconds until it is worth looking again."""
        self._stops.install()
        self._ticking = True
        try:
            return self._lead_on() if self._gate is not None else self._stand_by()
        finally:
            self._ticking = False

    def should_sync(self) -> bool:
        """Tell whether the wrapped scheduler wants to save its state."""
        return self._inner is not None and self._inner.should_sync()

    def sync(self) -> None:
        """Let the wrapped scheduler save its state."""
        if self._inner is not None:
            self._inner.sync()

    def _do_sync(self) -> None:
        self._inner._do_sync()

    def close(self) -> None:
        """Hand over: a standby takes the lead at once."""
        # Called from Celery's signal handler, anywhere inside a tick: it is called again when the tick has ended.
        if not self._ticking:
            self._close_inner()
            self._lead.step_back("this beat ends")

    def _stand_by(self) -> float:
        self._look()
        pause = self._lead.wait(min(self.max_interval, _LOOK))
        if not self._lead.held:
            return pause
        with self._stops.busy():
            return self._take_over()

    def _look(self) -> None:
        """Remember what the leader writes: should the backend lose it, this is all there is."""
        if clock.now() < self._looked + self._ttl / 3:
            return
        self._looked = clock.now()
        try:
            self._book.look()
        except BackendUnavailable:
            _logger.debug("schedule %r: the ticks cannot be read now", self._name)

    def _take_over(self) -> float:
        lease = self._lead.lease
        if lease is None:
            return 0.0
        try:
            if self._book.misses_its_writer() and not self._waited_for_old_leader:
                # Perhaps its last writer is alive, and knows more than we do: it comes back within a renewal.
                self._waited_for_old_leader = True
                self._lead.step_back("the backend has lost the last runs; their leader comes first", self._ttl)
                return _PAUSE
            self._book.open(lease.fencing_token)
            if self._leaves_it_to_a_better_clock():
                return _PAUSE
            self._open_inner()
        except (BackendUnavailable, LeaseLost) as error:
            self._stop_leading(str(error), _PAUSE)
        except Exception:
            # Its database is down, its file cannot be opened: another host may have more luck.
            _logger.exception("schedule %r: the wrapped scheduler does not start", self._name)
            self._stop_leading("the wrapped scheduler does not start", self._ttl)
        return 0.0

    def _leaves_it_to_a_better_clock(self) -> bool:
        """Let the others go first, once, if this host's clock is wrong; whoever then leads again leads all the same."""
        astray = abs(self._book.ahead) > _ASTRAY
        leaves = astray and not self._waited_for_better_clock
        self._waited_for_better_clock = astray
        if leaves:
            self._lead.step_back(clock_text(self._book.ahead), self._ttl)
        elif astray:
            _logger.error("schedule %r: %s, but nobody else leads", self._name, clock_text(self._book.ahead))
        return leaves

    def _open_inner(self) -> None:
        self._inner = self._class(**self._options, lazy=False)
        # RedBeat: the lead is decided already.
        self._inner.lock_key = None
        astray = math.inf if self._waited_for_better_clock else _ASTRAY
        self._gate = Gate(self._inner, self._book, self._lead, self._backend, late=2 * self._ttl, astray=astray)
        self._gate.restore()
        self._waited_for_old_leader = False

    def _lead_on(self) -> float:
        gate = self._gate
        if gate is None or not self._lead.held:
            self._stop_leading("its lease is lost")
            return 0.0
        if not self._lead.has_room():
            return _PAUSE
        with self._stops.busy():
            gate.trouble = None
            self._look_at_clock(gate)
            try:
                interval = self._tick(gate) if gate.trouble is None else 0.0
            except Exception:
                # Alone it would end this beat, and the lead with it only after a ttl.
                _logger.exception("schedule %r: the wrapped scheduler fails", self._name)
                self._stop_leading("the wrapped scheduler fails", self._ttl)
                return _PAUSE
        return self._after(gate, interval)

    def _look_at_clock(self, gate: Gate) -> None:
        """Notice a wrong clock also while nothing is due, for that may be because of it."""
        if clock.now() < self._looked + self._ttl / 3:
            return
        self._looked = clock.now()
        try:
            self._book.look_at_clock()
            gate.check_clock()
        except BackendUnavailable:
            _logger.debug("schedule %r: the backend's clock cannot be read now", self._name)
        except LeaseLost as error:
            gate.trouble = error

    def _tick(self, gate: Gate) -> float:
        gate.catch_up()
        interval = float(self._inner.tick())
        gate.look_again()
        if gate.trouble is None and (interval > _IDLE or clock.now() > self._wrote + _UNWRITTEN):
            self._write_down()
        return interval

    def _after(self, gate: Gate, interval: float) -> float:
        if isinstance(gate.trouble, LeaseLost) and self._lead.has_room():
            # The lease says that we lead, the book that somebody newer does: the backend has forgotten our lease.
            self._stop_leading(str(gate.trouble), _PAUSE)
            return 0.0
        if gate.trouble is not None:
            _logger.warning("schedule %r: nothing is sent now: %s", self._name, gate.trouble)
            return _PAUSE
        return min(interval, _LOOK)

    def _write_down(self) -> None:
        self._wrote = clock.now()
        try:
            self._book.flush()
        except (BackendUnavailable, LeaseLost) as error:
            _logger.debug("schedule %r: what was sent is written down later: %s", self._name, error)

    def _stop_leading(self, why: str, seconds: float = 0.0) -> None:
        self._close_inner()
        self._lead.step_back(why, seconds)

    def _close_inner(self) -> None:
        gate, inner, self._gate, self._inner = self._gate, self._inner, None, None
        if gate is not None:
            gate.close()
        if inner is None:
            return
        try:
            inner.close()
        except Exception:
            # Whatever it is, the lead must be handed over.
            _logger.exception("schedule %r: the wrapped scheduler does not close", self._name)
