"""What a shell completes beside commands and options: names of limits, ids of tasks and holders, from the backend.

A shell that waits, or that says why it cannot complete, is worse than one that completes nothing. So this looks for a
moment only, and keeps quiet about whatever goes wrong.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click
from celery.app.utils import find_app

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.cli.access import Access
from tasklocks.overview import look, pages, rows
from tasklocks.who import read

__all__ = ["holders", "limit_names", "task_ids"]

_MOST = 100
_PATIENCE = 1.0  # seconds
# What is completed may be run by the next key. Names come from tasks' arguments: none that a shell would act upon.
_HARMLESS = re.compile(r"[\w.:/@%+=,-]+")

Words = Callable[[Backend, click.Context], Iterable[str]]
Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _completion(words: Words) -> Completion:
    @functools.wraps(words)
    def complete(context: click.Context, _: click.Parameter, beginning: str) -> list[str]:
        logging.getLogger("tasklocks").addHandler(logging.NullHandler())
        try:
            found = _soon(words(_backend(context), context))
            fits = (word for word in found if word.startswith(beginning) and _HARMLESS.fullmatch(word))
            return sorted(set(itertools.islice(fits, _MOST)))
        except Exception:  # noqa: BLE001 - see above
            return []

    return complete


@_completion
def limit_names(backend: Backend, _: click.Context) -> Iterable[str]:
    """Complete the name of a limit."""
    return (row.name for row in rows(backend, idle=True))


@_completion
def task_ids(backend: Backend, _: click.Context) -> Iterable[str]:
    """Complete the id of a task that holds or waits."""
    for state in (state for page in pages(backend) for state in page.limits):
        infos = [*(each.info for each in state.holders), *(each.info for each in state.waiters)]
        yield from (read(info).get("id", "") for info in infos)


@_completion
def holders(backend: Backend, context: click.Context) -> Iterable[str]:
    """Complete a holder of the limit that was named before."""
    # An option that has no value yet keeps click from telling what is what.
    name = context.params.get("name") or next(iter(context.args), "")
    limit = look(backend, name)
    return (each.who.id or each.owner for each in (limit.holders if limit else ()))


def _soon(words: Iterable[str]) -> Iterator[str]:
    ends = clock.now() + _PATIENCE
    return itertools.takewhile(lambda _: clock.now() < ends, words)


def _backend(context: click.Context) -> Backend:
    """Return the backend as the options before say; while a shell completes, no command is run that would know it."""
    said: dict[str, Any] = context.find_root().params
    app = said.get("app")
    return Access(find_app(app) if isinstance(app, str) else app, said.get("url"), said.get("prefix")).backend()
