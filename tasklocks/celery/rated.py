"""`@rate_limited`: what a task must not do more often than that, over all workers together."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tasklocks.backends import Backend
from tasklocks.celery.decorating import decorating, without_task
from tasklocks.celery.rate_spec import Cost, OnRateBackendError, RateOptions, make_rate_spec
from tasklocks.celery.spec import OnBusy
from tasklocks.durations import Duration
from tasklocks.ratelimit import Rates
from tasklocks.types import Algorithm

__all__ = ["rate_limited"]

P = ParamSpec("P")
R = TypeVar("R")


def rate_limited(
    name: str | Callable[..., str],
    rate: Rates,
    *,
    burst: float | None = None,
    cost: Cost = 1.0,
    max_wait: Duration | None = None,
    on_busy: OnBusy = "retry",
    algorithm: Algorithm = "gcra",
    timezone: str | None = None,
    on_backend_error: OnRateBackendError = "retry",
    backend: str | Backend | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let the function start no more often than `rate`, over all workers together.

    Goes under `@app.task` or `@shared_task`, or on a plain function, also together with `@locked`::

        @app.task
        @rate_limited("partner-{customer}", "100/m", burst=10)
        def call_partner(customer): ...

    A task that must wait reserves its start and is sent again once, due at exactly that moment. Locks of the same task
    are taken with it, in one step where the backend can, so that no start is used up while a lock is busy. Several
    rates: the task starts at the latest of their starts; if one of them refuses, nothing is reserved or taken.

    Args:
        name: the limit; a format string over the function's parameters, or a function of the call's arguments.
        rate: `"100/m"`, `"5/s"`, `"10/30s"`; several, which must all hold; or a function that is asked each time.
        burst: how much may start at once after a pause (`gcra` only). None: each start waits for its own share.
        cost: how much of the rate one call takes: a number, or a function of the call's arguments.
        max_wait: seconds (or a timedelta); a start that would be later fails at once with `LockTimeout`, and reserves
            nothing. None: no bound in a worker; no waiting in eager mode and when called directly.
        on_busy: `"retry"` (send again), `"wait"` (in the worker), `"skip"` (end without running) or `"raise"`.
        algorithm: `"gcra"` (even pacing), `"sliding"` (never more in any window) or `"fixed"` (a quota of each calendar
            hour, day or month, or of each other stretch of time since 1970).
        timezone: the name of the time zone of a calendar quota; None: UTC.
        on_backend_error: `"retry"` (a backend that does not answer counts as busy), `"raise"`, or `"run"` (without
            counting).
        backend: a URL, or what `connect` returns. None: the app's `tasklocks_url`.

    Raises:
        ConfigurationError: an option that cannot work; at import, with the task's name.
    """
    options = RateOptions(
        rate=rate,
        burst=burst,
        cost=without_task(cost),
        max_wait=max_wait,
        on_busy=on_busy,
        algorithm=algorithm,
        timezone=timezone,
        on_backend_error=on_backend_error,
        backend=backend,
    )

    return decorating(
        "@rate_limited", lambda signature, where: make_rate_spec(without_task(name), options, signature, where)
    )
