"""What goes wrong between us and PostgreSQL, whatever the driver, and how it is told."""

from __future__ import annotations

from tasklocks.backends.django._database import Target
from tasklocks.errors import AnswerLost, BackendRefused, BackendUnavailable

__all__ = ["GONE", "NOT_PREPARED", "NoAnswer", "StepError", "told"]

GONE = ("08", "57P")
"""How the SQLSTATE of a connection that is lost, or of a server that is being stopped, starts."""

NOT_PREPARED = ("26000", "42P05")
"""What is said of a prepared statement that is not there, or is there already."""

_NO_TABLE = ("42P01", "42703")
# Insufficient privilege, invalid authorization, no such database; a refused login tells its number in its text only.
_REFUSED = ("42501", "28", "3D000")
_REFUSALS = ("authentication failed", "no pg_hba.conf entry", "no password supplied", "does not exist")


class NoAnswer(Exception):  # noqa: N818 - it is not known whether anything went wrong
    """The connection broke, or nothing came in time: the step was done, or it was not."""


class StepError(Exception):
    """The server refused; the step was not done.

    Attributes:
        state: PostgreSQL's SQLSTATE; empty if there is none.
    """

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


def told(error: NoAnswer | StepError, target: Target) -> BackendUnavailable:
    """Return the error as users see it. What PostgreSQL says never has the password in it."""
    if isinstance(error, NoAnswer):
        return AnswerLost(f"{target.where} (PostgreSQL) did not answer: {str(error).strip()}")
    if error.state in _NO_TABLE:
        return BackendRefused(target.not_migrated)
    refused = error.state.startswith(_REFUSED) or (not error.state and any(each in str(error) for each in _REFUSALS))
    kind = BackendRefused if refused else BackendUnavailable
    return kind(f"{target.where} (PostgreSQL) cannot be used: {str(error).strip()}")
