"""One connection to PostgreSQL through psycopg 3, used the way libpq is: send, wait for so long, read.

Below psycopg's cursors, for two reasons: several statements travel in one message, and no wait is without bound, be
the server frozen or the network cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq

from tasklocks import clock
from tasklocks.backends.django._errors import GONE, NoAnswer, StepError
from tasklocks.backends.django._polling import IN, OUT, polled

__all__ = ["Link"]

_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Link:
    """A connection.

    Args:
        params: as Django gives them to psycopg.

    Raises:
        StepError: there is none.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        try:
            self._connection = psycopg.connect(**params, autocommit=True)
        except psycopg.Error as error:
            raise StepError(str(error), error.sqlstate or "") from error
        self._pg = self._connection.pgconn

    def run(self, statements: Sequence[str], patience: float) -> list[str]:
        """Do all the statements in one round trip; return the texts that they answer.

        Raises:
            NoAnswer: none came within `patience` seconds, or the connection broke.
            StepError: the server refused.
        """
        deadline = clock.now() + patience
        try:
            self._pg.send_query(";\n".join(statements).encode())
            while self._pg.flush():
                self._wait(IN | OUT, deadline)
                self._pg.consume_input()
            return [text for result in self._results(deadline) if (text := _text(result))]
        except psycopg.OperationalError as error:
            raise NoAnswer(str(error)) from error

    def words(self) -> Iterator[str]:
        """Return what was said to this connection meanwhile.

        Raises:
            NoAnswer: the connection broke.
        """
        try:
            self._pg.consume_input()
        except psycopg.OperationalError as error:
            raise NoAnswer(str(error)) from error
        while (word := self._pg.notifies()) is not None:
            yield word.extra.decode()

    def fileno(self) -> int:
        """Return the socket, to wait for words at."""
        return self._pg.socket

    def broken(self) -> bool:
        """Whether the server has closed it: an idle connection has nothing else to say."""
        return bool(polled({self._pg.socket: IN}, 0.0))

    def close(self) -> None:
        """Close it, whatever is going on there."""
        self._connection.close()

    def _results(self, deadline: float) -> Iterator[pq.abc.PGresult]:
        while True:
            while self._pg.is_busy():
                self._wait(IN, deadline)
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:
                return
            if result.status not in _GOOD:
                raise _refused(result)
            yield result

    def _wait(self, events: int, deadline: float) -> None:
        if not polled({self._pg.socket: events}, deadline - clock.now()):
            raise NoAnswer("timed out")


def _text(result: pq.abc.PGresult) -> str:
    return (result.get_value(0, 0) or b"").decode() if result.ntuples and result.nfields else ""


def _refused(result: pq.abc.PGresult) -> NoAnswer | StepError:
    said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode()
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    return NoAnswer(said) if state.startswith(GONE) or not state else StepError(said, state)
