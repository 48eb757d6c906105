"""What the client's failures mean to a caller: not reachable, or set up in a way that cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

from tasklocks.errors import BackendUnavailable, ConfigurationError

__all__ = ["passes_at_once", "translated"]

_REFUSED = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, and Atlas's word for the latter
_TOO_OLD = {40415, 40324, 31002}  # fields or stages that it does not know
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
    except (InvalidURI, RefusedSettings) as error:
        raise ConfigurationError(f"{shown}: the client refuses these settings: {_words(error)}") from None
    except OperationFailure as error:
        if error.code in _REFUSED:
            raise ConfigurationError(f"{shown} refuses this user: {_words(error)}") from error
        raise BackendUnavailable(f"{shown} refuses a step: {_words(error)}") from error
    except PyMongoError as error:
        raise BackendUnavailable(f"{shown} does not answer: {_words(error)}") from error


def _words(error: PyMongoError) -> str:
    details = error.details if isinstance(error, OperationFailure) else None
    text = str((details or {}).get("errmsg") or error) or type(error).__name__
    # The client appends what it knows of every member; the first reason is what a person needs.
    text = text.partition(", Topology Description")[0].partition(" (configured timeouts")[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
