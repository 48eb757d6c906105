"""Takes one mutex over and over until told to stop: `python -m tests.hammer URL FOLDER TTL`.

Each critical section adds one to a number in a file by reading it, pausing and writing it, which goes wrong as soon as
two do it at once.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tasklocks import Lease, Lock
from tests.records import Journal

__all__ = ["NAME", "counted"]

NAME = "hammered"


def counted(folder: Path) -> int:
    """Return the number in the file."""
    counter = folder / "counter"
    return int(counter.read_text()) if counter.exists() else 0


def _section(lease: Lease, folder: Path, journal: Journal) -> None:
    journal.write("enter", lease.fencing_token, lease.grant.deadline)
    value = counted(folder)
    time.sleep(random.uniform(0, 0.004))
    # Written aside and renamed, so that a kill in the middle leaves a number, the old or the new one.
    fresh = folder / f"counter-{lease.fencing_token}"
    fresh.write_text(str(value + 1))
    fresh.rename(folder / "counter")
    journal.write("leave", lease.fencing_token, lease.grant.deadline)


def main(url: str, folder: Path, ttl: float) -> None:
    lock, journal = Lock(NAME, ttl=ttl, backend=url), Journal(folder / "journal")
    while not (folder / "stop").exists():
        with lock.acquire() as lease:
            _section(lease, folder, journal)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
