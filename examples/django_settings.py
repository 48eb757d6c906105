"""The settings in a Django project: CELERY_TASKLOCKS_… beside the other CELERY_… settings.

Runs where Django is installed, with settings in this file; elsewhere it says so and ends.
"""

import sys

try:
    from django.conf import settings
except ModuleNotFoundError:
    sys.exit(print("Django is not installed; nothing to show"))

from celery import Celery, shared_task

from tasklocks import Lock, LockBusy, connect, locked

# settings.py
settings.configure(
    CELERY_BROKER_URL="memory://",
    CELERY_TASK_ALWAYS_EAGER=True,  # only for this script: tasks run at once, without a worker
    CELERY_TASK_EAGER_PROPAGATES=True,
    CELERY_TASKLOCKS_URL="memory://",  # redis://localhost/0 in production
    CELERY_TASKLOCKS_PREFIX="shop",  # two projects on one server do not meet
    CELERY_TASKLOCKS_TTL=60,  # seconds until the locks of a worker that died come free
)

# celery.py
app = Celery("shop", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")


# tasks.py of an app
@shared_task
@locked("invoice-{order_id}")
def write_invoice(order_id):
    """One at a time for each order."""
    return f"invoice for order {order_id}"


print(write_invoice.delay(7).get())

backend = connect(settings.CELERY_TASKLOCKS_URL, prefix=settings.CELERY_TASKLOCKS_PREFIX)
lease = Lock("invoice-7", backend=backend).acquire()
try:
    write_invoice.delay(7)
except LockBusy as busy:
    print("busy, and an eager task does not wait:", busy)
lease.release()
