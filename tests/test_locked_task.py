"""`LockedTask`: a class whose runs hold a lease, by its attributes, and a base for functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, Task, shared_task

from tasklocks import (
    ConfigurationError,
    LeaseLost,
    Lock,
    LockBusy,
    LockedTask,
    Semaphore,
    connect,
    current_lease,
    locked,
)
from tasklocks.backends import Backend
from tasklocks.celery.marks import limits_of
from tests.local import local_app, register


@pytest.fixture
def app(new_backend_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app that needs no worker."""
    return local_app(monkeypatch, new_backend_url("memory"))


@pytest.fixture
def backend(app: Celery) -> Backend:
    """Where the app's limits are."""
    return connect(app.conf.tasklocks_url)


def made(app: Celery, **attributes: Any) -> LockedTask:
    """Register a class with these attributes."""
    complete = {"name": "import-data", "lock_name": "import-data", "locked_run": lease_of, **attributes}
    return app.register_task(type("ImportData", (LockedTask,), complete)())


def lease_of(self: LockedTask, url: str = "", *, full: bool = False) -> Any:
    """A body that answers with its lease."""
    assert self.lease is current_lease()
    return self.lease


def test_a_run_holds_the_limit_and_frees_it(app, backend):
    seen = []

    class ImportData(LockedTask):
        """Import a page."""

        name = "import-data"
        lock_name = "import-data"

        def locked_run(self, url: str) -> str:
            seen.append([holder.fencing_token for holder in backend.inspect("import-data").holders])
            return f"{url} under {self.lease.name}"

    task = app.register_task(ImportData())
    assert task("a page") == "a page under import-data"
    assert task.apply(("a page",)).get() == "a page under import-data"
    assert task.lease is None
    assert backend.inspect("import-data").holders == ()
    assert [len(tokens) for tokens in seen] == [1, 1]
    assert seen[0] < seen[1]


def test_every_attribute_reaches_the_lease(app, backend):
    task = made(app, lock_name="import-{url}", lock_capacity=5, lock_permits=3, lock_ttl=timedelta(seconds=7))
    lease = task("a")
    assert (lease.name, lease.permits, lease.grant.ttl) == ("import-a", 3, 7.0)
    assert backend.inspect("import-a").capacity == 5
    (spec,) = limits_of(task)
    assert (spec.countdown, spec.max_wait, spec.on_busy) == (None, None, "retry")


def test_every_attribute_has_the_meaning_of_its_option(app):
    task = made(app, lock_countdown=timedelta(seconds=3), lock_max_wait=60, retry_on_lock=False)
    (spec,) = limits_of(task)
    assert (spec.countdown, spec.max_wait, spec.on_busy) == (3.0, 60.0, "skip")


def test_a_capacity_may_be_a_function(app, backend):
    capacity = [1]
    task = made(app, lock_capacity=lambda: capacity[0])
    lease = Lock("import-data", backend=backend).acquire()
    with pytest.raises(LockBusy):
        task()
    capacity[0] = 2
    task()
    lease.release()


def test_the_name_may_be_a_method_of_the_task(app):
    task = made(app, lock_name=lambda self, url="", full=False: f"{self.name}:{url}:{full}")
    assert task("a").name == "import-data:a:False"
    assert task("a", full=True).name == "import-data:a:True"


def test_a_method_of_the_base_names_the_limit_of_a_functions_task(app):
    class PerAccount(LockedTask):
        def lock_name(self, account: int) -> str:
            return f"{self.name}-{account}"

    def pay(account: int) -> str:
        return current_lease().name

    def pay_bound(self: Task, account: int) -> str:
        return current_lease().name

    assert register(app, pay, base=PerAccount, name="pay")(7) == "pay-7"
    assert register(app, pay_bound, base=PerAccount, name="bound", bind=True)(8) == "bound-8"


def test_a_busy_limit_fails_or_is_skipped_as_retry_on_lock_says(app, backend):
    lease = Lock("import-data", backend=backend).acquire()
    with pytest.raises(LockBusy, match=r"task import-data: limit 'import-data'"):
        made(app)("a")
    skipping = made(app, name="skipping", retry_on_lock=False)
    assert skipping("a") is None
    assert skipping.apply().get() is None
    lease.release()


def test_arguments_are_checked_against_locked_run_when_a_task_is_sent(app):
    task = made(app)
    for wrong in ((("a", "b"), {}), ((), {"uri": "a"})):
        with pytest.raises(TypeError, match="argument"):
            task.apply_async(*wrong)
        with pytest.raises(TypeError, match="argument"):
            task(*wrong[0], **wrong[1])


def test_arguments_of_a_functions_task_are_checked_too(app):
    def pay(account: int) -> None: ...

    task = register(app, pay, base=LockedTask, name="pay", lock_name="pay-{account}")
    with pytest.raises(TypeError, match="account"):
        task.apply_async(())


@pytest.mark.parametrize("bind", [False, True])
def test_it_is_a_base_for_functions_and_takes_the_limit_once(app, backend, bind):
    def plain(url: str) -> Any:
        return current_lease(), len(backend.inspect(f"import-{url}").holders)

    def bound(self: LockedTask, url: str) -> Any:
        return self.lease, len(backend.inspect(f"import-{url}").holders)

    options = {"base": LockedTask, "lock_name": "import-{url}", "lock_capacity": 3, "lock_ttl": 9, "bind": bind}
    task = register(app, bound if bind else plain, name="import", **options)
    for call in (task, lambda url: task.apply((url,)).get(), task):
        lease, holders = call("a")
        assert (lease.name, lease.grant.ttl, holders) == ("import-a", 9.0, 1)
    assert len(limits_of(task)) == 1
    app.finalize()
    assert len(limits_of(task)) == 1


def test_a_functions_task_may_have_more_limits(app):
    @locked("below")
    def body() -> str:
        return current_lease().name

    task = register(app, body, base=LockedTask, name="both", lock_name="above")
    assert task() == "below"
    assert [spec.key((), {}) for spec in limits_of(task)] == ["above", "below"]


def test_a_shared_task_may_have_it_as_its_base(app):
    @shared_task(base=LockedTask, name="shared-import", lock_name="shared-{url}")
    def shared(url: str) -> str:
        return current_lease().name

    app.finalize()
    assert app.tasks["shared-import"]("a") == "shared-a"
    assert shared("b") == "shared-b"


def test_an_abstract_base_gives_its_attributes_to_many_tasks(app):
    class Careful(LockedTask):
        abstract = True
        lock_capacity = 4
        lock_ttl = 5

    class ImportData(Careful):
        name = "import-data"
        lock_name = "import-data"
        locked_run = lease_of

    def export() -> Any:
        return current_lease()

    of_class = app.register_task(ImportData())()
    of_function = register(app, export, base=Careful, name="export", lock_name="export", lock_ttl=6)()
    assert (of_class.name, of_class.grant.ttl) == ("import-data", 5.0)
    assert (of_function.name, of_function.grant.ttl) == ("export", 6.0)
    assert [spec.capacity for task in app.tasks.values() for spec in limits_of(task)] == [4, 4]


def test_a_subclass_has_a_limit_of_its_own(app):
    parent = made(app)
    child_class = type("Child", (type(parent),), {"name": "child", "lock_name": "child"})
    child = app.register_task(child_class())
    assert child().name == "child"
    assert parent().name == "import-data"


def test_a_subclass_that_is_not_registered_does_not_run_under_its_parents_lock(app):
    parent = made(app)
    child = type("Child", (type(parent),), {"name": "child", "lock_name": "child"})()
    with pytest.raises(ConfigurationError, match=r"task child: register it first: app\.register_task\(Child\(\)\)"):
        child.run()
    with pytest.raises(ConfigurationError, match=r"register it first"):
        type("Alone", (LockedTask,), {"name": "alone", "lock_name": "alone", "locked_run": lease_of})().run()


def test_each_app_registers_the_class_for_itself(app, new_backend_url):
    class ImportData(LockedTask):
        name = "import-data"
        lock_name = "import-data"
        locked_run = lease_of

    other = Celery("other", set_as_current=False)
    other.conf.tasklocks_url = new_backend_url("memory")
    first, second = app.register_task(ImportData()), other.register_task(ImportData())
    assert second().name == first().name == "import-data"


def test_run_is_not_to_be_overridden(app):
    with pytest.raises(ConfigurationError, match="task import-data: define locked_run, not run"):
        made(app, run=lambda self: None)


def test_a_class_without_a_body_says_what_to_define(app, backend):
    task = app.register_task(type("Empty", (LockedTask,), {"name": "empty", "lock_name": "empty"})())
    with pytest.raises(NotImplementedError, match="task empty: define locked_run"):
        task()
    assert backend.inspect("empty").holders == ()


async def coroutine(self: LockedTask) -> None: ...


def generator(self: LockedTask) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("body", [coroutine, generator])
def test_a_body_that_would_run_after_its_lease_is_refused(app, body):
    with pytest.raises(ConfigurationError, match=r"task import-data: .* cannot be locked"):
        made(app, locked_run=body)
    with pytest.raises(ConfigurationError, match=r"task other: .* cannot be locked"):
        register(app, body, base=LockedTask, name="other", lock_name="other", bind=True)


def test_a_lost_lease_is_known_to_the_task(app, backend, caplog):
    def body(self: LockedTask) -> str:
        backend.force_release("import-data")
        with pytest.raises(LeaseLost, match="taken away"):
            self.lease.renew()
        return "lost" if self.lease.lost else "held"

    assert made(app, locked_run=body)() == "lost"
    assert "is lost: " in caplog.text


def test_a_task_that_calls_itself_through_another_permit_works(app, backend):
    def body(self: LockedTask, depth: int) -> int:
        return 1 + self(depth - 1) if depth else len(backend.inspect("import-data").holders)

    assert made(app, locked_run=body, lock_capacity=3)(2) == 5
    with pytest.raises(LockBusy, match="very caller"):
        made(app, name="deeper", locked_run=body, lock_capacity=3)(3)
    assert backend.inspect("import-data").holders == ()


def test_the_limit_is_the_same_as_that_of_a_semaphore_of_this_name(app, backend):
    task = made(app, lock_capacity=2)
    first = Semaphore("import-data", 2, backend=backend).acquire()
    assert task("a").fencing_token > first.fencing_token
    second = Semaphore("import-data", 2, backend=backend).acquire()
    with pytest.raises(LockBusy):
        task("a")
    first.release()
    second.release()
