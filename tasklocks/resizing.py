"""`Resizable`: a capacity that an operator may change while workers run, without a release of the code.

What the code says counts until `tasklocks resize` says something else. That is kept in one small text of the backend,
for all limits together, and each process reads it again every few seconds while it takes leases. So a change arrives
within seconds, not at one moment: until then, processes that know it and such that do not each state their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tasklocks import clock
from tasklocks.backends.base import Backend
from tasklocks.errors import BackendUnavailable, ConfigurationError
from tasklocks.fork import PerProcess

__all__ = ["Resizable", "resize", "sizes"]

_TEXT = "tasklocks-sizes"
_KEPT = 400 * 86400.0  # seconds; renewed by each change
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Resizable:
    """So many permits, unless an operator said another number: `@locked("save", Resizable(10))`.

    >>> from tasklocks import Semaphore
    >>> Semaphore("downloads", Resizable(3), backend="memory://").acquire().permits
    1

    Attributes:
        permits: how many there are if nobody said anything else.
        every: seconds for which a process goes by what it read last.
    """

    permits: int
    every: float = 5.0

    def __call__(self) -> int:
        """Return how many permits the code says."""
        return self.permits

    def on(self, backend: Backend, name: str) -> int:
        """Return how many permits there are for the limit on its backend."""
        return _known().sizes(backend, self.every).get(name, self.permits)


class _Known:
    """What this process has read."""

    def __init__(self) -> None:
        self._read: dict[Backend, tuple[float, Mapping[str, int]]] = {}

    def sizes(self, backend: Backend, every: float) -> Mapping[str, int]:
        read_at, found = self._read.get(backend, (None, {}))
        now = clock.now()
        if read_at is None or now >= read_at + every:
            try:
                found = sizes(backend)
            except BackendUnavailable:
                # The acquire that follows says so.
                return found
            self._read[backend] = now, found
        return found


_known = PerProcess(_Known)


def sizes(backend: Backend) -> Mapping[str, int]:
    """Return what operators said, by limit."""
    return backend.update(_TEXT, lambda text, _now: (text, 0.0, _sizes_in(text)))


def resize(backend: Backend, name: str, permits: int | None) -> None:
    """Let a limit have so many permits from now on; None: as many as the code says.

    Raises:
        ConfigurationError: too many limits have been resized already.
        BackendUnavailable: the backend does not answer.
    """

    def change(text: str, _now: float) -> tuple[str, float, None]:
        kept = {key: value for key, value in _sizes_in(text).items() if key != name}
        if permits is not None:
            kept[name] = permits
        if len(kept) > _MOST:
            raise ConfigurationError(f"{_MOST} limits are resized already; give some of them their own size back")
        return json.dumps(kept), _KEPT, None

    backend.update(_TEXT, change)


def _sizes_in(text: str) -> dict[str, int]:
    try:
        said = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return {key: value for key, value in said.items() if type(value) is int and value >= 1}
