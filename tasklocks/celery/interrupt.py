"""Raises `LeaseLost` inside a running task whose lease is lost, like Celery's own soft time limit.

The renewal notices the loss on its own thread; the task runs elsewhere. How it is reached depends on where:

- main thread (prefork children, solo): a real-time signal, whose handler raises; it interrupts a sleep or a read.
- another thread (threads pool): an asynchronous exception; a blocking call has to return first.
- gevent: thrown into the task's greenlet by its hub.

It is raised at most once, and only while the task's own function runs: not before, not after, not in our clean-up.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Protocol

from billiard.process import current_process

from tasklocks.errors import LeaseLost
from tasklocks.leases import Lease

__all__ = ["Interruptible", "interrupt_process", "listen_for_interrupts"]

# Celery and billiard use none of the real-time signals; systems without them fall back to asynchronous exceptions.
_SIGNAL: int | None = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else None

_logger = logging.getLogger("tasklocks")


class _Means(Protocol):
    def send(self) -> None:
        """Make `LeaseLost` rise in the task; called from another thread."""

    def end(self) -> None:
        """Take back what was sent and has not risen yet; called from the task, harmless when repeated."""


class Interruptible:
    """One run of a user's function that is told when one of its leases is lost.

    Attributes:
        told_by_signal: leases that another process renews; it sends a signal when one of them is lost.
        error: what rises, or rose, in the function.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._means: _Means | None = None
        self.told_by_signal: Sequence[Lease] = ()
        self.error: LeaseLost | None = None

    @property
    def armed(self) -> bool:
        """Whether the function runs now, so that it may be interrupted."""
        return self._means is not None

    def lose(self, lease: Lease) -> None:
        """Interrupt the run, if it still goes on (called by the thread that notices the loss)."""
        with self._lock:
            if self._means is None or self.error is not None:
                return
            self.error = _error_of(lease)
            self._means.send()

    def notice(self) -> None:
        """Look whether a lease is lost that another process renews (called where its signal arrives)."""
        lost = (lease for lease in self.told_by_signal if lease.lost)
        if self.error is None and (lease := next(lost, None)) is not None:
            self.error = _error_of(lease)

    def terminate(self, lease: Lease) -> None:
        """Kill the process, if the run still goes on and nothing else runs there; else interrupt the run."""
        if not current_process().daemon:
            self.lose(lease)
            return
        with self._lock:
            if self._means is not None:
                _logger.critical("this process is killed, for its task goes on although %s", _error_of(lease))
                os.kill(os.getpid(), signal.SIGKILL)

    def run(self, function: Callable[[], Any], leases: Sequence[Lease]) -> Any:
        """Return `function()`.

        Raises:
            LeaseLost: one of `leases` was lost before the function ended.
        """
        try:
            try:
                self._arm(leases)
                result = function()
            finally:
                self._disarm()
        except LeaseLost as raised:
            # It may have risen inside _disarm; it rises only once, so this one runs through.
            self._disarm()
            raise (self.error or raised) from None
        if self.error is not None:
            _logger.warning("a task ended normally although %s", self.error)
        return result

    def _arm(self, leases: Sequence[Lease]) -> None:
        self._means = _means_here(self)
        # Lost between its acquire and now: nobody was listening.
        for lease in leases:
            lease.check()

    def _disarm(self) -> None:
        with self._lock:
            if self._means is not None:
                # In this order: if the error rises in between, the second _disarm finds what is left to do.
                self._means.end()
                self._means = None


class _BySignal:
    """Reaches the main thread, also when it sleeps or reads."""

    running: _BySignal | None = None

    def __init__(self, run: Interruptible, number: int) -> None:
        self._run = run
        self._number = number
        self._risen = False
        self._outer = _BySignal.running
        _BySignal.running = self
        if signal.getsignal(number) is not _rise:
            signal.signal(number, _rise)

    def send(self) -> None:
        ident = threading.main_thread().ident
        if ident is not None:
            signal.pthread_kill(ident, self._number)

    def end(self) -> None:
        _BySignal.running = self._outer

    @property
    def due(self) -> LeaseLost | None:
        """What is to rise now, once; a body that runs inside another one ends with it."""
        return self._own_due() or (self._outer.due if self._outer is not None else None)

    def _own_due(self) -> LeaseLost | None:
        if self._risen or not self._run.armed:
            return None
        self._run.notice()
        # Once: the main process and this one may both notice a loss.
        self._risen = self._run.error is not None
        return self._run.error


def _rise(_signal: int, _frame: FrameType | None) -> None:
    means = _BySignal.running
    if means is not None and (error := means.due) is not None:
        raise error


def interrupt_process(pid: int) -> None:
    """Make `LeaseLost` rise in the task that a process of the pool runs, if it finds that a lease of it is lost."""
    if _SIGNAL is not None:
        os.kill(pid, _SIGNAL)


def listen_for_interrupts() -> None:
    """Expect such signals in this process: without a handler they would end it."""
    if _SIGNAL is not None:
        signal.signal(_SIGNAL, _rise)


class _ByAsyncException:
    """Reaches any thread at its next bytecode."""

    def __init__(self) -> None:
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._sent = False

    def send(self) -> None:
        self._sent = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._thread, ctypes.py_object(LeaseLost))

    def end(self) -> None:
        """Take back what was sent; called by the thread itself."""
        if not self._sent:
            return
        # Not by setting none: then the interpreter looks for it before each step, for ever (and hangs in a debugger).
        try:
            self.send()
            while True:
                pass
        except LeaseLost:
            self._sent = False


class _ByHub:
    """Reaches a greenlet through its hub, which runs only while the greenlet waits."""

    def __init__(self, run: Interruptible, gevent: Any) -> None:
        self._run = run
        self._greenlet = gevent.getcurrent()
        self._loop = gevent.get_hub().loop

    def send(self) -> None:
        self._loop.run_callback_threadsafe(self._throw)

    def end(self) -> None:
        """Do nothing: what was sent looks whether the run still goes on, and both run in the hub's thread."""

    def _throw(self) -> None:
        if self._run.armed:
            self._greenlet.throw(self._run.error)


def _means_here(run: Interruptible) -> _Means:
    # A process that imports gevent without patching anything runs its tasks in threads all the same.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _ByHub(run, sys.modules["gevent"])
    if _SIGNAL is not None and threading.current_thread() is threading.main_thread():
        return _BySignal(run, _SIGNAL)
    return _ByAsyncException()


def _error_of(lease: Lease) -> LeaseLost:
    try:
        lease.check()
    except LeaseLost as error:
        return error
    return LeaseLost(f"the lease of {lease.name!r} is lost", name=lease.name)
