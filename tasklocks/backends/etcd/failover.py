"""Calls that are tried again, at the next endpoint if need be, until their time is over; and errors for people.

So a call may be done twice: every transaction of this backend is written so that this is harmless.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.etcd.address import Address
from tasklocks.backends.etcd.ops import EtcdError, LeaseGoneError
from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["Failover"]

T = TypeVar("T")

_PAUSE = 0.1

_DEADLINE, _INVALID, _DENIED, _EXHAUSTED, _UNAVAILABLE, _UNAUTHENTICATED = 4, 3, 7, 8, 14, 16


class Failover:
    """The endpoints of one client.

    Args:
        address: where they are, and who asks.
        log_in: returns a token for the user.
        disconnect: closes the connections to the endpoint that failed.

    Attributes:
        current: the number of the endpoint in use.
        token: what etcd knows the user by; empty before the first call, and without a user.
        breaks: how often a connection was lost.
    """

    def __init__(self, address: Address, log_in: Callable[[float], str], disconnect: Callable[[], None]) -> None:
        self.address = address
        # Not all processes at the first endpoint.
        self.current = random.randrange(len(address.hosts))  # noqa: S311 - nothing secret
        self.token = ""
        self.breaks = 0
        self._log_in = log_in
        self._disconnect = disconnect
        self._one_logs_in = threading.Lock()

    def call(self, ask: Callable[[float], T]) -> T:
        """Return what `ask(deadline)` returns.

        It raises `EtcdError` for an answer that is an error, OSError or ValueError for none.
        """
        deadline = clock.now() + self.address.timeout
        endpoints_left = len(self.address.hosts)
        while True:
            answer = self._tried(ask, deadline)
            if not isinstance(answer, Exception):
                return answer
            endpoints_left -= not isinstance(answer, EtcdError)
            if endpoints_left <= 0 or clock.now() >= deadline or not self._remedied(answer):
                raise self.translated(answer) from answer

    def share_of(self, deadline: float) -> float:
        """Return the seconds that one endpoint may take for its answer."""
        share = self.address.timeout / len(self.address.hosts)
        return max(0.05, min(share, deadline - clock.now()))

    def log_in_once(self) -> None:
        """Get a token if one is needed and there is none."""
        if self.token or not self.address.user:
            return
        with self._one_logs_in:
            if not self.token:
                self.token = self._log_in(clock.now() + self.address.timeout)

    def go_on_elsewhere(self) -> None:
        """Use the next endpoint from now on."""
        self.breaks += 1
        self.current = (self.current + 1) % len(self.address.hosts)
        self._disconnect()

    def translated(self, error: Exception) -> Exception:
        """Return the error that callers know."""
        where = f"etcd at {self.address.shown}"
        if isinstance(error, LeaseGoneError):
            return error
        if not isinstance(error, EtcdError):
            said = "no answer in time" if isinstance(error, TimeoutError) else error
            return BackendUnavailable(f"{where} does not answer: {said}")
        if error.code in (_DEADLINE, _EXHAUSTED, _UNAVAILABLE):
            return BackendUnavailable(f"{where} cannot answer: {error}")
        return self._refusal(error, where)

    def _tried(self, ask: Callable[[float], T], deadline: float) -> T | EtcdError | OSError | ValueError:
        try:
            self.log_in_once()
            return ask(deadline)
        except (EtcdError, OSError, ValueError) as error:
            return error

    def _remedied(self, error: Exception) -> bool:
        """Do what may let a call succeed that failed; return whether it is worth another try."""
        if not isinstance(error, EtcdError):
            self.go_on_elsewhere()
            return True
        if error.code == _UNAVAILABLE:
            self.go_on_elsewhere()
            # Leaders are elected within a second or two.
            clock.pause(_PAUSE)
            return True
        if error.code == _UNAUTHENTICATED or "revision of auth store is old" in str(error):
            self.token = ""
            return True
        return False

    def _refusal(self, error: EtcdError, where: str) -> Exception:
        if "user name is empty" in str(error):
            return BackendRefused(f"{where} asks for a user: write etcd://user:password@host in the URL")
        if "authentication is not enabled" in str(error):
            return BackendRefused(f"{where} knows no users: leave user and password out of the URL")
        if error.code in (_INVALID, _DENIED, _UNAUTHENTICATED):
            return BackendRefused(f"{where} refuses user {self.address.user!r}: {error}")
        return BackendUnavailable(f"{where} answered with an error: {error}")
