"""From the command line to a backend, and from errors to exit codes.

| code | means |
|---|---|
| 0 | done |
| 1 | there is no such limit, holder or task, a check failed, or the answer was no |
| 2 | the command, a setting or a URL cannot work, or the backend refuses the user |
| 3 | the backend does not answer |
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from celery import Celery

from tasklocks import BackendUnavailable, ConfigurationError, connect
from tasklocks.backends import DEFAULT_PREFIX, DEFAULT_URL, Backend
from tasklocks.celery.conf import settings_of

__all__ = ["Access", "Failed", "app_of", "command", "grant_access"]

NOT_FOUND, WRONG, UNREACHABLE = 1, 2, 3

_META = "tasklocks.access"


class Failed(click.ClickException):
    """The command ends with this message and exit code."""

    def __init__(self, message: str, code: int = NOT_FOUND) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = code  # click declares it for the class


@dataclass(frozen=True, slots=True)
class Access:
    """How the commands reach their backend.

    Attributes:
        app: the app whose settings are used; None: url and prefix are.
        url: the backend's.
        prefix: what its keys start with.
    """

    app: Celery | None = None
    url: str | None = None
    prefix: str | None = None

    def backend(self) -> Backend:
        """Return the backend; nothing is contacted yet.

        Raises:
            ConfigurationError: nobody says which one, or it cannot work.
        """
        settings = settings_of(self.app)
        url = self.url or settings.url or os.environ.get("TASKLOCKS_URL")
        if url is None and not Path(DEFAULT_URL.partition("///")[2]).exists():
            raise ConfigurationError("which backend? Give -A with your app, --url, or TASKLOCKS_URL in the environment")
        options = settings.options if self.url is None else None
        return connect(url, prefix=self.prefix or settings.prefix or DEFAULT_PREFIX, options=options)


def grant_access(context: click.Context, access: Access) -> None:
    """Let the commands of a group use this access."""
    context.meta[_META] = access


def app_of(context: click.Context) -> Celery | None:
    """Return the app whose settings are used; None: there is none, only a URL."""
    access: Access = context.meta[_META]
    return access.app


def command(function: Callable[..., None]) -> click.Command:
    """Make a command of a function of a backend; it can answer in JSON, and its errors become exit codes."""

    @functools.wraps(function)
    def run(context: click.Context, /, **options: Any) -> None:
        try:
            function(context.meta[_META].backend(), **options)
        except ConfigurationError as error:
            raise Failed(str(error), WRONG) from error
        except BackendUnavailable as error:
            raise Failed(str(error), UNREACHABLE) from error

    as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    return click.command(function.__name__)(as_json(click.pass_context(run)))
