"""A capacity that is asked for at each acquire, so that it changes while the workers run.

The function may read a file, a cache or a database row; here it is a variable. The newest answer counts.
"""

import logging
import threading
import time

from tasklocks import locked

logging.getLogger("tasklocks").setLevel(logging.ERROR)  # a change of capacity is a warning; here it is what we want
permits = 1
inside = []
seen = []


def permits_now():
    """Return how many may call the partner at once, at this moment."""
    return permits


@locked("partner-api", permits_now, on_busy="wait", max_wait=30, backend="memory://")
def call_partner(customer):
    """Called directly here, so it waits in place; under `@app.task` it would wait in the worker."""
    inside.append(customer)
    seen.append(len(inside))
    time.sleep(0.1)
    inside.remove(customer)


def call_all():
    """Call the partner for eight customers; return how many calls ran at once at the most, and how long it took."""
    seen.clear()
    began = time.monotonic()
    threads = [threading.Thread(target=call_partner, args=(customer,)) for customer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"at most {max(seen)} at once, {time.monotonic() - began:.1f} s"


for permits in (1, 4, 2):
    print(f"{permits} permits: {call_all()}")
