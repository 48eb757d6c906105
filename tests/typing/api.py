"""The public API as a type checker sees it; checked by `mypy --strict` in tests/test_typing.py, never run.

Decorated functions keep their types: a wrong call is found before it is sent. Each `type: ignore` below is a mistake
that must be found: strict mode complains of an ignore that nothing needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import tenacity
from typing_extensions import assert_type

from tasklocks import (
    BackendUnavailable,
    ConfigurationError,
    Lease,
    LeaseLost,
    Lock,
    LockBusy,
    LockedTask,
    LockTimeout,
    Semaphore,
    TaskLocksError,
    connect,
    current_lease,
    locked,
    pause,
    rate_limited,
    resume,
)
from tasklocks.backends import Backend


@locked("report-{day}")
def report(day: str, pages: int = 1, *, paper: str = "A4") -> list[str]:
    return [day, paper] * pages


assert_type(report("monday"), list[str])
assert_type(report("monday", 2, paper="A3"), list[str])
report(7)  # type: ignore[arg-type]
report()  # type: ignore[call-arg]
report("monday", nights=2)  # type: ignore[call-arg]


@locked("outer")
@locked(lambda day: f"inner-{day}", 3, permits=2)
def stacked(day: str) -> int:
    return len(day)


assert_type(stacked("monday"), int)
as_callback: Callable[[str], int] = stacked


@rate_limited("partner-{customer}", ["10/s", "1000/h"], burst=5, cost=lambda customer, points=1: points)
@locked("customer-{customer}")
def call_partner(customer: str, points: int = 1) -> bool:
    if (lease := current_lease()) is not None:
        lease.pause(timedelta(seconds=30))
        lease.pause(1.5, "partner")
        lease.pause(name="partner", until=datetime.now(timezone.utc))
        lease.pause("120")
    return bool(customer)


assert_type(call_partner("a", 2), bool)
call_partner(7)  # type: ignore[arg-type]
pause("partner", until=datetime.now(timezone.utc))
resume("partner", backend="memory://")
pause("partner", until=5.0)  # type: ignore[arg-type]
rate_limited("partner", 5)  # type: ignore[arg-type]
rate_limited("partner", "5/s", on_busy="sleep")  # type: ignore[arg-type]
rate_limited("partner", lambda: "5/s", on_backend_error="run", algorithm="fixed", timezone="UTC")


class Shop:
    @locked("shop-{self}")
    def open(self, day: str) -> bool:
        return bool(day)

    @staticmethod
    @locked("static")
    def clean(day: str) -> bytes:
        return day.encode()

    @classmethod
    @locked("class")
    def count(cls, day: str) -> float:
        return len(day) / 2


assert_type(Shop().open("monday"), bool)
assert_type(Shop.clean("monday"), bytes)
assert_type(Shop.count("monday"), float)
Shop().open(7)  # type: ignore[arg-type]


def permits_now() -> int:
    return 3


@locked(
    "every-option",
    permits_now,
    permits=2,
    ttl=timedelta(seconds=30),
    countdown=tenacity.wait_exponential(multiplier=0.1) + tenacity.wait_random(0, 1),
    max_wait=60,
    on_busy="wait",
    max_hold=600.0,
    at_least=1,
    reentrant=True,
    on_lost="flag",
    on_backend_error="raise",
    backend="redis://localhost/0",
)
def every_option() -> None: ...


@locked("a function says when", countdown=lambda state: state.attempt_number * 0.5, backend=connect("memory://"))
def asked() -> None: ...


locked("report", on_busy="later")  # type: ignore[arg-type]
locked("report", on_lost="ignore")  # type: ignore[arg-type]
locked("report", ttl="30")  # type: ignore[arg-type]
locked("report", capacity="3")  # type: ignore[arg-type]
locked("report", time_to_live=3)  # type: ignore[call-arg]
locked(7)  # type: ignore[arg-type]
locked()  # type: ignore[call-arg]


class ImportData(LockedTask):
    name = "import-data"
    lock_name = "import-{url}"
    lock_capacity = 2
    lock_permits = 1
    lock_ttl = timedelta(seconds=10)
    lock_countdown = 0.5
    lock_max_wait = 60
    retry_on_lock = False

    def locked_run(self, url: str) -> int:
        assert_type(self.lease, Lease | None)
        return len(url)


class PerAccount(LockedTask):
    def lock_name(self, account: int) -> str:
        return f"account-{account}"


class WrongAttribute(LockedTask):
    lock_ttl = "30"  # type: ignore[assignment]


def without_celery(backend: Backend) -> None:
    lock = Lock("report", ttl=timedelta(seconds=5), backend="memory://")
    semaphore = Semaphore("report", 3, permits=2, ttl=5, backend=backend)
    Semaphore("report", permits_now)
    assert_type(connect(), Backend)
    assert_type(connect("memory://", prefix="shop", options={"timeout": 3}), Backend)
    with lock as lease:
        assert_type(lease, Lease)
    with semaphore.acquire(blocking=True, timeout=timedelta(seconds=1)) as second:
        assert_type(second, Lease)
        assert_type(second.name, str)
        assert_type(second.owner, str)
        assert_type(second.fencing_token, int)
        assert_type(second.expires_in(), float)
        assert_type(second.lost, bool)
        assert_type(second.release(), bool)
        second.check()
        second.renew()
    assert_type(current_lease(), Lease | None)
    Lock("report", 3)  # type: ignore[call-arg]
    Lock(7)  # type: ignore[arg-type]
    lock.acquire(timeout="1")  # type: ignore[arg-type]
    lock.acquire(True)  # type: ignore[call-arg]
    lease.fencing_token = 7  # type: ignore[misc]


def answers() -> Any:
    try:
        return Lock("report").acquire(blocking=False)
    except LockTimeout as error:
        assert_type(error.name, str)
    except LockBusy as error:
        return error.busy.holders if error.busy else ()
    except LeaseLost as error:
        return error.name
    except (BackendUnavailable, ConfigurationError) as error:
        errors: list[TaskLocksError] = [error]
        return errors
