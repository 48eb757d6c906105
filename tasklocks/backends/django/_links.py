"""The connections of one process to one database: a few, taken by who needs one for a step, and kept for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from tasklocks import clock
from tasklocks.backends.django._database import Target, in_test_run
from tasklocks.backends.django._errors import NoAnswer, StepError, told
from tasklocks.errors import BackendUnavailable

__all__ = ["Link", "Links"]

_MOST = 4  # A step takes about a millisecond, so that is enough for many threads; PostgreSQL allows a hundred in all.
_READY = "SELECT current_setting('default_transaction_isolation')"


class Link(Protocol):
    """A connection; see `_psycopg3.Link`."""

    def run(self, statements: Sequence[str], patience: float) -> list[str]:
        """Do the statements; return the texts that they answer."""

    def words(self) -> Iterator[str]:
        """Return what was said to it meanwhile."""

    def fileno(self) -> int:
        """Return the socket."""

    def broken(self) -> bool:
        """Whether the server has closed it."""

    def close(self) -> None:
        """Close it."""


class Links:
    """Connections for steps.

    Args:
        target: which database.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._free = threading.BoundedSemaphore(_MOST)
        self._idle: list[Link] = []
        self._open = True

    def run(self, statements: Sequence[str]) -> list[str]:
        """Do the statements as one transaction; return the texts that they answer."""
        with self.link() as ask:
            return ask(["BEGIN", *statements, "COMMIT"])

    @contextmanager
    def link(self) -> Iterator[Callable[[Sequence[str]], list[str]]]:
        """Have a connection for oneself; a transaction that is begun there has to be ended there.

        Raises:
            BackendUnavailable: there is none, or no answer.
        """
        deadline = clock.now() + self._target.timeout
        if not self._free.acquire(timeout=self._target.timeout):
            raise BackendUnavailable(f"{self._target.where}: all {_MOST} connections of this process wait for it")
        try:
            with _telling(self._target):
                link = self._idle_one() or self.connect()
                try:
                    yield lambda statements: link.run(statements, deadline - clock.now())
                except BaseException:
                    # Whatever struck, wherever: what the connection is in the middle of, nobody knows.
                    link.close()
                    raise
                self._keep(link)
        finally:
            self._free.release()

    def connect(self) -> Link:
        """Return a connection that nobody else has.

        Raises:
            StepError: there is none.
        """
        link = _connected(self._target)
        try:
            (level,) = link.run([_READY], self._target.timeout)
            if level != "read committed":
                link.run(["SET default_transaction_isolation = 'read committed'"], self._target.timeout)
        except BaseException:
            link.close()
            raise
        return link

    def close(self) -> None:
        """Close those that nobody uses now; the others follow when their steps end."""
        self._open = False
        while self._idle:
            self._idle.pop().close()

    def _idle_one(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.broken():
                return link
            link.close()
        return None

    def _keep(self, link: Link) -> None:
        if self._open and not in_test_run():
            self._idle.append(link)
        else:
            link.close()


def _connected(target: Target) -> Link:
    wrapper = target.wrapper()
    params = {"connect_timeout": max(1, round(target.timeout)), **wrapper.get_connection_params()}
    if wrapper.Database.__name__ == "psycopg":
        from tasklocks.backends.django import _psycopg3

        return _psycopg3.Link(params)
    from tasklocks.backends.django import _psycopg2

    return cast(Link, _psycopg2.Link({**params, "cursor_factory": None}))


@contextmanager
def _telling(target: Target) -> Iterator[None]:
    try:
        yield
    except (NoAnswer, StepError) as error:
        raise told(error, target) from error
