"""A process that is killed while it takes a lock and starts leaves nothing that stays, and at most one start unused."""

from __future__ import annotations

import sys
import time

from tasklocks import Lock, connect
from tasklocks.rates import RateState
from tests.processes import ChildProcess, eventually

KILLS = 2

_CHURN = """
import itertools, os, sys
from tasklocks import connect
from tasklocks.types import AcquireRequest, Pace, ReserveRequest

backend = connect(sys.argv[1])
rates = [ReserveRequest(name, (Pace(1e6, 3600.0, algorithm="sliding"),)) for name in "ab"]
for number in itertools.count():
    request = AcquireRequest("lock", f"{os.getpid()}-{number}", ttl=float(sys.argv[2]))
    print("asks", flush=True)
    backend.take_all(request, rates, 10.0)
    backend.release(request.name, request.owner)
"""


def _reserved(url: str, name: str) -> float:
    def look(text: str, now: float) -> tuple[str, float, float]:
        return text, 0.0, RateState.read(text).counted[0][-1][2]

    return connect(url).update(name, look)


def test_a_process_that_is_killed_in_the_middle_leaks_no_lease_and_at_most_one_start(process_backend_url, tmp_path):
    backend = connect(process_backend_url)
    ttl, asked = max(1.0, backend.capabilities.min_ttl), 0
    for number in range(KILLS):
        log = tmp_path / f"{number}.log"
        child = ChildProcess([sys.executable, "-c", _CHURN, process_backend_url, str(ttl)], log=log)
        assert eventually(lambda log=log: log.read_text().count("asks") > 20, within=20), log.read_text()
        child.kill()
        killed_at = time.monotonic()
        with Lock("lock", backend=process_backend_url).acquire(timeout=ttl + 5):
            assert time.monotonic() - killed_at < ttl + 1
        asked += log.read_text().count("asks")
        assert all(asked - number - 1 <= _reserved(process_backend_url, name) <= asked for name in "ab")
    backend.close()
