"""What the client's failures mean to a caller: not reachable, or set up in a way that cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    InvalidURI,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.errors import ConfigurationError as RefusedSettings

from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["passes_at_once", "translated"]

_WRONG_PASSWORD = {18, 8000}  # the latter is Atlas's
_NO_RIGHT = {13}
_TOO_OLD = {40415, 40324, 168}  # a field, a stage or an expression that it does not know
_SHOWN = 200


def passes_at_once(error: PyMongoError) -> bool:
    """Tell whether asking again makes sense: a connection that broke, a primary that stepped down, a race to insert.

    Not after a time-out, for as long as it takes has passed already.
    """
    if isinstance(error, (NetworkTimeout, ServerSelectionTimeoutError)):
        return False
    return isinstance(error, (AutoReconnect, DuplicateKeyError))


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Raise our errors instead of the client's; `shown` is the place without credentials."""
    try:
        yield
    except PyMongoError as error:
        raise _ours(shown, error) from error
    except BSONError as error:
        raise BackendUnavailable(f"{shown} gave an answer that cannot be read: {error}") from error


def _ours(shown: str, error: PyMongoError) -> BackendUnavailable:
    words = _words(error)
    if isinstance(error, (InvalidURI, RefusedSettings)):
        # Among them: the DNS entry of a mongodb+srv URL, which may be back later.
        return BackendRefused(f"{shown} cannot be reached with these settings: {words}")
    if not isinstance(error, OperationFailure):
        return BackendUnavailable(f"{shown} does not answer: {words}")
    if error.code in _WRONG_PASSWORD:
        return BackendRefused(f"{shown} refuses the user or the password of the URL: {words}")
    if error.code in _NO_RIGHT:
        return BackendRefused(f"{shown} does not let this user do what locks need (the role readWrite): {words}")
    if error.code in _TOO_OLD:
        return BackendRefused(f"{shown} does not know a step of tasklocks, which needs MongoDB 5.0 or newer: {words}")
    return BackendUnavailable(f"{shown} cannot do it now: {words}")


def _words(error: PyMongoError) -> str:
    details = error.details if isinstance(error, OperationFailure) else None
    text = str((details or {}).get("errmsg") or error) or type(error).__name__
    # The client appends what it knows of every member; the first reason is what a person needs.
    text = text.partition(", Topology Description")[0].partition(" (configured timeouts")[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
