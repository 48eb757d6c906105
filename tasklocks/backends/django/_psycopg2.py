"""One connection to PostgreSQL through psycopg2, for projects that have that: as `_psycopg3`, a statement at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import extensions

from tasklocks import clock
from tasklocks.backends.django._errors import GONE, NoAnswer, StepError
from tasklocks.backends.django._polling import IN, OUT, polled

__all__ = ["Link"]


class Link:
    """A connection; see `_psycopg3.Link`."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        patience = float(params.get("connect_timeout") or 5)
        try:
            # psycopg2 waits without bound; only an asynchronous connection leaves the waiting to us.
            self._connection = psycopg2.connect(**params, async_=True)
            self._finish(clock.now() + patience)
        except psycopg2.Error as error:
            raise StepError(str(error), error.pgcode or "") from error
        except NoAnswer as error:
            raise StepError(str(error), "") from error

    def run(self, statements: Sequence[str], patience: float) -> list[str]:
        """Do the statements, one after another; return the texts that they answer."""
        deadline = clock.now() + patience
        cursor = self._connection.cursor()
        try:
            return [text for statement in statements if (text := self._done(cursor, statement, deadline))]
        except psycopg2.Error as error:
            if not error.pgcode or error.pgcode.startswith(GONE):
                raise NoAnswer(str(error)) from error
            raise StepError(str(error), error.pgcode) from error

    def words(self) -> Iterator[str]:
        """Return what was said to this connection meanwhile."""
        try:
            self._connection.poll()
        except psycopg2.Error as error:
            raise NoAnswer(str(error)) from error
        while self._connection.notifies:
            yield self._connection.notifies.pop(0).payload

    def fileno(self) -> int:
        """Return the socket, to wait for words at."""
        return int(self._connection.fileno())

    def broken(self) -> bool:
        """Whether the server has closed it."""
        return bool(self._connection.closed) or bool(polled({self.fileno(): IN}, 0.0))

    def close(self) -> None:
        """Close it, whatever is going on there."""
        self._connection.close()

    def _done(self, cursor: Any, statement: str, deadline: float) -> str:
        cursor.execute(statement)
        self._finish(deadline)
        row = cursor.fetchone() if cursor.description else None
        return row[0] or "" if row else ""

    def _finish(self, deadline: float) -> None:
        events = {extensions.POLL_READ: IN, extensions.POLL_WRITE: OUT}
        while (state := self._connection.poll()) != extensions.POLL_OK:
            if not polled({self.fileno(): events[state]}, deadline - clock.now()):
                raise NoAnswer("timed out")
