"""Where admission works, and for how long a broker lets a message be held."""

from __future__ import annotations

from typing import Any

from celery import concurrency

from tasklocks.celery.admission.held import locks_to_hold
from tasklocks.celery.conf import admission_settings_of
from tasklocks.celery.watch import watch_of_this_worker

__all__ = ["forks", "is_on", "longest_hold", "runs_in_loop"]

_HOUR = 3600.0
_SQS = 1800.0  # of queues that kombu makes
_RABBITMQ = 1800.0  # its consumer_timeout unless set; no client can ask


def is_on(worker: Any) -> bool:
    """Tell whether a worker holds messages: it may, and can, and has tasks with locks."""
    app = worker.app
    wanted = admission_settings_of(app).on and any(locks_to_hold(task) for task in app.tasks.values())
    return wanted and _works_in(worker)


def _works_in(worker: Any) -> bool:
    """Tell whether admission is proven for this worker's loop and pool."""
    if runs_in_loop(worker):
        # Only the loop itself may run a body, so it has to be one that can be woken.
        return bool(worker.use_eventloop)
    in_threads = _pool(worker).endswith((".thread", ".gevent"))
    return in_threads or (forks(worker) and watch_of_this_worker() is not None)


def runs_in_loop(worker: Any) -> bool:
    """Tell whether the worker's loop runs the tasks' bodies itself."""
    return _pool(worker).endswith(".solo")


def forks(worker: Any) -> bool:
    """Tell whether the pool's processes are forked from the worker, so that they share memory with it."""
    return _pool(worker).endswith(".prefork") and getattr(worker, "pool_start_method", "fork") == "fork"


def longest_hold(consumer: Any) -> float:
    """Return for how many seconds a message may be held: half of the time after which the broker delivers it again."""
    if consumer.conninfo.transport.driver_type == "amqp":
        return _RABBITMQ / 2
    unless_set = _SQS if consumer.conninfo.transport.driver_type == "sqs" else _HOUR
    timeout = (consumer.app.conf.broker_transport_options or {}).get("visibility_timeout", unless_set)
    return min(float(timeout), _HOUR) / 2


def _pool(worker: Any) -> str:
    pool = worker.pool_cls
    found = pool if isinstance(pool, type) else concurrency.get_implementation(pool)
    return str(found.__module__)
