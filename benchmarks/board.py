"""Who is inside: a few bytes that processes share, to see with their own eyes that a mutex excludes."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["Board"]

_NUMBER = struct.Struct("i")


class Board:
    """One place that each process marks as its own while it is inside.

    Args:
        path: a file that `make` made.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBER.size)

    @staticmethod
    def make(path: Path) -> Path:
        """Write an empty board and return its path."""
        path.write_bytes(_NUMBER.pack(0))
        return path

    def enter(self, number: int) -> bool:
        """Mark the place; return whether it was free."""
        free = self._read() == 0
        _NUMBER.pack_into(self._memory, 0, number)
        return free

    def leave(self, number: int) -> bool:
        """Clear the place; return whether nobody else marked it meanwhile."""
        mine = self._read() == number
        _NUMBER.pack_into(self._memory, 0, 0)
        return mine

    def _read(self) -> int:
        return int(_NUMBER.unpack_from(self._memory)[0])
