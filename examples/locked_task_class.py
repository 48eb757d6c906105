"""LockedTask: a task as a class, whose runs are skipped while another one is under way.

A real worker runs the tasks, in a thread of this script and with a broker in memory, so that nothing needs a server.
"""

import time

from celery import Celery
from celery.contrib.testing.worker import start_worker

from tasklocks import LockedTask

app = Celery("importer", broker="memory://", backend="cache+memory://", set_as_current=True)
app.conf.update(tasklocks_url="memory://", broker_transport_options={"polling_interval": 0.05})


class ImportData(LockedTask):
    """Imports a source; a run that finds an import of the same source under way is skipped, and its result is None."""

    name = "import-data"
    lock_name = "import-{url}"
    retry_on_lock = False

    def locked_run(self, url, limit=100):
        """Do the work; `self.lease` is the lease that this run holds."""
        time.sleep(0.5)
        self.lease.check()
        return f"imported {limit} rows of {url} under token {self.lease.fencing_token}"


import_data = app.register_task(ImportData())


@app.task(base=LockedTask, lock_name="cleanup", lock_capacity=2, lock_countdown=0.1)
def clean_up(folder):
    """As the base of a function's task: two at a time, the others come back after 0.1 s."""
    time.sleep(0.1)
    return folder


with start_worker(app, pool="threads", concurrency=4, perform_ping_check=False):
    results = [import_data.delay(url) for url in ("a.csv", "a.csv", "b.csv")]
    for result in results:
        print("import_data:", result.get(timeout=30))
    print("clean_up:", [result.get(timeout=30) for result in [clean_up.delay(f"/tmp/{number}") for number in range(4)]])

try:
    import_data.delay("a.csv", wrong=1)
except TypeError as error:
    print("arguments are checked when a task is sent:", error)
