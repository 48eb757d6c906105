"""What happens to limits, told to whoever subscribes: signals, events, metrics, traces and the log hang on here.

Nobody there, nothing done: the quiet moments, which every task has, are told only `if watched[0]`, so an unwatched task
pays for looking at one number. The loud ones (a loss, a skip) are rare and always told, for they go into the log.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, get_args

from tasklocks.shield import shielded

__all__ = [
    "FACTS",
    "KINDS",
    "About",
    "Kind",
    "Listener",
    "News",
    "Source",
    "ask",
    "asked",
    "facts",
    "subscribe",
    "tell",
    "unsubscribe",
    "watched",
]

Kind = Literal["waiting", "acquired", "released", "lost", "skipped", "timed_out", "refused", "unreachable", "unrenewed"]
"""What happened:

- `waiting`: the limit is not free, and the caller waits for it; a task that is sent again says so each time.
- `acquired`: the lease was granted; under a rate limit: the start has come.
- `released`: the lease was given back.
- `lost`: it ended although nobody released it.
- `skipped`, `refused`, `timed_out`: the limit is not free, and the task ends without running, fails with `LockBusy`, or
  has waited for too long and fails with `LockTimeout`.
- `unreachable`: the backend does not answer, which counts as busy.
- `unrenewed`: the renewal of a lease failed once; it is tried again.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)

_QUIET: frozenset[Kind] = frozenset({"waiting", "acquired", "released"})

# Two bytes that are read as one number: the first for subscriptions, the second for whoever asks from outside. In
# memory that forked processes share: a worker's main process can let its pool know, and no task needs to be told.
_memory = mmap.mmap(-1, 2)
watched = memoryview(_memory).cast("H")
"""`watched[0]`: not 0 if quiet moments are to be told, here or in a process that shares this memory."""

_owner = os.getpid()
_logger = logging.getLogger("tasklocks")


@dataclass(frozen=True, slots=True)
class About:
    """One call and one limit of it: what stays the same from its first wait to its release.

    Attributes:
        limit: the limit's name.
        template: the name as it stands in the decorator, such as `import-{account_id}`; the task's name if a function
            makes the limit's name; empty in code that is no task.
        owner: whose lease it is; empty if there is none yet.
        backend: where the limit lives, without credentials.
        rate: whether it is a rate limit, which gives starts and no leases.
        task: the task's name, or empty.
        task_id: the task's id, or empty.
        permits: how many permits are asked for.
        capacity: how many the limit has in all, as this caller knows it; None: not known here.
        carrier: the headers of the message, where no task runs yet; for a trace that it belongs to. Not among `FACTS`.
    """

    limit: str
    template: str = ""
    owner: str = ""
    backend: str = ""
    rate: bool = False
    task: str = ""
    task_id: str = ""
    permits: int = 1
    capacity: int | None = None
    carrier: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class News:
    """One moment.

    Attributes:
        kind: what happened.
        about: to which call and limit.
        waited: seconds that the task waited so far, over all its deliveries.
        held: seconds that the lease was held; None if there was none.
        place: waiters in front of this one when it began to wait; None if not known.
        token: the lease's fencing token; None if there is none.
        reason: why, in words.
    """

    kind: Kind
    about: About
    waited: float = 0.0
    held: float | None = None
    place: int | None = None
    token: int | None = None
    reason: str = ""


_ABOUT = tuple(each.name for each in fields(About) if each.name != "carrier")
_MOMENT = tuple(each.name for each in fields(News) if each.name != "about")

FACTS = _MOMENT + _ABOUT
"""The names of what `facts` returns."""


def facts(told: News) -> dict[str, Any]:
    """Return all that is known of a moment, by name: the attributes of `News` and of `About`."""
    return {
        **{name: getattr(told, name) for name in _MOMENT},
        **{name: getattr(told.about, name) for name in _ABOUT},
    }


class Source(Protocol):
    """Who knows what news is about; asked only if somebody listens."""

    def about(self, limit: str, owner: str) -> About:
        """Return what is known of the call that asks for `limit` in the name of `owner`."""

    def waited_for(self) -> float:
        """Return for how many seconds it has waited so far, in deliveries before this one as well."""


Listener = Callable[[News], None]
"""Called where the moment happens, in the thread of the task: it should be quick. What it raises is logged."""

_listeners: dict[Kind, list[Listener]] = {kind: [] for kind in KINDS}
_waiting_to_be_asked: set[Listener] = set()


def subscribe(listener: Listener, kinds: Collection[Kind] = KINDS, *, if_asked: bool = False) -> None:
    """Let `listener` hear of moments of `kinds`, in this process and in those that it forks from now on.

    Args:
        listener: as `Listener` says; subscribed once, however often this is called.
        kinds: what it wants to hear of.
        if_asked: quiet moments need not be told for its sake, but for `ask`.
    """
    for kind in kinds:
        if listener not in _listeners[kind]:
            _listeners[kind].append(listener)
    if if_asked:
        _waiting_to_be_asked.add(listener)
    elif not _QUIET.isdisjoint(kinds):
        _memory[0] = 1


def unsubscribe(listener: Listener, kinds: Collection[Kind] = KINDS) -> None:
    """Let `listener` hear no more of `kinds`."""
    for kind in kinds:
        if listener in _listeners[kind]:
            _listeners[kind].remove(listener)
    # Only where the memory was made: another process's listeners are not known here.
    if os.getpid() == _owner:
        _memory[0] = any(each not in _waiting_to_be_asked for kind in _QUIET for each in _listeners[kind])


def ask(on: bool) -> None:
    """Want quiet moments to be told, or not any more, in all processes that share this memory."""
    _memory[1] = on


def asked() -> bool:
    """Tell whether somebody has asked so."""
    return bool(_memory[1])


def tell(
    kind: Kind,
    source: Source | About,
    limit: str = "",
    owner: str = "",
    *,
    waited: float = 0.0,
    held: float | None = None,
    place: int | None = None,
    token: int | None = None,
    reason: str = "",
) -> None:
    """Tell all who listen; what they raise is logged, and harms nobody.

    Args:
        kind: what happened; quiet kinds only `if watched[0]`.
        source: knows what it is about.
        limit: the limit's name; for a source that knows several.
        owner: whose lease it is.
        waited: see `News`, as the rest.
        held: see `News`.
        place: see `News`.
        token: see `News`.
        reason: see `News`.
    """
    listeners = list(_listeners[kind])
    if not listeners:
        return

    def hear() -> None:
        about = source if isinstance(source, About) else source.about(limit, owner)
        told = News(kind, about, waited, held, place, token, reason)
        for listener in listeners:
            _let_hear(listener, told)

    # A soft time limit that rose in a listener would look like its own mistake, and be over with the log line.
    shielded(hear)


def _let_hear(listener: Listener, told: News) -> None:
    try:
        listener(told)
    except Exception:
        _logger.exception("limit %r: %s was not heard by %r", told.about.limit, told.kind, listener)
