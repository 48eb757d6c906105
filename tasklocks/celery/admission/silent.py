"""Backends that did not answer are left alone for a while, the longer the more often they failed."""

from __future__ import annotations

from collections.abc import Container

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.backoff import when_unreachable

__all__ = ["Silent"]

_LONGEST = 5.0  # seconds for which a backend is left alone


class Silent:
    """Which backends are not to be asked now."""

    def __init__(self) -> None:
        self._known: dict[Backend, tuple[int, float]] = {}

    def failed(self, backend: Backend) -> None:
        """Note that it did not answer."""
        failures = self._known.get(backend, (0, 0.0))[0] + 1
        self._known[backend] = failures, clock.now() + min(when_unreachable(failures), _LONGEST)

    def answered(self, backend: Backend) -> None:
        """Note that it is there."""
        self._known.pop(backend, None)

    def now(self) -> Container[Backend]:
        """Return those that are to be left alone."""
        now = clock.now()
        # One that nobody asked for long starts from scratch.
        self._known = {backend: known for backend, known in self._known.items() if known[1] > now - _LONGEST}
        return {backend for backend, (_, until) in self._known.items() if until > now}
