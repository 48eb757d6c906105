"""The connections of one process to one database: a few, taken by who needs one for a step, and kept for the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol, cast

from tasklocks.backends.django._database import Target, in_test_run
from tasklocks.backends.django._errors import NOT_PREPARED, NoAnswer, StepError, told
from tasklocks.backends.django._statements import Statement
from tasklocks.errors import BackendUnavailable

__all__ = ["Link", "Links", "Session"]

_MOST = 4  # A step takes about a millisecond, so that is enough for many threads; PostgreSQL allows a hundred in all.
# Else PostgreSQL plans anew each time, which takes longer than the step. For one transaction only, because of poolers.
_ONE_PLAN = "SET LOCAL plan_cache_mode = force_generic_plan"
_LEVEL = "SELECT current_setting('default_transaction_isolation')"


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


class Session:
    """A connection that one step has for itself.

    Args:
        link: the connection.
        timeout: seconds that a step may take.
    """

    def __init__(self, link: Link, timeout: float) -> None:
        self.link = link
        self._timeout = timeout
        self._prepared: set[str] = set()

    def ask(self, statements: Sequence[Statement], *, begin: bool = True, commit: bool = True) -> list[str]:
        """Do the statements as they are; return the texts that they answer."""
        return self._run([each.plain() for each in statements], begin, commit)

    def ask_prepared(self, statements: Sequence[Statement]) -> list[str]:
        """Do the statements in one transaction, prepared as soon as they are used."""
        texts = [_ONE_PLAN]
        for each in statements:
            if each.can_be_prepared and each.name not in self._prepared:
                texts.append(each.prepare())
                self._prepared.add(each.name)
            texts.append(each.execute() if each.can_be_prepared else each.plain())
        return self._run(texts, True, True)

    def _run(self, texts: Sequence[str], begin: bool, commit: bool) -> list[str]:
        return self.link.run([*(["BEGIN"] * begin), *texts, *(["COMMIT"] * commit)], self._timeout)


class Links:
    """Connections for steps.

    Args:
        target: which database.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._free = threading.BoundedSemaphore(_MOST)
        self._idle: list[Session] = []
        self._open = True
        # A test run keeps no connection, so to prepare would not pay.
        self._prepares = not in_test_run()

    def run(self, statements: Sequence[Statement]) -> list[str]:
        """Do the statements as one transaction in one round trip; return the texts that they answer.

        Raises:
            BackendUnavailable: no connection, or no answer.
        """
        with self._telling():
            if self._prepares:
                try:
                    return self._run_prepared(statements)
                except StepError as error:
                    if error.state not in NOT_PREPARED:
                        raise
                    # A pooler gives each transaction to another connection of its own. The step was not done.
                    self._prepares = False
            with self._session() as session:
                return session.ask(statements)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Have a connection for oneself; what is begun there has to be committed there.

        Raises:
            BackendUnavailable: no connection, or no answer.
        """
        with self._telling(), self._session() as session:
            yield session

    def connect(self) -> Link:
        """Return a connection that nobody else has.

        Raises:
            StepError: there is none.
        """
        link = _connected(self._target)
        try:
            (level,) = link.run([_LEVEL], self._target.timeout)
            if level != "read committed":
                link.run(["SET default_transaction_isolation = 'read committed'"], self._target.timeout)
        except BaseException:
            link.close()
            raise
        return link

    def close(self) -> None:
        """Close those that nobody uses now; the others follow when their steps end."""
        self._open = False
        with suppress(IndexError):
            while True:
                self._idle.pop().link.close()

    def _run_prepared(self, statements: Sequence[Statement]) -> list[str]:
        with self._session() as session:
            return session.ask_prepared(statements)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        if not self._free.acquire(timeout=self._target.timeout):
            raise BackendUnavailable(f"{self._target.where}: all {_MOST} connections of this process wait for it")
        try:
            session = self._idle_one() or Session(self.connect(), self._target.timeout)
            try:
                yield session
            except BaseException:
                # Whatever struck, wherever: what the connection is in the middle of, nobody knows.
                session.link.close()
                raise
            self._keep(session)
        finally:
            self._free.release()

    def _idle_one(self) -> Session | None:
        with suppress(IndexError):
            while True:
                session = self._idle.pop()
                if not session.link.broken():
                    return session
                session.link.close()
        return None

    def _keep(self, session: Session) -> None:
        if self._open and not in_test_run():
            self._idle.append(session)
        else:
            session.link.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (NoAnswer, StepError) as error:
            raise told(error, self._target) from error


def _connected(target: Target) -> Link:
    wrapper = target.wrapper()
    params = {"connect_timeout": max(1, round(target.timeout)), **wrapper.get_connection_params()}
    if wrapper.Database.__name__ == "psycopg":
        from tasklocks.backends.django import _psycopg3

        return _psycopg3.Link(params)
    from tasklocks.backends.django import _psycopg2

    return cast(Link, _psycopg2.Link({**params, "cursor_factory": None}))
