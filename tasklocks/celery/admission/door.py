"""Where a pool's process says that a body has ended, so that its lease is released before its result is known."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tasklocks.celery.watch import watch_of_this_worker

__all__ = ["Door", "say_ended"]

_NAME = "ended"
_PATIENCE = 1.0  # seconds that a body's end waits for a main process that does not listen
_LONGEST = 512

_logger = logging.getLogger("tasklocks")


def say_ended(index: int, owner: str) -> None:
    """Tell the main process that the body needs a lease no more (called in a pool's process)."""
    watch = watch_of_this_worker()
    if watch is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE)
        try:
            sender.sendto(f"{index} {owner}".encode(), str(watch.folder / _NAME))
        except OSError as error:
            # The result tells as well, a little later.
            _logger.debug("the end of a body could not be told: %s", error)


class Door:
    """Hears what the processes say, on a thread of its own.

    Args:
        folder: the watch's.
        ended: called with each index and owner; may talk to a backend.
    """

    def __init__(self, folder: Path, ended: Callable[[int, str], None]) -> None:
        self._path = str(folder / _NAME)
        self._ended = ended
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._thread = threading.Thread(target=self._run, name="tasklocks-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear what was said so far, and stop."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_PATIENCE)
            sender.sendto(b"", self._path)
        self._thread.join(10 * _PATIENCE)
        self._socket.close()

    def _run(self) -> None:
        while said := self._socket.recv(_LONGEST):
            index, _, owner = said.decode(errors="replace").partition(" ")
            try:
                self._ended(int(index), owner)
            except Exception:
                # Whatever it was about, the next body's end must be heard.
                _logger.exception("the end of a body was not understood")
