"""`RateSpec`: what one `@rate_limited` says, checked when it is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tasklocks.backends import Backend
from tasklocks.celery.spec import OnBusy, one_of, optional_seconds
from tasklocks.durations import Duration
from tasklocks.keys import KeyFunction, key_function
from tasklocks.ratelimit import Rates, check_cost, check_rates
from tasklocks.semaphore import connected
from tasklocks.types import Algorithm, Pace

__all__ = ["Cost", "OnRateBackendError", "RateOptions", "RateSpec", "make_rate_spec"]

OnRateBackendError = Literal["retry", "raise", "run"]

Cost = float | Callable[..., float]
"""How much of the rate one call takes: a number, or a function of the call's arguments."""


@dataclass(frozen=True, slots=True)
class RateOptions:
    """The options of `@rate_limited`, as its docstring describes them."""

    rate: Rates
    burst: float | None = None
    cost: Cost = 1.0
    max_wait: Duration | None = None
    on_busy: OnBusy = "retry"
    algorithm: Algorithm = "gcra"
    timezone: str | None = None
    on_backend_error: OnRateBackendError = "retry"
    backend: str | Backend | None = None


@dataclass(frozen=True, slots=True)
class RateSpec:
    """A rate limit of a task: checked options, times in seconds.

    Attributes:
        where: the task, for errors.
        key: from a call's arguments to the limit's name.
        template: the name as it is written; empty if a function makes it.
        paces: says the rates of now, checked; it asks the user's function if there is one.
        max_wait: None: no bound in a worker, 0 when called directly or eagerly.
    """

    where: str
    key: KeyFunction
    template: str
    paces: Callable[[], tuple[Pace, ...]]
    cost: Cost
    max_wait: float | None
    on_busy: OnBusy
    on_backend_error: OnRateBackendError
    backend: str | Backend | None

    def cost_of(self, paces: Sequence[Pace], args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
        """Return what a call takes of the rates; raise `ConfigurationError` if such a call could never start."""
        return check_cost(self.cost(*args, **kwargs) if callable(self.cost) else self.cost, paces, self.where)

    def check_on(self, backend: Backend, ttl: float, where: str) -> None:
        """Raise `ConfigurationError` if it cannot work on `backend`; there is nothing that one could not do."""


def make_rate_spec(
    name: str | Callable[..., str], options: RateOptions, signature: inspect.Signature, where: str
) -> RateSpec:
    """Return the checked rate limit of the function with `signature`.

    Raises:
        ConfigurationError: something that cannot work, with `where`, the option and what would work.
    """
    paces = check_rates(options.rate, options.burst, options.algorithm, options.timezone, where)
    if not callable(options.cost):
        check_cost(options.cost, () if callable(options.rate) else paces(), where)
    if options.backend is not None:
        connected(options.backend, where)
    return RateSpec(
        where=where,
        key=key_function(name, signature, where),
        template=name if isinstance(name, str) else "",
        paces=paces,
        cost=options.cost,
        max_wait=optional_seconds(options.max_wait, f"{where}: max_wait"),
        on_busy=one_of(options.on_busy, get_args(OnBusy), f"{where}: on_busy"),
        on_backend_error=one_of(options.on_backend_error, get_args(OnRateBackendError), f"{where}: on_backend_error"),
        backend=options.backend,
    )
