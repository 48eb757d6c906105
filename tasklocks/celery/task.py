"""`LockedTask`: a task class whose runs hold a lease, for class-based tasks and as `base=` of `@app.task`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from celery import Celery, Task
from celery.utils.functional import head_from_fun

from tasklocks.backoff import Countdown
from tasklocks.celery.decorating import check_runs_when_called, limited, without_task
from tasklocks.celery.guard import run_limited
from tasklocks.celery.marks import LIMITS, Limit
from tasklocks.celery.spec import LockOptions, make_spec
from tasklocks.celery.work import Work
from tasklocks.current import current_lease
from tasklocks.durations import Duration
from tasklocks.errors import ConfigurationError
from tasklocks.leases import Lease
from tasklocks.semaphore import Capacity

__all__ = ["LockedTask"]


class LockedTask(Task):
    """A task that runs only with a lease on its limit.

    As a class, with `locked_run` instead of `run`::

        class ImportData(LockedTask):
            name = "import-data"
            lock_name = "import-{source}"

            def locked_run(self, source): ...

        app.register_task(ImportData())

    or as the base of a function's task::

        @app.task(base=LockedTask, lock_name="import-{source}")
        def import_data(source): ...

    Attributes:
        lock_name: the limit; a format string over the task's parameters, or a method that gets the call's arguments.
        lock_capacity: how many permits there are.
        lock_permits: how many of them one run takes.
        lock_ttl: seconds after which the permits of a worker that died come free; None: the app's.
        lock_countdown: seconds until a busy task is tried again; None: the app's.
        lock_max_wait: seconds after which a waiting task fails with `LockTimeout`; None: never in a worker.
        retry_on_lock: False: a run that finds the limit busy is skipped.

    Raises:
        ConfigurationError: when the task is bound to its app, if an attribute cannot work.
    """

    lock_name: str | Callable[..., str] = ""
    lock_capacity: Capacity = 1
    lock_permits: int = 1
    lock_ttl: Duration | None = None
    lock_countdown: Countdown | None = None
    lock_max_wait: Duration | None = None
    retry_on_lock: bool = True

    __tasklocks__: ClassVar[tuple[Limit, ...]] = ()

    @property
    def lease(self) -> Lease | None:
        """The lease under which this task runs; None outside a run."""
        return current_lease()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Take the lease and call `locked_run`."""
        limits = vars(type(self)).get(LIMITS)
        if limits is None:
            # Never those of a parent class: they lock something else.
            raise ConfigurationError(f"task {self.name}: register it first: app.register_task({type(self).__name__}())")
        return run_limited(LockedTask.run, Work(self.locked_run, args, kwargs, (self, *args)), limits)

    def locked_run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the task's work; to be defined by each class."""
        raise NotImplementedError(f"task {self.name}: define locked_run")

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Check the attributes and put the limit in front of the body (called by Celery)."""
        super().on_bound(app)
        if not _is_function_task(cls):
            _guard_class(cls)
        elif LIMITS not in vars(cls):
            # Celery binds a task twice, when it makes it and when the app is finalized: one limit is enough.
            _guard_function(cls, app)


def _is_function_task(cls: type[LockedTask]) -> bool:
    return "__header__" in vars(cls) and cls.run is not LockedTask.run


def _guard_function(cls: type[LockedTask], app: Celery) -> None:
    """Put the limit around the function that `@app.task` was given."""
    given = vars(cls)["run"]
    function = given.__func__ if isinstance(given, staticmethod) else given
    check_runs_when_called(function, _where(cls))
    signature = inspect.signature(function)
    spec = make_spec(_function_name(cls, app), _options(cls), signature, _where(cls))
    guarded = limited(function, spec, signature)
    setattr(cls, "run", staticmethod(guarded) if isinstance(given, staticmethod) else guarded)  # noqa: B010 - not a method
    setattr(cls, LIMITS, getattr(guarded, LIMITS))


def _guard_class(cls: type[LockedTask]) -> None:
    """Make the limit from the class's attributes."""
    if cls.run is not LockedTask.run:
        raise ConfigurationError(f"{_where(cls)}: define locked_run, not run: run takes the lease and calls it")
    check_runs_when_called(cls.locked_run, _where(cls))
    spec = make_spec(_required_name(cls), _options(cls), inspect.signature(cls.locked_run), _where(cls))
    setattr(cls, LIMITS, (spec,))
    cls.__header__ = staticmethod(head_from_fun(cls.locked_run, bound=True))


def _function_name(cls: type[LockedTask], app: Celery) -> str | Callable[..., str]:
    """Return the name for a function's task: a function given as option, or a method of its base class."""
    name = _required_name(cls)
    if not callable(name):
        return name
    if "lock_name" in vars(cls):
        return without_task(name)
    method = name
    return without_task(lambda *args, **kwargs: method(app.tasks[cls.name], *args, **kwargs))


def _required_name(cls: type[LockedTask]) -> str | Callable[..., str]:
    if not cls.lock_name:
        raise ConfigurationError(f"{_where(cls)}: a LockedTask needs lock_name")
    return cls.lock_name


def _where(cls: type[LockedTask]) -> str:
    # Celery makes a name only after it has bound the class.
    return f"task {cls.name or f'{cls.__module__}.{cls.__qualname__}'}"


def _options(cls: type[LockedTask]) -> LockOptions:
    return LockOptions(
        capacity=cls.lock_capacity,
        permits=cls.lock_permits,
        ttl=cls.lock_ttl,
        countdown=cls.lock_countdown,
        max_wait=cls.lock_max_wait,
        on_busy="retry" if cls.retry_on_lock else "skip",
    )
