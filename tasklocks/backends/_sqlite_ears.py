"""Wake-ups between the processes of one host: SQLite has none, so whoever frees a permit knocks at the waiter's door.

A door is a datagram socket in Linux's abstract namespace: no file, gone with its process. A knock carries no lease.
Every local user can see such sockets and send to them, so a knock only makes the waiter look into the database; a
forged one costs a look, a lost one costs latency.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
from collections.abc import Callable, Sequence

from tasklocks import clock
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["PUSH", "Ears", "Listener", "Sleeper"]

PUSH = sys.platform.startswith("linux")
"""Whether this system has abstract sockets; elsewhere waiters look again at short intervals."""

Look = Callable[[AcquireRequest], Grant | None]
"""Find in the database what was granted to a waiter."""

_SPARE = 64  # sockets that are kept for the next waiters of this process
_LONGEST = 512  # bytes of a knock that are read; an owner's name is shorter, and what is not ours is dropped anyway


class _Ear:
    """A socket of this process with an address of its own."""

    def __init__(self) -> None:
        self.address = secrets.token_hex(16)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(_door(self.address))


class Listener:
    """Wakes one waiter when somebody knocks for it."""

    def __init__(self, ear: _Ear, owner: str, look: Look, give_back: Callable[[_Ear], None]) -> None:
        self.address = ear.address
        self.place: AcquireRequest | None = None
        self._ear = ear
        self._owner = owner.encode()
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
            # Else it was for an earlier waiter at this socket.
            if knock == self._owner:
                return self._look(self.place) if self.place else None
        return None

    def close(self) -> None:
        """Let another waiter have the socket."""
        self._give_back(self._ear)


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

    def knock(self, knocks: Sequence[tuple[str, str]]) -> None:
        """Tell each owner, at its address, that it was granted."""
        for owner, address in knocks:
            # Gone, or too busy to take it: the lease stands in the database, the waiter looks by itself.
            with contextlib.suppress(OSError):
                self._hand.sendto(owner.encode(), _door(address))

    def close(self) -> None:
        """Close the sockets that nobody listens at."""
        self._room = 0
        while self.spare:
            self.spare.pop().socket.close()
        self._hand.close()

    def _give_back(self, ear: _Ear) -> None:
        self._listeners.pop(ear.address, None)
        if len(self.spare) < self._room:
            self.spare.append(ear)
        else:
            ear.socket.close()


def _door(address: str) -> str:
    return f"\0tasklocks-{address}"
