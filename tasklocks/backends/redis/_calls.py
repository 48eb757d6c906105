"""Scripts called on connections of redis-py, without the client around them, which costs as much as the trip.

A connection serves one thread at a time and goes back to the idle ones after an answer. Whatever else ends a call, also
an exception that strikes in the middle of it, closes the connection: an answer nobody read would be taken for the next
one's.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from tasklocks import clock
from tasklocks.backends.redis._scripts import Script
from tasklocks.backends.redis._url import Target
from tasklocks.errors import AnswerLost, BackendRefused, BackendUnavailable, TaskLocksError

__all__ = ["Call", "Calls", "translated"]

_logger = logging.getLogger("tasklocks")
# Over a fork, too: a worker says it, not each of its children.
_looked_at: set[str] = set()

_FRESH = 1.0  # seconds for which an idle connection is not looked at

T = TypeVar("T")

Call = tuple[Script, bytes, int, Sequence[object]]
"""A script, its packed keys, how many these are, and its arguments."""


class Calls:
    """This process's connections to one Redis."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: deque[tuple[AbstractConnection, float]] = deque()

    def run(self, call: Call) -> Any:
        """Return the script's answer.

        Raises:
            AnswerLost: the connection broke.
            BackendRefused: wrong credentials or rights.
            BackendUnavailable: no answer, for any other reason.
        """
        return self._talk(lambda connection: _answer(connection, call))

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Return the scripts' answers; the calls travel together. Raises as `run` does."""
        return self._talk(lambda connection: _answers(connection, calls))

    def close(self) -> None:
        """Close the idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].disconnect()

    def _talk(self, work: Callable[[AbstractConnection], T]) -> T:
        connection = self._take()
        try:
            answer = work(connection)
        except BaseException as error:
            connection.disconnect()
            self._raise_translated(error)
            raise
        self._idle.append((connection, clock.now()))
        return answer

    def _take(self) -> AbstractConnection:
        while self._idle:
            try:
                connection, used_at = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if clock.now() < used_at + _FRESH or _is_alive(connection):
                return connection
            connection.disconnect()
        connection = self._target.connection()
        try:
            connection.connect()
            _look_at_eviction(connection, self._target.where)
        except BaseException as error:
            connection.disconnect()
            self._raise_translated(error)
            raise
        return connection

    def _raise_translated(self, error: BaseException) -> None:
        if isinstance(error, (RedisError, OSError)):
            told = translated(error, self._target.where)
            if isinstance(told, AnswerLost):
                # What broke this connection broke the others, too, and the next try must not find one of them.
                self.close()
            raise told from error


# What a server says of a command inside a script, without a sign of what kind of error it is.
_FORBIDDEN = "The user executing the script can't"


def translated(error: Exception, where: str) -> TaskLocksError:
    """Return what to raise for an error of redis-py; `where` tells which Redis it was."""
    if isinstance(error, (AuthenticationError, AuthenticationWrongNumberOfArgsError)) or _is_refusal(error):
        return BackendRefused(f"{where} refuses the user or the password of the URL: {error}")
    if isinstance(error, NoPermissionError) or _FORBIDDEN in str(error):
        return BackendRefused(f"{where} does not let this user do what locks need (see docs, Redis, rights): {error}")
    if isinstance(error, TimedOut):
        return BackendUnavailable(f"{where} does not answer: {error}")
    if isinstance(error, (NotConnected, OSError)):
        return AnswerLost(f"{where} cannot be reached: {error}")
    if str(error).startswith(("MOVED", "CROSSSLOT", "CLUSTERDOWN")):
        return BackendRefused(f"{where} is a node of a Redis Cluster; name a single server or a sentinel: {error}")
    return BackendUnavailable(f"{where} cannot do it now: {error}")


def _is_refusal(error: Exception) -> bool:
    # The last is what a server says that wants a password, to a command of more than ten words.
    signs = ("WRONGPASS", "NOAUTH", "Protocol error: unauthenticated")
    return isinstance(error, ResponseError) and str(error).startswith(signs)


def _look_at_eviction(connection: AbstractConnection, where: str) -> None:
    """Say once if this Redis may throw locks away when its memory is full."""
    if where in _looked_at:
        return
    _looked_at.add(where)
    try:
        connection.send_command("INFO", "memory")
        told = connection.read_response()
    except ResponseError:
        return  # no right to ask
    facts = dict(line.split(":", 1) for line in told.decode().splitlines() if ":" in line)
    if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy", "noeviction") != "noeviction":
        _logger.warning(
            "%s evicts keys when its memory is full (maxmemory-policy %s), and with them locks that are held; "
            "use a Redis with noeviction for locks",
            where,
            facts["maxmemory_policy"],
        )


def _answer(connection: AbstractConnection, call: Call) -> Any:
    try:
        return _asked(connection, call[0].by_name(*call[1:]))
    except NoScriptError:
        return _asked(connection, call[0].in_full(*call[1:]))


def _answers(connection: AbstractConnection, calls: Sequence[Call]) -> list[Any]:
    connection.send_packed_command([b"".join([call[0].by_name(*call[1:]) for call in calls])], False)
    answers = [_answer_or_missing(connection) for _ in calls]
    for index, call in enumerate(calls):
        if isinstance(answers[index], NoScriptError):
            answers[index] = _asked(connection, call[0].in_full(*call[1:]))
    return answers


def _asked(connection: AbstractConnection, packed: bytes) -> Any:
    connection.send_packed_command([packed], False)
    return connection.read_response()


def _answer_or_missing(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except NoScriptError as error:
        return error


def _is_alive(connection: AbstractConnection) -> bool:
    """Tell whether nothing waits to be read: not the server's goodbye, nor anything else that nobody asked for."""
    try:
        return not connection.can_read(0)
    except (RedisError, OSError):
        return False
