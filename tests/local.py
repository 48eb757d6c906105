"""Celery apps of one test, without a worker: their tasks run where they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, Task, _state
from celery.app.trace import build_tracer

__all__ = ["as_in_a_worker", "keep_apart", "local_app", "register"]


def local_app(patch: pytest.MonkeyPatch, url: str, **conf: Any) -> Celery:
    """Return an app that is current for this test and needs no server."""
    keep_apart(patch)
    app = Celery("local", set_as_current=False, broker="memory://", backend="cache+memory://")
    app.conf.update(tasklocks_url=url, **conf)
    patch.setattr(_state._tls, "current_app", app)
    return app


def keep_apart(patch: pytest.MonkeyPatch) -> None:
    """Keep the tasks that modules share with every app out of this test's apps, and this test's out of theirs."""
    celerys = {each for each in _state._on_app_finalizers if each.__module__ == "celery.app.builtins"}
    patch.setattr(_state, "_on_app_finalizers", celerys)


def register(app: Celery, function: Callable[..., Any], **options: Any) -> Task:
    """Make a task, of this app only and at once; Celery would make it when it is first used."""
    task = app.task(function, shared=False, **options)
    app.finalize()
    return app.tasks[task.name]


def as_in_a_worker(app: Celery, task: Task, *args: Any) -> Any:
    """Run a task here by what a worker's process runs it with; an error is returned."""
    request = {"id": f"id-of-{task.name}", "delivery_info": {}, "is_eager": False}
    answer = build_tracer(task.name, task, app=app)(request["id"], args, {}, request).retval
    return answer.exception if isinstance(answer, ExceptionInfo) else answer
