"""Locks and semaphores in plain Python: no Celery, no server, any number of processes of one host.

With several hosts, only the URL changes: `redis://localhost`.
"""

import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tasklocks import Lock, LockBusy, LockTimeout, Semaphore, connect


def mutex(backend):
    """One holder at a time; who comes second waits, gives up, or is told at once."""
    report = Lock("nightly-report", backend=backend)
    with report as lease:
        print(f"held, with fencing token {lease.fencing_token} and {lease.expires_in():.0f} s left; it is renewed")
        try:
            report.acquire(blocking=False)
        except LockBusy as busy:
            print("not blocking:", busy)
        try:
            report.acquire(timeout=0.3)
        except LockTimeout as timeout:
            print("timeout:", timeout)
    lease = report.acquire()
    print("free again:", lease)
    lease.release()


def semaphore(backend):
    """Ten threads, three permits."""
    downloads = Semaphore("downloads", 3, backend=backend)
    inside = []
    most = 0

    def download(number):
        nonlocal most
        with downloads:
            inside.append(number)
            most = max(most, len(inside))
            time.sleep(0.05)
            inside.remove(number)

    threads = [threading.Thread(target=download, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"10 downloads, at most {most} at once")


with TemporaryDirectory() as folder:
    embedded = connect(f"sqlite:///{Path(folder)}/locks.db")
    mutex(embedded)
    semaphore(embedded)
    embedded.close()
