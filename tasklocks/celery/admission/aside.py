"""Puts messages aside that are more than a worker may hold, so that what is behind them in the queue is reached.

Each message that waits takes a place of the prefetch count, so the count is raised by one for it, up to a bound. Those
beyond it are in the way of others, and go back to the broker, the newest first, due when their turn may come. Slowly,
for what flows must not suffer by what waits; and not at all where much flows: there the queue itself goes on, and a
message that stays in it costs nothing.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tasklocks import clock
from tasklocks.backoff import LONGEST
from tasklocks.celery.admission.asking import Answer
from tasklocks.celery.admission.held import Held, Key
from tasklocks.celery.admission.lines import Lines
from tasklocks.celery.back import put_back
from tasklocks.celery.later import SHORTEST_BOUND
from tasklocks.celery.prefetch import Prefetch
from tasklocks.celery.routes import delays_natively

__all__ = ["Aside"]

_BRISK = 50.0  # messages a second that go on from here to the pool: a queue that flows like this needs no help
_PART = 5  # one in so many seconds is spent on putting messages aside, at the most
_AT_ONCE = 10
_LIMITS = 1000  # whose flow is known at the most
_MEMORY = 5.0  # seconds over which the flow is counted
_EARLY = 0.5  # the part of a wait after which it is time to look again: an estimate may be twice too long
_BELIEVED, _GUESSED = 10.0, 3.0  # seconds of a wait that are believed at once, as is what was waited already
_HEARD_AGAIN = 0.05  # seconds
_STOPPING = 2.0  # seconds that a stopping worker waits for a broker that hangs

_logger = logging.getLogger("tasklocks")


class Flow:
    """How many messages of a limit go on in a second, lately, and how many were put aside and are not due yet."""

    def __init__(self) -> None:
        self._count = 0.0
        self._began = self._seen = clock.now()
        self._due: Counter[int] = Counter()

    @property
    def known(self) -> bool:
        """Whether it was counted for long enough."""
        return clock.now() - self._began > _MEMORY

    @property
    def per_second(self) -> float:
        """How many go on."""
        self._fade()
        weight = 1 - math.exp((self._began - self._seen) / _MEMORY)
        return self._count / _MEMORY / weight if weight > 0 else 0.0

    def goes_on(self) -> None:
        """Count one."""
        self._fade()
        self._count += 1

    def goes_aside(self, wait: float) -> None:
        """Count one that is due in so many seconds."""
        self._due[int(clock.now() + wait)] += 1

    def wait(self, held: int) -> float:
        """Return the seconds until one more has its turn, after `held` others and all that were put aside."""
        now = int(clock.now())
        self._due = Counter({due: count for due, count in self._due.items() if due >= now})
        return (held + self._due.total()) / max(self.per_second, 1e-9)

    def _fade(self) -> None:
        now = clock.now()
        self._count *= math.exp((self._seen - now) / _MEMORY)
        self._seen = now


class Aside:
    """What is held, as the prefetch count sees it. Only the event loop uses it.

    Args:
        lines: all that is held.
        prefetch: the prefetch count.
        tell: takes what the thread says; see `Inbox.put`.
        most: how many messages are held at the most.
        send: puts a message back into the broker, due after so many seconds, and tells whether it could.
    """

    def __init__(
        self,
        lines: Lines,
        prefetch: Prefetch,
        tell: Callable[[Answer | None], bool],
        most: int,
        send: Callable[[Held, float], bool] | None = None,
    ) -> None:
        self._lines = lines
        self._prefetch = prefetch
        self._most = most
        self._unraised: dict[int, Held] = {}
        self._flow = Flow()
        self._flows: dict[Key, Flow] = {}
        self._sender = _Sender(tell, send or _sent)

    def add(self, held: Held) -> None:
        """Count one that begins to wait."""
        self._unraised[held.number] = held

    def remove(self, held: Held) -> None:
        """Count one that waits no more."""
        self._unraised.pop(held.number, None)
        if held.prefetched:
            self._prefetch.lower(1)

    def goes_on(self, held: Held) -> None:
        """Note that one goes to the pool with its leases."""
        self._flow.goes_on()
        if self._unraised or held.key in self._flows:
            self._flow_of(held).goes_on()

    def make_way(self) -> None:
        """Let others come through; there is a free place for them."""
        self._prefetch.keep()
        for each in self._to_raise():
            each.prefetched = self._prefetch.raise_(1) == 1
            if not each.prefetched:
                break
            del self._unraised[each.number]
        too_many = self._prefetch.too_many(len(self._unraised), len(self._lines) - self._most)
        if too_many > 0 and not self._sender.busy and self._flow.per_second < _BRISK:
            self._put_aside(self._newest(min(too_many, _AT_ONCE)))

    def finish(self) -> None:
        """Wait for what is being sent, for a moment."""
        self._sender.finish()

    def close(self) -> None:
        """End the thread."""
        self._sender.close()

    def _to_raise(self) -> Sequence[Held]:
        free = self._most - (len(self._lines) - len(self._unraised))
        return [each for each, _ in zip(self._unraised.values(), range(free), strict=False)] if free > 0 else []

    def _newest(self, count: int) -> Sequence[Held]:
        return [each for each, _ in zip(self._may_go(), range(count), strict=False)]

    def _may_go(self) -> Iterator[Held]:
        """Yield those that wait and will go on waiting, as far as one knows, the newest first."""
        for each in reversed(self._unraised.values()):
            if not each.standing and not each.leaving and (each.busy is not None or not self._lines.is_first(each)):
                yield each

    def _put_aside(self, those: Sequence[Held]) -> None:
        batch = [(each, self._wait(each)) for each in those]
        for each in those:
            each.leaving = True
        if batch:
            self._sender.send(batch)

    def _wait(self, each: Held) -> float:
        """Return for how many seconds it stays away: a wrong estimate costs as much as was waited already."""
        flow = self._flow_of(each)
        turn = _EARLY * flow.wait(self._lines.length(each.key))
        believed = max(each.waited_for(), _BELIEVED if flow.known else _GUESSED)
        wait = min(turn, believed, LONGEST) * random.uniform(0.85, 1.15)  # noqa: S311 - no secret
        flow.goes_aside(wait)
        return min(wait, each.until - clock.now())

    def _flow_of(self, held: Held) -> Flow:
        if held.key not in self._flows and len(self._flows) >= _LIMITS:
            self._flows.clear()  # rather a guess now and then than a memory that grows
        return self._flows.setdefault(held.key, Flow())


class _Sender:
    """The thread that talks to the broker. It starts with the first batch."""

    def __init__(self, tell: Callable[[Answer | None], bool], send: Callable[[Held, float], bool]) -> None:
        self._tell = tell
        self._send = send
        self._batches: queue.SimpleQueue[Sequence[tuple[Held, float]]] = queue.SimpleQueue()
        self._idle, self._closed = threading.Event(), threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self.busy = False

    def send(self, batch: Sequence[tuple[Held, float]]) -> None:
        """Send each message back, due after so many seconds."""
        self.busy = True
        self._idle.clear()
        self._batches.put(batch)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tasklocks-aside", daemon=True)
            self._thread.start()

    def _say(self, answer: Answer) -> None:
        # Nobody listens while the loop runs a body (solo); once the connection is lost nobody will.
        while answer.held.leaving and not self._tell(answer) and not self._closed.wait(_HEARD_AGAIN):
            pass

    def finish(self) -> None:
        self._idle.wait(_STOPPING)

    def close(self) -> None:
        self._closed.set()
        self._batches.put(())

    def _run(self) -> None:
        while not self._closed.is_set():
            batch = self._batches.get()
            began = clock.now()
            for each, wait in batch:
                self._say(Answer(each, each.owner, sent=self._send(each, wait)))
            self._idle.set()
            self._closed.wait((_PART - 1) * (clock.now() - began))
            self.busy = False
            self._tell(None)


def _sent(each: Held, wait: float) -> bool:
    app = each.request.task.app
    try:
        if delays_natively(app):
            return False  # nobody fetches from later queues there
        return put_back(app, each.request, each.said_later(), max(0.0, wait), SHORTEST_BOUND)
    except Exception:
        # Whatever it was about, the next messages must go.
        _logger.exception("%s stays here", each.request.id)
        return False
