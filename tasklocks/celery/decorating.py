"""What every decorator of a limit does: checks the function, and puts a guard around it that Celery does not notice."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from celery import Task
from celery.local import Proxy

from tasklocks.celery.guard import run_limited
from tasklocks.celery.marks import LIMITS, Limit
from tasklocks.celery.work import Work
from tasklocks.errors import ConfigurationError

__all__ = ["check_runs_when_called", "decorating", "limited", "without_task"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def limited(function: Callable[P, R], spec: Limit, signature: inspect.Signature) -> Callable[P, R]:
    """Return `function`, run under `spec`; limits that it has already are taken after that one."""
    inner: Any = function
    limits = (spec, *getattr(function, LIMITS, ()))
    if hasattr(function, LIMITS):
        inner = inner.__wrapped__

    @functools.wraps(inner)
    def body(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = run_limited(body, Work(inner, args, kwargs, args), limits)
        return result

    # Celery reads it to check arguments when a task is sent; wraps alone does not carry it that far.
    body.__signature__ = signature  # type: ignore[attr-defined]  # a documented hook of inspect
    setattr(body, LIMITS, limits)
    return body


def decorating(
    decorator: str, make: Callable[[inspect.Signature, str], Limit]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the decorator of that name; `make` makes the limit from a function's signature and full name."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        where = _checked(function, decorator)
        signature = inspect.signature(function)
        return limited(function, make(signature, where), signature)

    return decorate


def _checked(function: Any, decorator: str) -> str:
    """Return the function's full name.

    Raises:
        ConfigurationError: it is not a plain function.
    """
    if isinstance(function, (Task, Proxy)):
        raise ConfigurationError(f"task {function.name}: put {decorator} below @app.task, next to the function")
    if not inspect.isroutine(function) or isinstance(function, (staticmethod, classmethod)):
        raise ConfigurationError(
            f"{decorator} goes on a function, below other decorators such as @staticmethod, not on {function!r}; "
            "for a class see LockedTask"
        )
    where = f"{function.__module__}.{function.__qualname__}"
    check_runs_when_called(function, where)
    return where


def check_runs_when_called(function: Callable[..., Any], where: str) -> None:
    """Raise `ConfigurationError` if a call of `function` only prepares its run: the lease would end before it."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{where}: an async function cannot be locked, it would run after its lease has ended")
    if inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"{where}: a generator cannot be locked, it would run after its lease has ended; lock what consumes it"
        )


def without_task(said: T) -> T:
    """Let a function that is given as an option see the call's arguments alone, with and without `bind=True`."""
    if not callable(said):
        return said
    function: Callable[..., Any] = said

    def of_arguments(*args: Any, **kwargs: Any) -> Any:
        return function(*(args[1:] if args and isinstance(args[0], Task) else args), **kwargs)

    return cast(T, of_arguments)
