"""An app whose settings are Django's."""

from __future__ import annotations

import os

from celery import Celery
from django.conf import settings

from tasklocks import locked

settings.configure(
    CELERY_BROKER_URL=os.environ["BROKER_URL"],
    CELERY_RESULT_BACKEND=os.environ["RESULT_BACKEND"],
    CELERY_TASK_DEFAULT_QUEUE=os.environ["TEST_QUEUE"],
    CELERY_TASKLOCKS_URL=os.environ["DJANGO_LOCKS"],
    CELERY_TASKLOCKS_PREFIX="django",
)
app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="site.report")
@locked("report", on_busy="skip")
def report() -> str:
    return "ran"
