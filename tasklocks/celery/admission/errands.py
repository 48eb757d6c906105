"""What the event loop wants done at a backend, but must not wait for: one thread, in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from tasklocks.backends import Backend
from tasklocks.errors import TaskLocksError
from tasklocks.leases import Lease, give_back

__all__ = ["Errands"]

_logger = logging.getLogger("tasklocks")


class Errands:
    """Gives back leases and places. Its thread starts with the first of them."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def give_back(self, lease: Lease) -> None:
        """Release the lease soon."""
        self._do(lambda: give_back(lease))

    def leave(self, backend: Backend, name: str, owner: str) -> None:
        """End what `owner` has of the limit soon, its place in line above all."""
        self._do(lambda: backend.release(name, owner))

    def close(self) -> None:
        """Do what is left, and end."""
        if self._thread is not None:
            self._todo.put(None)
            self._thread.join(10)

    def _do(self, errand: Callable[[], object]) -> None:
        self._todo.put(errand)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tasklocks-errands", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (errand := self._todo.get()) is not None:
            try:
                errand()
            except TaskLocksError as error:  # noqa: PERF203 - the thread goes on
                _logger.debug("a place lapses by itself: %s", error)
            except Exception:
                # A fault of a backend must not end the thread: other limits' permits depend on it.
                _logger.exception("something of a limit is not given back; it lapses by itself")
