"""`tasklocks` on the command line, and the same as `celery -A proj limits`: see limits, and steer them.

Exit codes: 0 done; 1 no such limit, holder or task, or a check failed; 2 the command, a setting or a URL cannot work;
3 the backend does not answer. See `docs/cli.md`.
"""

from __future__ import annotations

import click
from celery.app.utils import find_app
from click.shell_completion import get_completion_class

from tasklocks.celery import control as _control  # noqa: F401 - `celery inspect` knows its commands by their import
from tasklocks.cli.access import WRONG, Access, Failed, grant_access
from tasklocks.cli.acting import pause, release, resize, resume
from tasklocks.cli.bench import bench
from tasklocks.cli.doctor import doctor
from tasklocks.cli.listing import ls, show, why
from tasklocks.cli.serving import web
from tasklocks.cli.watching import watch

__all__ = ["limits", "main"]

_COMMANDS = (ls, show, why, release, resize, pause, resume, watch, web, doctor, bench)


@click.group()
@click.option("-A", "--app", help="The Celery app whose settings are used, as for `celery -A`.")
@click.option("--url", help="The backend; better in TASKLOCKS_URL, for everybody on this host sees a command line.")
@click.option("--prefix", help="What all keys start with; the app's, or `tasklocks`.")
@click.version_option(package_name="tasklocks")
@click.pass_context
def main(context: click.Context, app: str | None, url: str | None, prefix: str | None) -> None:
    """See and steer distributed locks and rate limits."""
    try:
        found = find_app(app) if app else None
    except (ImportError, AttributeError) as error:
        raise Failed(f"the app {app!r} cannot be imported: {error}", WRONG) from error
    grant_access(context, Access(found, url, prefix))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete `tasklocks` commands."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - one of click's own, for the type checker
    click.echo(kind(main, {}, "tasklocks", "_TASKLOCKS_COMPLETE").source())


@click.group()
@click.pass_context
def limits(context: click.Context) -> None:
    """See and steer distributed locks and rate limits, with the app's settings."""
    grant_access(context, Access(context.obj.app))


for _each in _COMMANDS:
    main.add_command(_each)
    limits.add_command(_each)
