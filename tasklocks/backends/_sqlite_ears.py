"""Wake-ups between the processes of one host: SQLite has none, so whoever frees a permit knocks at the waiter's door.

A door is a datagram socket in Linux's abstract namespace: no file, gone with its process. A knock carries no lease.
Every local user can see such sockets and send to them, so a knock only makes the waiter look into the database; a
forged one costs a look, a lost one costs latency.

A door that is gone tells that its waiter does not listen any more, nearly always because it is dead. That holds within
one network namespace only, for doors of another one are not seen; so an address starts with the name of its namespace.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence

from tasklocks import clock
from tasklocks.backends._sqlite_limit import Knock
from tasklocks.errors import BackendUnavailable
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["PUSH", "Ears", "Listener", "Sleeper"]

PUSH = sys.platform.startswith("linux")
"""Whether this system has abstract sockets; elsewhere waiters look again at short intervals."""

Look = Callable[[AcquireRequest], Grant | None]
"""Find in the database what was granted to a waiter."""

_SPARE = 64  # sockets that are kept for the next waiters of this process
_LONGEST = 512  # bytes of a knock that are read; one of ours is shorter, whatever the owner's name is


class _Ear:
    """A socket of this process with an address of its own."""

    def __init__(self) -> None:
        self.address = _house() + secrets.token_hex(16)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(_door(self.address))


class Listener:
    """Wakes one waiter when somebody knocks for it."""

    def __init__(self, ear: _Ear, owner: str, look: Look, give_back: Callable[[_Ear], None]) -> None:
        self.address = ear.address
        self.place: AcquireRequest | None = None
        self._ear = ear
        self._owner = _called(owner)
        self._look = look
        self._give_back = give_back

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        deadline = clock.now() + timeout
        while (left := deadline - clock.now()) > 0:
            self._ear.socket.settimeout(left)
            try:
                knock = self._ear.socket.recv(_LONGEST)
            except TimeoutError:
                return None
            token, _, owner = knock.partition(b" ")
            # Else it was for an earlier waiter at this socket.
            if owner == self._owner:
                return self._granted(token)
        return None

    def close(self) -> None:
        """Let another waiter have the socket."""
        self._give_back(self._ear)

    def _granted(self, token: bytes) -> Grant | None:
        try:
            grant = self._look(self.place) if self.place is not None else None
        except BackendUnavailable:
            return None
        # The knock of an earlier lease will not do: the one for this lease may have failed, and then it is taken back
        # unless the waiter has asked for it.
        return grant if grant is not None and token == b"%d" % grant.fencing_token else None


class Sleeper:
    """Stands for a listener where nobody can knock."""

    address = ""

    def wait(self, timeout: float, since: Busy) -> None:
        """Sleep."""
        clock.pause(timeout)

    def close(self) -> None:
        """Do nothing."""


class Ears:
    """The sockets of one process."""

    def __init__(self) -> None:
        self.spare: list[_Ear] = []
        self._listeners: dict[str, Listener] = {}
        self._room = _SPARE
        # Of the namespace that the hand is in for ever: a thread may move to another one later.
        self._house = _house()
        self._hand = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._hand.setblocking(False)

    def listener(self, owner: str, look: Look) -> Listener:
        """Return an ear for `owner`; `look` finds what was granted to it."""
        try:
            ear = self.spare.pop()
        except IndexError:
            ear = _Ear()
        listener = self._listeners[ear.address] = Listener(ear, owner, look, self._give_back)
        return listener

    def expect(self, request: AcquireRequest) -> None:
        """Note for which place its listener listens: a knock is believed for that limit only."""
        if request.place is not None and request.place.address in self._listeners:
            self._listeners[request.place.address].place = request

    def knock(self, knocks: Sequence[Knock]) -> list[Knock]:
        """Tell each waiter that it was granted; return the knocks at doors that are gone."""
        return [knock for knock in knocks if knock.address and not self._tell(knock, knock.address)]

    def close(self) -> None:
        """Close the sockets that nobody listens at."""
        self._room = 0
        while self.spare:
            self.spare.pop().socket.close()
        self._hand.close()

    def _tell(self, knock: Knock, address: str) -> bool:
        try:
            self._hand.sendto(b"%d %s" % (knock.token, _called(knock.owner)), _door(address))
        except ConnectionRefusedError:
            return not (self._house and address.startswith(self._house))
        except OSError:
            # Its queue is full, or we may not: the lease stands in the database, and the waiter looks there by itself.
            return True
        return True

    def _give_back(self, ear: _Ear) -> None:
        self._listeners.pop(ear.address, None)
        if len(self.spare) < self._room:
            self.spare.append(ear)
        else:
            ear.socket.close()


def _house() -> str:
    """Return what the addresses of this thread's network namespace start with; empty if that cannot be told."""
    try:
        return os.readlink("/proc/thread-self/ns/net") + "/"
    except OSError:
        return ""


def _door(address: str) -> str:
    return f"\0tasklocks-{address}"


def _called(owner: str) -> bytes:
    # The end of a name tells one owner from another best: it is a nonce.
    return owner.encode()[-400:]
