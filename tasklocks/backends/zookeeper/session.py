"""This process's session: requests sent together and answered in order, watches, and the server's clock.

Requests go past kazoo's methods, which send one at a time and know no container nodes, straight to its queue.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Create2,
    Delete,
    Exists,
    GetChildren2,
    GetData,
    SetData,
    Sync,
    Transaction,
)
from kazoo.protocol.states import KeeperState
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from tasklocks import clock
from tasklocks.backends.zookeeper.client import CreateContainer, SessionClosedRequireSaslError, client_for
from tasklocks.backends.zookeeper.nodes import epoch_of
from tasklocks.backends.zookeeper.url import Settings
from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["BadVersionError", "Session", "failure", "missing"]

_EPHEMERAL, _SEQUENCE, _CONTAINER = 1, 2, 4
_OUTCOMES = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError)
_CLOCK_AGE = (
    30.0  # seconds after which the server is asked for its time again; clocks drift by less than a ms meanwhile
)
_GIVEN_UP_FOR = 0.5  # seconds after a wait in vain in which no other step waits for the connection


class Session:
    """A connection of this process to the ensemble; every method raises `BackendUnavailable` if it does not answer.

    Args:
        settings: where and how.
        root: the path of the prefix.
        on_event: called from the client's thread with the path whose watch fired; None if all watches are gone.
    """

    def __init__(self, settings: Settings, root: str, on_event: Callable[[str | None], None]) -> None:
        self.root = root
        self._settings = settings
        self._on_event = on_event
        self._acl = CREATOR_ALL_ACL if settings.client.keys() & {"auth_data", "sasl_options"} else OPEN_ACL_UNSAFE
        # Where tokens are counted from, and the server's clock when a local one said so; see `token`.
        self._base: tuple[int, int] | None = None
        self.epoch = 0
        """Which leader's clock the server's time is."""
        self.pruning = threading.Lock()
        """Held while somebody looks after limits of others."""
        self._server_time, self._told_at = 0.0, -_CLOCK_AGE
        self._given_up_at = -_GIVEN_UP_FOR
        self._client = client_for(settings)
        self._connected = self._client.start_async()

    @property
    def timeout(self) -> float:
        """Seconds for which the session outlives our silence."""
        return self._settings.session_timeout

    @property
    def usable(self) -> bool:
        """Whether it can still come to life; not after refused credentials."""
        thread = self._client._connection._connection_routine
        return thread is not None and bool(thread.is_alive()) and self._client.client_state != KeeperState.AUTH_FAILED

    def version(self) -> str:
        """Return the version of the server; empty if it does not answer to four letter words."""
        if self._client.use_ssl:
            return ""  # kazoo takes the port for the host's name there
        try:
            told = self._client.command(b"srvr")
        except (KazooException, OSError):
            return ""
        found = re.search(r"version: ([\w.]+)", told)
        return found[1] if found else ""

    def close(self) -> None:
        """End the session: what this process has in line is dropped by the server."""
        self._client.stop()
        self._client.close()

    def ask(self, *requests: Any) -> list[Any]:
        """Send the requests together; return their answers in order.

        A node that is missing, there already or of another version is an answer, not an error.
        """
        # Nothing is sent late, after its caller was told that it was not.
        if not self._connected.wait(self._patience()):
            self._given_up_at = clock.now()
            raise self._error(KazooTimeoutError())
        pending = [self.send(request) for request in requests]
        try:
            # The answers come in order: when the last one is there, all are.
            pending[-1].wait(self._settings.timeout)
            return [self._outcome(each) for each in pending]
        except (KazooException, KazooTimeoutError) as error:
            raise self._error(error) from None

    def send(self, request: Any) -> Any:
        """Send a request and do not wait for its answer."""
        answer = self._client.handler.async_result()
        self._client._call(request, answer)
        return answer

    # What can be asked.

    def create(self, path: str, content: bytes, *, ephemeral: bool = False, sequence: bool = False) -> Any:
        """A node, gone with the session if it is ephemeral; answers its path and its stat."""
        return Create2(path, content, self._acl, ephemeral * _EPHEMERAL + sequence * _SEQUENCE)

    def container(self, path: str, content: bytes = b"") -> Any:
        """A node that goes by itself when its last child is gone."""
        return CreateContainer(path, content, self._acl, _CONTAINER)

    def together(self, *requests: Any) -> Any:
        """All of the requests or none; answers a list that `failure` understands."""
        return Transaction(requests)

    def part(self, path: str, content: bytes, *, ephemeral: bool = False, sequence: bool = False) -> Any:
        """A node, as one of several requests `together`; answers its path only."""
        return Create(path, content, self._acl, ephemeral * _EPHEMERAL + sequence * _SEQUENCE)

    def delete(self, path: str, version: int = -1) -> Any:
        """Remove a node."""
        return Delete(path, version)

    def write(self, path: str, content: bytes, version: int = -1) -> Any:
        """Replace a node's content; answers its stat."""
        return SetData(path, content, version)

    def unchanged(self, path: str, version: int) -> Any:
        """Fail unless the node has this version, as one of several requests `together`."""
        return CheckVersion(path, version)

    def names(self, path: str, *, watch: bool = False) -> Any:
        """The names of a node's children and its stat; the watch tells of new and lost children, and of its end."""
        return GetChildren2(path, self._heard if watch else None)

    def content(self, path: str) -> Any:
        """A node's content and its stat."""
        return GetData(path, None)

    def stat(self, path: str, *, watch: bool = False) -> Any:
        """A node's stat, or None; the watch tells of another content, and of its end."""
        return Exists(path, self._heard if watch else None)

    def sync(self, path: str) -> Any:
        """Let the server catch up with the leader."""
        return Sync(path)

    # Time and tokens.

    def note_time(self, milliseconds: int, zxid: int) -> None:
        """Learn the server's clock from the stamp of a write that was just answered."""
        # The stamp is older than its answer, so what is computed from it is never ahead of the server's clock, and
        # nobody's lease is taken for over too early.
        self._server_time, self._told_at = milliseconds / 1000, clock.now()
        self.epoch = epoch_of(zxid)

    def server_time(self) -> float:
        """Return the server's time, or a little less."""
        if clock.now() - self._told_at > _CLOCK_AGE:
            self._look_at_root()
        return self._server_time + clock.now() - self._told_at

    def token(self, zxid: int) -> int:
        """Return the fencing token of what was created by transaction `zxid`."""
        if self._base is None:
            self._look_at_root()
        assert self._base is not None  # noqa: S101 - for the type checker
        first, microseconds = self._base
        return microseconds + zxid - first

    def make_root(self) -> None:
        """Create the path of the prefix."""
        parts = self.root.split("/")
        paths = ["/".join(parts[: end + 1]) for end in range(1, len(parts))]
        self.ask(*(self.create(path, b"") for path in paths))
        self._base = None

    def _look_at_root(self) -> None:
        """Write nothing to the root: it tells the server's time, and since when the root is there."""
        (stat,) = self.ask(self.write(self.root, b""))
        if missing(stat):
            self.make_root()
            (stat,) = self.ask(self.write(self.root, b""))
        self._base = (stat.czxid, stat.ctime * 1000)
        self.note_time(stat.mtime, stat.mzxid)

    def _patience(self) -> float:
        # An acquire is several steps; if there is no connection, one of them waits for it, not each in turn.
        return 0.0 if clock.now() < self._given_up_at + _GIVEN_UP_FOR else self._settings.timeout

    def _heard(self, event: Any) -> None:
        self._on_event(event.path)

    def _outcome(self, answer: Any) -> Any:
        try:
            value = answer.get(block=False)
        except _OUTCOMES as outcome:
            return outcome
        error = failure(value) if isinstance(value, list) else None
        if error is not None and not isinstance(error, _OUTCOMES):
            raise error
        return value

    def _error(self, error: Exception) -> BackendUnavailable:
        what = f"ZooKeeper at {self._settings.hosts}"
        if isinstance(error, AuthFailedError) or self._client.client_state == KeeperState.AUTH_FAILED:
            return BackendRefused(f"{what} refuses the user or the password of the URL")
        if isinstance(error, SessionClosedRequireSaslError):
            return BackendRefused(f"{what} wants a user, a password and sasl_mechanism=DIGEST-MD5 in the URL")
        if isinstance(error, NoAuthError):
            return BackendRefused(
                f"{what} does not let this user read and write below {self.root}; "
                "what is there was made with another user or password"
            )
        if isinstance(error, KazooTimeoutError):
            trouble = self._client._connection.trouble
            return BackendUnavailable(
                f"{what} did not answer within {self._settings.timeout:g} s{trouble and ': '}{trouble}"
            )
        return BackendUnavailable(f"{what} did not answer: {type(error).__name__}")


def failure(answer: Any) -> KazooException | None:
    """Return why a request, or several that were sent `together`, were not done; None if they were."""
    if not isinstance(answer, list):
        return answer if isinstance(answer, KazooException) else None
    errors = [each for each in answer if isinstance(each, KazooException)]
    # All others only say that they were not done because of that one.
    culprits = (each for each in errors if not isinstance(each, (RolledBackError, RuntimeInconsistency)))
    return next(culprits, errors[0] if errors else None)


def missing(answer: Any) -> bool:
    """Tell whether the node of a request was not there."""
    return isinstance(answer, NoNodeError)
