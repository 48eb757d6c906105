"""One reader of the backend for all viewers, and none while nobody watches.

The list is read as often as asked, but never for more than a tenth of the time: of very many limits it comes more
rarely. Limits that somebody has open are looked at each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.errors import TaskLocksError
from tasklocks.web.history import History
from tasklocks.web.lines import most_troubled
from tasklocks.web.snapshot import Snapshot, refreshed, taken

__all__ = ["Poller", "Seen", "Shows"]

_SHARE = 10
_LINGER = 5.0
_REMEMBERED = 100

_logger = logging.getLogger("tasklocks.web")
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Shows:
    """Which limits a viewer looks at.

    Attributes:
        listed: those on its page of the list: their past is kept.
        opened: those of which it sees everything.
    """

    listed: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen last.

    Attributes:
        number: grows with each look.
        snapshot: None: nothing yet.
        error: why the last look failed; empty: it did not.
    """

    number: int = 0
    snapshot: Snapshot | None = None
    error: str = ""


class Poller:
    """Reads a backend while somebody watches.

    Args:
        backend: which.
        every: seconds from look to look.
        linger: seconds for which it goes on after the last viewer, who may only turn a page.
    """

    def __init__(self, backend: Backend, *, every: float = 1.0, linger: float = _LINGER) -> None:
        self.backend = backend
        self.every = every
        self.history = History()
        self.seen = Seen()
        self._linger = linger
        self._viewers: set[Shows] = set()
        self._left_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Condition()
        self._reading = asyncio.Lock()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    @property
    def reading(self) -> bool:
        """Whether the backend is read again and again."""
        return self._task is not None

    @asynccontextmanager
    async def watching(self, shows: Shows) -> AsyncIterator[AsyncIterator[Seen]]:
        """Watch: the poller runs meanwhile, and what it sees can be iterated over."""
        self._viewers.add(shows)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with aclosing(self._looks()) as looks:
                yield looks
        finally:
            self._viewers.discard(shows)
            self._left_at = clock.now()

    async def snapshot(self) -> Snapshot:
        """Return what is there now, at most `every` seconds old; raises what the backend raises."""
        async with self._reading:
            known = self.seen.snapshot
            if known is None or self.seen.error or clock.now() - known.taken_at > max(self.every, _SHARE * known.took):
                known = await self._read(lambda: taken(self.backend))
                self.seen = Seen(self.seen.number, known)
            return known

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _looks(self) -> AsyncGenerator[Seen, None]:
        number = -1
        while True:
            # The first one sees at once what another viewer has seen.
            async with self._looked:
                await self._looked.wait_for(lambda: self.seen.number > max(number, 0))  # noqa: B023
            number = self.seen.number
            yield self.seen

    async def _run(self) -> None:
        try:
            while self._viewers or clock.now() < self._left_at + self._linger:
                await self._look()
                async with self._looked:
                    self._looked.notify_all()
                await asyncio.sleep(self.every)
        finally:
            self._task = None
            self.seen = Seen()
            self.history.clear()

    async def _look(self) -> None:
        number, before = self.seen.number + 1, self.seen.snapshot
        try:
            async with self._reading:
                self.seen = Seen(number, await self._newer(before))
        except TaskLocksError as error:
            if not self.seen.error:
                self.history.gap()
            self.seen = Seen(number, before, str(error))
        except Exception as error:
            # A viewer sees that something is wrong, the log says what.
            _logger.exception("the backend cannot be read")
            self.seen = Seen(number, before, f"{type(error).__name__}; the log of `tasklocks web` has it all")

    async def _newer(self, before: Snapshot | None) -> Snapshot:
        """Look again: at everything, if it is time, or at what is open."""
        if before is None or clock.now() >= before.taken_at + max(self.every * 0.9, _SHARE * before.took):
            seen = await self._read(lambda: taken(self.backend))
            listed = {state.name for state in most_troubled(seen, _REMEMBERED)}.union(
                *(v.listed for v in self._viewers)
            )
            self.history.add(seen.at, map(seen.limit, self.history.keep(listed | self._opened(), seen.at)))
            return seen
        opened = self._opened()
        if not opened:
            return before
        seen = await self._read(lambda: refreshed(self.backend, before, opened))
        self.history.add(seen.at, map(seen.limit, opened))
        return seen

    def _opened(self) -> set[str]:
        return set[str]().union(*(viewer.opened for viewer in self._viewers))

    async def _read(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, step)
