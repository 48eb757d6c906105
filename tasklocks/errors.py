"""What can go wrong, one class for each answer that a caller may want to treat differently.

"No", "lost" and "don't know" are three answers: `LockBusy`, `LeaseLost`, `BackendUnavailable`.
Each error is built from its message alone, so that it survives Celery's JSON and pickle results;
facts travel as attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasklocks.types import Busy

__all__ = [
    "AnswerLost",
    "BackendRefused",
    "BackendUnavailable",
    "ConfigurationError",
    "LeaseLost",
    "LockBusy",
    "LockTimeout",
    "TaskLocksError",
]


class TaskLocksError(Exception):
    """The base of every error that tasklocks raises."""


class LockBusy(TaskLocksError):  # noqa: N818 - a public name of the contract
    """No permit was free.

    Attributes:
        name: the limit that was asked for; empty if unknown.
        busy: what the backend knew at that moment (holders, place in line), or None.
    """

    def __init__(self, message: str = "no permit was free", *, name: str = "", busy: Busy | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.busy = busy


class LockTimeout(LockBusy):
    """No permit became free within the time that the caller was willing to wait."""


class LeaseLost(TaskLocksError):  # noqa: N818 - a public name of the contract
    """A lease ended while its holder still believed in it: expired, or taken away.

    Attributes:
        name: the limit whose lease was lost; empty if unknown.
    """

    def __init__(self, message: str = "the lease was lost", *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class BackendUnavailable(TaskLocksError):  # noqa: N818 - a public name of the contract
    """The backend did not answer: nothing is known about the limit.

    Never raised because a permit is taken, and never treated as if one were free.
    """


class AnswerLost(BackendUnavailable):
    """The connection broke before the answer came: the step was done, or it was not.

    Here, not beside a backend, so that a failed task's result is read as this class where no client was imported.
    """


class ConfigurationError(TaskLocksError, ValueError):
    """A setting, a name or a URL cannot work as given; the message names it and says what would."""


class BackendRefused(BackendUnavailable, ConfigurationError):  # noqa: N818 - a kind of BackendUnavailable
    """The backend answers, but not to these credentials, or not with these rights.

    A worker does not start with such a backend. One that is running already treats it as down, so no task is lost
    while somebody corrects it.
    """
