"""What the app's code says of a limit: the tasks that have it. The backend knows holders and waiters, not the code."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

from celery import Celery

from tasklocks.celery.marks import Limit, limits_of

__all__ = ["limits_named"]


def limits_named(app: Celery | None, name: str) -> Iterator[tuple[str, Limit]]:
    """Yield the tasks that may have a limit of this name, and what they say of it.

    Names that a function makes are not found, and a template fits whatever its placeholders could become.
    """
    if app is None:
        return
    app.finalize()
    app.loader.import_default_modules()
    for task in app.tasks.values():
        for limit in limits_of(task):
            if limit.template and _fits(limit.template, name):
                yield task.name, limit


def _fits(template: str, name: str) -> bool:
    parts = string.Formatter().parse(template)
    pattern = "".join(re.escape(text) + ("" if field is None else ".*") for text, field, *_ in parts)
    return re.fullmatch(pattern, name, re.DOTALL) is not None
