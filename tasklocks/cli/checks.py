"""What `doctor` tries on a backend, one thing at a time; all of it on limits of its own, which it leaves empty."""

from __future__ import annotations

import contextlib
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.errors import BackendUnavailable, ConfigurationError, TaskLocksError
from tasklocks.overview import backend_clock
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["Check", "checks"]

_TRIPS = 20
_SLOW = 0.05  # seconds
_SKEW = 1.0  # seconds
_LAPSES_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Check:
    """What was found.

    Attributes:
        name: what was tried.
        ok: whether it is as it should be.
        found: what was seen.
        advice: what to do; empty: nothing.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def checks(backend: Backend) -> Iterator[Check]:
    """Yield what is found, in order; after a first one that fails, what would only fail, too, is left out."""
    reached = _tried("answers", lambda: _reached(backend))
    yield reached
    if not reached.ok:
        return
    yield _tried("round trip", lambda: _round_trip(backend))
    yield _tried("clock", lambda: _skew(backend))
    yield from _cycle(backend, f"tasklocks-doctor-{secrets.token_hex(4)}")
    yield _tried("wakes waiters", lambda: _woken(backend, f"tasklocks-doctor-{secrets.token_hex(4)}"))
    yield _tried("lists", lambda: _listed(backend))


def _tried(name: str, step: Callable[[], tuple[bool, str, str]]) -> Check:
    try:
        return Check(name, *step())
    except ConfigurationError as error:
        return Check(name, False, str(error), "look at the rights and the password of the URL's user")
    except BackendUnavailable as error:
        return Check(name, False, str(error), "tasks wait as long as it does not answer; nothing runs unlocked")
    except TaskLocksError as error:
        return Check(name, False, str(error), "")


def _reached(backend: Backend) -> tuple[bool, str, str]:
    backend.inspect("tasklocks-doctor")
    promises = backend.capabilities
    several = "several hosts" if promises.multi_host else "one host only"
    version = _version(backend)
    return True, f"{backend!r}{f', version {version}' if version else ''}, for {several}", ""


def _version(backend: Backend) -> str:
    # Who may use locks need not be allowed to ask for it.
    with contextlib.suppress(TaskLocksError):
        return backend.version()
    return ""


def _round_trip(backend: Backend) -> tuple[bool, str, str]:
    took = [_timed(lambda: backend.inspect("tasklocks-doctor")) for _ in range(_TRIPS)]
    middle, worst = statistics.median(took), max(took)
    advice = "" if middle < _SLOW else "each lock costs two of these; put the backend nearer to the workers"
    return middle < _SLOW, f"{middle * 1000:.2f} ms, the slowest of {_TRIPS} {worst * 1000:.2f} ms", advice


def _skew(backend: Backend) -> tuple[bool, str, str]:
    before = time.time()
    skew = backend_clock(backend) - (before + time.time()) / 2
    if abs(skew) < _SKEW:
        return True, f"{skew:+.3f} s from this host's", ""
    advice = "locks do not mind, but times in lists and logs are off: set the clocks by NTP"
    return False, f"{skew:+.3f} s from this host's", advice


def _cycle(backend: Backend, name: str) -> Iterator[Check]:
    """Take a lease, be refused, renew it, give it back, and let one expire."""
    ttl = max(1.0, backend.capabilities.min_ttl)
    first = AcquireRequest(name, f"{name}:1", ttl=10 * ttl)
    second = AcquireRequest(name, f"{name}:2", ttl=ttl)
    held: list[Grant] = []
    try:
        yield _tried("acquire", lambda: _taken(backend, first, held))
        if not held:
            return
        yield _tried("mutual exclusion", lambda: _refused(backend, second))
        yield _tried("renew", lambda: _renewed(backend, held[0]))
        yield _tried("release", lambda: (backend.release(name, first.owner), "the permit is free again", ""))
        yield _tried("acquire again", lambda: _taken(backend, second, held))
        yield _tried("expiry", lambda: _expired(backend, AcquireRequest(name, f"{name}:3", ttl=ttl), held))
    finally:
        with contextlib.suppress(TaskLocksError):
            backend.force_release(name)


def _taken(backend: Backend, request: AcquireRequest, held: list[Grant]) -> tuple[bool, str, str]:
    answer = backend.acquire(request)
    if isinstance(answer, Busy):
        return False, "a limit that nobody uses is busy", ""
    grows = not held or answer.fencing_token > held[-1].fencing_token
    held.append(answer)
    return grows, f"fencing token {answer.fencing_token}", "" if grows else "fencing tokens must grow; report this"


def _refused(backend: Backend, request: AcquireRequest) -> tuple[bool, str, str]:
    busy = isinstance(backend.acquire(request), Busy)
    return busy, "a second owner is refused" if busy else "two owners hold one permit", ""


def _renewed(backend: Backend, grant: Grant) -> tuple[bool, str, str]:
    (answer,) = backend.renew([grant])
    return answer is not None, "the lease is extended" if answer else "the lease is gone", ""


def _expired(backend: Backend, request: AcquireRequest, held: list[Grant]) -> tuple[bool, str, str]:
    """Wait until a lease that is not renewed frees its permit."""
    began = clock.now()
    while isinstance(answer := backend.acquire(request), Busy):
        if clock.now() - began > _LAPSES_WITHIN:
            return False, f"a lease of {request.ttl:g} s still lasts after {_LAPSES_WITHIN:g} s", ""
        clock.pause(0.05)
    grows = answer.fencing_token > held[-1].fencing_token
    return grows, f"a lease of {request.ttl:g} s was over after {clock.now() - began:.1f} s", ""


def _woken(backend: Backend, name: str) -> tuple[bool, str, str]:
    """Wait in line, and be told."""
    if not backend.capabilities.push:
        return True, "this backend wakes nobody; waiters look again at short intervals", ""
    backend.acquire(AcquireRequest(name, "holder", ttl=30.0))
    ear = backend.listen("waiter")
    try:
        wish = AcquireRequest(name, "waiter", ttl=30.0, place=Place("waiter", 30.0, ear.address))
        busy = backend.acquire(wish)
        if not isinstance(busy, Busy):
            return False, "two owners hold one permit", ""
        backend.release(name, "holder")
        began = clock.now()
        heard = ear.wait(5.0, busy)
        took = clock.now() - began
        got = heard is not None or isinstance(backend.acquire(wish), Grant)
        return got and took < 4.0, f"a waiter heard of a release after {took * 1000:.1f} ms", ""
    finally:
        ear.close()
        backend.release(name, "holder")
        backend.release(name, "waiter")


def _listed(backend: Backend) -> tuple[bool, str, str]:
    took = _timed(backend.page)
    return True, f"a page of limits in {took * 1000:.1f} ms", ""


def _timed(step: Callable[[], object]) -> float:
    began = clock.now()
    step()
    return clock.now() - began
