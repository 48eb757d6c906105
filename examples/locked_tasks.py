"""@locked on tasks: a mutex, a semaphore, a lock for each argument, and a countdown by a tenacity strategy.

A real worker runs the tasks, in a thread of this script and with a broker in memory, so that nothing needs a server.
"""

import time
from collections import Counter

from celery import Celery, group
from celery.contrib.testing.worker import start_worker
from tenacity import wait_random

from tasklocks import current_lease, locked

app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=True)
app.conf.update(tasklocks_url="memory://", broker_transport_options={"polling_interval": 0.05})
inside, most = Counter(), Counter()


def work(limit):
    """Work for a moment, and note how many do so at the same time."""
    inside[limit] += 1
    most[limit] = max(most[limit], inside[limit])
    time.sleep(0.1)
    inside[limit] -= 1
    return current_lease().fencing_token


@app.task
@locked("nightly-report")
def report():
    """Only one at a time; the others are sent again until it is their turn."""
    return work("report")


@app.task(bind=True)
@locked("save-to-storage", 3, countdown=wait_random(0.05, 0.2))
def save(self, data):
    """Three at a time; busy ones come back after 50 to 200 ms."""
    return work("save")


@app.task
@locked("import-{account_id}", max_wait=60)
def import_account(account_id, *, full=False):
    """One at a time for each account; fails with LockTimeout if it had to wait for a minute."""
    return work(f"account {account_id}")


with start_worker(app, pool="threads", concurrency=8, perform_ping_check=False):
    tokens = group(report.s() for _ in range(4)).delay().get(timeout=30)
    print(f"report: ran {len(tokens)} times, at most {most['report']} at once, fencing tokens {tokens}")
    group(save.s(number) for number in range(9)).delay().get(timeout=30)
    print(f"save: ran 9 times, at most {most['save']} at once")
    group(import_account.s(account, full=True) for account in (1, 1, 2, 2)).delay().get(timeout=30)
    print(f"import_account: at most {most['account 1']} at once for account 1, {most['account 2']} for account 2")
