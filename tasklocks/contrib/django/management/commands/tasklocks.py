"""`manage.py tasklocks`: what the command line `tasklocks` offers, with the project's settings."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError

from tasklocks.cli import limits
from tasklocks.contrib.django.project import celery_app

__all__ = ["Command"]


class Command(BaseCommand):
    """Hands its arguments on."""

    help = (
        "See and steer distributed locks and rate limits: ls, show, why, release, resize, pause, resume, watch, web, "
        "doctor, bench."
    )
    # What is wrong with a setting is told by the command itself.
    requires_system_checks: Sequence[str] = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take all that follows."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="such as: ls, or: show NAME")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it as a program, with the exit codes of `tasklocks`; every argument is for the command."""
        limits.main(argv[2:], prog_name=f"{argv[0].rpartition('/')[2]} {argv[1]}", obj=_Context())

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it for `call_command`; what goes wrong is a `CommandError`."""
        with contextlib.redirect_stdout(options.get("stdout") or sys.stdout):
            code = _called(options["arguments"])
        if code:
            raise CommandError(f"tasklocks ended with exit code {code}", returncode=code)


class _Context:
    """What Celery's own commands find in their context."""

    @property
    def app(self) -> Any:
        return celery_app()


def _called(arguments: list[str]) -> int:
    try:
        return int(limits.main(arguments, prog_name="tasklocks", obj=_Context(), standalone_mode=False) or 0)
    except click.ClickException as error:
        raise CommandError(error.format_message(), returncode=error.exit_code) from error
