"""`Lease`: what is held. It is renewed until released, knows its fencing token, and says when it is lost."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from types import TracebackType

from tasklocks import clock, ledger
from tasklocks.backends import fingerprint
from tasklocks.backends.base import Backend
from tasklocks.durations import PauseLength
from tasklocks.errors import BackendUnavailable, LeaseLost, TaskLocksError
from tasklocks.news import About, Source, tell, watched
from tasklocks.renewal import RAN_OUT, renewal
from tasklocks.started import pause_here
from tasklocks.types import Grant

__all__ = ["Lease", "entered_leases", "give_back", "give_back_unseen", "held_leases"]

_logger = logging.getLogger("tasklocks")
_held: ContextVar[tuple[Lease, ...]] = ContextVar("tasklocks_held", default=())


class Lease:
    """Permits of a limit, held by one owner for a bounded time.

    It is renewed in the background until it is released. Leaving its `with` block releases it.

    Args:
        backend: where the limit lives.
        grant: the lease as the backend granted it.
        max_hold: seconds after which it is not renewed any more and counts as lost; None: no bound.
        at_least: seconds that the permits stay taken in all, even if it is released earlier.
        on_lost: called once, from the renewal's thread, with this lease when it is lost.

    Attributes:
        source: knows what news of this lease is about; None: its release is no news.
    """

    __slots__ = (
        "_at_least",
        "_on_lost",
        "_pid",
        "_reason",
        "_released",
        "_since",
        "backend",
        "grant",
        "hold_until",
        "made_by",
        "source",
    )

    def __init__(
        self,
        backend: Backend,
        grant: Grant,
        *,
        max_hold: float | None = None,
        at_least: float = 0.0,
        on_lost: Callable[[Lease], None] | None = None,
    ) -> None:
        self.backend = backend
        self.grant = grant
        self.made_by: object = None
        self.source: Source | None = None
        self._since = clock.now()
        self.hold_until = math.inf if max_hold is None else self._since + max_hold
        self._at_least = at_least
        self._on_lost = on_lost
        self._reason = ""
        self._released = False
        self._pid = os.getpid()
        if at_least:
            ledger.note(fingerprint(backend), grant.name, grant.owner, at_least=self._since + at_least)
        renewal().add(self)

    def __repr__(self) -> str:
        state = "released" if self._released else "lost" if self.lost else f"{self.expires_in():.1f} s left"
        return f"<Lease {self.name!r} token={self.fencing_token} {state}>"

    @property
    def name(self) -> str:
        """The limit's name."""
        return self.grant.name

    @property
    def owner(self) -> str:
        """Whose lease it is."""
        return self.grant.owner

    @property
    def permits(self) -> int:
        """How many permits it covers."""
        return self.grant.permits

    @property
    def fencing_token(self) -> int:
        """Strictly larger than every earlier token of the same limit.

        Send it along with each write and let the store refuse a smaller one than it has seen: then a holder that was
        frozen and overtaken cannot do harm (Kleppmann, "How to do distributed locking", 2016).
        """
        return self.grant.fencing_token

    @property
    def lost(self) -> bool:
        """Whether the lease ended although nobody released it; someone else may hold the permits."""
        # The deadline counts by itself: a process that was frozen has not heard anything yet.
        return bool(self._reason) or (not self._released and clock.now() >= self.grant.deadline)

    @property
    def released(self) -> bool:
        """Whether it was given back."""
        return self._released

    def expires_in(self) -> float:
        """Return the seconds for which the lease is ours for certain; 0.0 once it is over."""
        if self._released or self._reason:
            return 0.0
        return max(0.0, self.grant.deadline - clock.now())

    def check(self) -> None:
        """Do nothing while the lease is held.

        Raises:
            LeaseLost: it was lost or released; the message says which.
        """
        if self.lost:
            raise LeaseLost(f"the lease of {self.name!r} is lost: {self._why()}", name=self.name)
        if self._released:
            raise LeaseLost(f"the lease of {self.name!r} was released", name=self.name)

    def renew(self) -> None:
        """Extend the lease to its full ttl now.

        Raises:
            LeaseLost: it is not there any more.
            BackendUnavailable: nothing is known; the background renewal goes on trying.
        """
        self.check()
        (answer,) = self.backend.renew([self.grant])
        if answer is None:
            renewal().remove(self)
            self.end("it expired or was taken away")
            self.check()
        else:
            self.renewed(answer)

    def pause(
        self, length: PauseLength | None = None, name: str | None = None, *, until: datetime | None = None
    ) -> None:
        """Let nothing start under the innermost rate limit of the running function for `length`, or `until` then.

        For a partner that says when to come back: what waits already moves by as much. See `tasklocks.pause`.

        Args:
            length: seconds, a timedelta, or the value of an HTTP `Retry-After` header.
            name: which rate limit, if the function runs under several.
            until: a datetime with a time zone, instead of a length.

        Raises:
            ConfigurationError: the caller is under no such rate limit, or the time makes no sense.
            BackendUnavailable: the backend does not answer.
        """
        pause_here(length, name, until=until)

    def release(self) -> bool:
        """End the lease; only this owner's lease is touched. Harmless when repeated.

        Returns:
            True if a live lease was ended by this call.

        Raises:
            BackendUnavailable: it will end by itself within its ttl, for it is not renewed any more.
        """
        if self._released or self._pid != os.getpid():
            return False
        if self.lost and not self._reason:
            # The release must not make it look as if it had been held to the end.
            self._note_loss(self._why())
        try:
            self._released = True
            return self._give_back()
        except TaskLocksError:
            raise
        except BaseException:
            # It struck anywhere (a soft time limit, Ctrl-C), perhaps before the backend was told.
            self._give_back()
            raise
        finally:
            if watched[0]:
                self._tell_release()

    def __enter__(self) -> Lease:
        _held.set((*_held.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _held.set(tuple(lease for lease in _held.get() if lease is not self))
        finally:
            # The work is done; an error here would make a finished task look failed.
            give_back(self)

    def renewed(self, grant: Grant) -> None:
        """Take over a renewal's answer (called by the renewal)."""
        self.grant = grant

    def end(self, reason: str) -> None:
        """Count as lost from now on (called by the renewal)."""
        if self._released or self._reason:
            return
        self._note_loss(reason)
        if self._on_lost is not None:
            self._on_lost(self)

    def unrenewed(self, reason: str) -> None:
        """Tell that a renewal failed, and is tried again (called by the renewal)."""
        tell("unrenewed", self._about(), reason=reason)

    def _note_loss(self, reason: str) -> None:
        self._reason = reason
        tell("lost", self._about(), held=clock.now() - self._since, token=self.grant.fencing_token, reason=reason)

    def _tell_release(self) -> None:
        if self.source is not None and not self._reason:
            held = clock.now() - self._since
            tell("released", self.source, self.name, self.owner, held=held, token=self.grant.fencing_token)

    def _about(self) -> About:
        if self.source is not None:
            return self.source.about(self.name, self.owner)
        return About(self.name, owner=self.owner, backend=repr(self.backend), permits=self.permits)

    def _give_back(self) -> bool:
        renewal().remove(self)
        keep = self._at_least - (clock.now() - self._since) if self._at_least else 0.0
        try:
            return self.backend.release(self.name, self.owner, max(keep, 0.0))
        finally:
            ledger.strike(self.owner)

    def _why(self) -> str:
        return self._reason or RAN_OUT


def held_leases() -> tuple[Lease, ...]:
    """Return all leases held here, outermost first."""
    # A released one can be left in a context that was copied, or whose `with` was struck by an exception.
    return tuple(lease for lease in _held.get() if not lease.released)


def hold_in_order(leases: Sequence[Lease]) -> None:
    """Let leases that are held here count as taken in this order, outermost first."""
    _held.set((*(lease for lease in _held.get() if lease not in leases), *leases))


def entered_leases() -> tuple[Lease, ...]:
    """Return the leases whose `with` block this is, outermost first, also those that were released inside it."""
    return _held.get()


def give_back(lease: Lease) -> None:
    """Release the lease; if the backend does not answer, it ends by itself, for it is not renewed any more."""
    try:
        lease.release()
    except BackendUnavailable as unavailable:
        _logger.warning("%r ends by itself within %.0f s: %s", lease.name, lease.grant.ttl, unavailable)


def give_back_unseen(owner: str) -> None:
    """Release a lease of `owner` that an exception struck from its caller's hands, or it would be renewed for ever.

    Between the grant and the first line under its protection, and between the last one and the release, are moments in
    which a soft time limit or Ctrl-C can strike.
    """
    _held.set(tuple(lease for lease in _held.get() if lease.owner != owner))
    for lease in renewal().of(owner):
        with suppress(BackendUnavailable):
            lease.release()
