"""`LockSpec`: what one `@locked` says, checked when it is said."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from tasklocks.backends import Backend
from tasklocks.backoff import Countdown, check_countdown
from tasklocks.durations import Duration, seconds
from tasklocks.errors import ConfigurationError
from tasklocks.keys import KeyFunction, key_function
from tasklocks.semaphore import Capacity, capacity_now, check_permits, check_ttl, checked_capacity, connected

__all__ = [
    "LockOptions",
    "LockSpec",
    "OnBackendError",
    "OnBusy",
    "OnLost",
    "make_spec",
    "one_of",
    "optional_seconds",
]

OnBusy = Literal["retry", "wait", "skip", "raise"]
OnBackendError = Literal["retry", "raise"]
OnLost = Literal["raise", "flag", "terminate"]

T = TypeVar("T", bound=str)


@dataclass(frozen=True, slots=True)
class LockOptions:
    """The options of `@locked`, as its docstring describes them."""

    capacity: Capacity = 1
    permits: int = 1
    ttl: Duration | None = None
    countdown: Countdown | None = None
    max_wait: Duration | None = None
    on_busy: OnBusy = "retry"
    max_hold: Duration | None = None
    at_least: Duration = 0.0
    reentrant: bool = False
    on_lost: OnLost = "raise"
    on_backend_error: OnBackendError = "retry"
    backend: str | Backend | None = None


@dataclass(frozen=True, slots=True)
class LockSpec:
    """A lock of a task: checked options, times in seconds.

    Attributes:
        where: the task, for errors.
        key: from a call's arguments to the limit's name.
        template: the name as it is written; empty if a function makes it.
        ttl: None: the app's.
        countdown: None: the app's.
        max_wait: None: no bound in a worker, 0 when called directly or eagerly.
    """

    where: str
    key: KeyFunction
    template: str
    capacity: Capacity
    permits: int
    ttl: float | None
    countdown: Countdown | None
    max_wait: float | None
    on_busy: OnBusy
    max_hold: float | None
    at_least: float
    reentrant: bool
    on_lost: OnLost
    on_backend_error: OnBackendError
    backend: str | Backend | None

    def check_on(self, backend: Backend, ttl: float, where: str) -> None:
        """Raise `ConfigurationError` if it cannot work on `backend`, in an app whose ttl is `ttl`."""
        check_ttl(ttl if self.ttl is None else self.ttl, backend, where)

    def capacity_now(self, backend: Backend, name: str) -> int:
        """Return the number of permits, asking the user's function if there is one."""
        return capacity_now(self.capacity, backend, name, self.where)


def make_spec(
    name: str | Callable[..., str], options: LockOptions, signature: inspect.Signature, where: str
) -> LockSpec:
    """Return the checked limit of the function with `signature`.

    Raises:
        ConfigurationError: something that cannot work, with `where`, the option and what would work.
    """
    spec = LockSpec(
        where=where,
        key=key_function(name, signature, where),
        template=name if isinstance(name, str) else "",
        capacity=checked_capacity(options.capacity, where),
        permits=check_permits(options.permits, options.capacity, where),
        ttl=optional_seconds(options.ttl, f"{where}: ttl", exclusive=True),
        countdown=check_countdown(options.countdown, where),
        max_wait=optional_seconds(options.max_wait, f"{where}: max_wait"),
        on_busy=one_of(options.on_busy, get_args(OnBusy), f"{where}: on_busy"),
        max_hold=optional_seconds(options.max_hold, f"{where}: max_hold", exclusive=True),
        at_least=seconds(options.at_least, setting=f"{where}: at_least"),
        reentrant=options.reentrant,
        on_lost=one_of(options.on_lost, get_args(OnLost), f"{where}: on_lost"),
        on_backend_error=one_of(options.on_backend_error, get_args(OnBackendError), f"{where}: on_backend_error"),
        backend=options.backend,
    )
    own = None if options.backend is None else connected(options.backend, where)
    if own is not None and spec.ttl is not None:
        check_ttl(spec.ttl, own, where)
    return spec


def optional_seconds(value: Duration | None, setting: str, *, exclusive: bool = False) -> float | None:
    """Return a duration in seconds; None stays None."""
    return None if value is None else seconds(value, setting=setting, exclusive=exclusive)


def one_of(value: T, allowed: tuple[str, ...], setting: str) -> T:
    """Return `value` if it is allowed; else raise `ConfigurationError`."""
    if value not in allowed:
        raise ConfigurationError(f"{setting} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value
