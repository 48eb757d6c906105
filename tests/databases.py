"""What tests do to a database from outside of the backend."""

from __future__ import annotations

import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import ChildProcess

__all__ = ["child", "opened"]


def child(folder: Path, script: str, *args: object) -> ChildProcess:
    """Run a script in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, args)]
    return ChildProcess(command, log=folder / "child.log")


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else, who never waits."""
    db = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        yield db
    finally:
        db.close()
