"""`@locked`: what a task must not do at the same time as others."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tasklocks.backends import Backend
from tasklocks.backoff import Countdown
from tasklocks.celery.decorating import decorating, without_task
from tasklocks.celery.spec import LockOptions, OnBackendError, OnBusy, OnLost, make_spec
from tasklocks.durations import Duration
from tasklocks.semaphore import Capacity

__all__ = ["locked"]

P = ParamSpec("P")
R = TypeVar("R")


def locked(
    name: str | Callable[..., str],
    capacity: Capacity = 1,
    *,
    permits: int = 1,
    ttl: Duration | None = None,
    countdown: Countdown | None = None,
    max_wait: Duration | None = None,
    on_busy: OnBusy = "retry",
    max_hold: Duration | None = None,
    at_least: Duration = 0.0,
    reentrant: bool = False,
    on_lost: OnLost = "raise",
    on_backend_error: OnBackendError = "retry",
    backend: str | Backend | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let at most `capacity` permits of the limit `name` be in use at the same time, over all workers.

    Goes under `@app.task` or `@shared_task`, or on a plain function::

        @app.task
        @locked("import-{account_id}", max_wait=600)
        def import_account(account_id): ...

    Args:
        name: the limit; a format string over the function's parameters, or a function of the call's arguments.
        capacity: how many permits there are, or a function that is asked at each acquire.
        permits: how many of them one run takes.
        ttl: seconds (or a timedelta) after which the permits of a worker that died come free; the lease of a live one
            is renewed. None: the app's `tasklocks_ttl`, 30 s.
        countdown: seconds until a busy task is tried again, or a tenacity wait strategy. None: the app's
            `tasklocks_countdown`, and then from what the backend knows.
        max_wait: seconds after which a waiting task fails with `LockTimeout`. None: never in a worker; at once in eager
            mode and when called directly.
        on_busy: `"retry"` (send again), `"wait"` (in the worker), `"skip"` (end without running) or `"raise"`.
        max_hold: seconds after which the lease is not renewed any more. None: no bound.
        at_least: seconds that the permits stay taken at the least, for very short tasks.
        reentrant: whether a call from inside a holder shares its lease.
        on_lost: `"raise"` (`LeaseLost` rises in a task whose lease is lost), `"flag"` (it asks `lease.lost` itself) or
            `"terminate"` (its pool process is killed at once; where tasks share a process, as `"raise"`).
        on_backend_error: `"retry"` (a backend that does not answer counts as busy) or `"raise"`.
        backend: a URL, or what `connect` returns. None: the app's `tasklocks_url`.

    Raises:
        ConfigurationError: an option that cannot work; at import, with the task's name.
    """
    options = LockOptions(
        capacity=capacity,
        permits=permits,
        ttl=ttl,
        countdown=countdown,
        max_wait=max_wait,
        on_busy=on_busy,
        max_hold=max_hold,
        at_least=at_least,
        reentrant=reentrant,
        on_lost=on_lost,
        on_backend_error=on_backend_error,
        backend=backend,
    )

    return decorating("@locked", lambda signature, where: make_spec(without_task(name), options, signature, where))
