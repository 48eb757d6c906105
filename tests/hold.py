"""Takes one mutex, says so, and keeps it: `python -m tests.hold URL NAME TTL`.

It prints its token, then, every 20 ms, whether its lease is lost.
"""

from __future__ import annotations

import sys
import time

from tasklocks import Lock


def main(url: str, name: str, ttl: float) -> None:
    with Lock(name, ttl=ttl, backend=url) as lease:
        print("token", lease.fencing_token, flush=True)
        while True:
            print("lost" if lease.lost else "held", flush=True)
            time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
