"""`doctor`: is the backend as locks need it? Tries it all and says what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tasklocks.backends import Backend
from tasklocks.cli.access import UNREACHABLE, Failed, command
from tasklocks.cli.checks import Check, checks
from tasklocks.cli.output import say, say_json

__all__ = ["doctor"]


class _Kept(logging.Handler):
    """Keeps our own warnings; those of clients are about connections, which the checks try anyway."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "tasklocks":
            self.said.append(record.getMessage())


@command
def doctor(backend: Backend, as_json: bool) -> None:
    """Try the backend: reach it, take, renew, release and lose a lease, wake a waiter, compare clocks."""
    with _warnings() as warned:
        found = []
        for check in checks(backend):
            found.append(check)
            if not as_json:
                _say(check)
    found += [Check("warning", False, text) for text in warned.said]
    if as_json:
        say_json({"ok": all(check.ok for check in found), "checks": found})
    else:
        for check in found[len(found) - len(warned.said) :]:
            _say(check)
    _end(found)


def _say(check: Check) -> None:
    say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}  {check.found}")
    if check.advice:
        say(f"      {'':<16}  → {check.advice}")


def _end(found: list[Check]) -> None:
    failed = [check.name for check in found if not check.ok]
    if "answers" in failed:
        raise Failed("the backend does not answer", UNREACHABLE)
    if failed:
        raise Failed(f"not as it should be: {', '.join(failed)}")


@contextmanager
def _warnings() -> Iterator[_Kept]:
    """Keep what the library warns of meanwhile, such as a server that evicts keys."""
    logger, kept = logging.getLogger("tasklocks"), _Kept()
    logger.addHandler(kept)
    before, logger.propagate = logger.propagate, False
    try:
        yield kept
    finally:
        logger.propagate = before
        logger.removeHandler(kept)
