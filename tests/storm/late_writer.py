"""Takes a mutex and writes under it when it is told to, without another look at its lease: `… URL NAME TTL FOLDER`.

It prints its token, then what the store answered, then whether its lease says that it is lost.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tasklocks import Lock
from tests.storm.store import Store


def main(url: str, name: str, ttl: float, folder: Path) -> None:
    store = Store(folder / "store")
    with Lock(name, ttl=ttl, backend=url) as lease:
        value = store.claim(name, lease.fencing_token)
        print("token", lease.fencing_token, flush=True)
        while not (folder / "write").exists():
            time.sleep(0.01)
        wrote = store.write(name, value + 1, lease.fencing_token)
        print("written" if wrote else "refused", "lost" if lease.lost else "held", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
