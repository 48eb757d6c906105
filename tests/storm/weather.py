"""What happens to the processes of a storm: they are killed, frozen and cut off from their server, at random."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.relay import Relay

__all__ = ["Weather", "holder_in"]


@dataclass
class Weather:
    """Disasters for a crew, one after another, until `blow` returns; then everything runs and is connected again.

    Attributes:
        pids: who can be hit now.
        kill: end one, in whatever state it is, and see to its successor.
        freeze: stop one.
        thaw: let it go on.
        relays: between the crew and its server.
        holder: one that holds a permit right now, if somebody does.
        scale: seconds; freezes and cuts last up to twice that.
    """

    pids: Callable[[], Sequence[int]]
    kill: Callable[[int], Any]
    freeze: Callable[[int], Any]
    thaw: Callable[[int], Any]
    relays: Sequence[Relay]
    holder: Callable[[], int | None]
    scale: float
    happened: list[str] = field(default_factory=list)
    _undo: dict[object, tuple[float, Callable[[], Any]]] = field(default_factory=dict)

    def blow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        others = [self._kill, self._freeze, *([self._cut, self._hold] if self.relays else [])]
        while time.monotonic() < end:
            # Each kind in turn, so that none is missing in a short storm; who, when and for how long is chance.
            for kind in [self._freeze_holder, *random.sample(others, len(others))]:
                self._rest(random.uniform(0, self.scale / 2))
                kind()
        for what in list(self._undo):
            self._clear(what)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for what, (until, _) in list(self._undo.items()):
                if until <= now:
                    self._clear(what)
            time.sleep(0.01)

    def _clear(self, what: object) -> None:
        _, undo = self._undo.pop(what)
        undo()

    def _victim(self) -> int:
        # Who is frozen stays so: what it does when it wakes up is what is to be seen.
        awake = [pid for pid in self.pids() if pid not in self._undo]
        pid = self.holder() if random.random() < 0.7 else None
        return pid if pid in awake else random.choice(awake)

    def _kill(self) -> None:
        self.kill(self._victim())
        self.happened.append("killed")

    def _freeze(self) -> None:
        if len(self.pids()) - len(self._undo) > 2:
            pid = self._victim()
            self.freeze(pid)
            self._later(pid, lambda: self.thaw(pid), "frozen", random.uniform(0.1, 1.0))

    def _freeze_holder(self) -> None:
        """Freeze one that holds a permit, for longer than its lease lasts."""
        give_up = time.monotonic() + 2 * self.scale
        while time.monotonic() < give_up:
            pid = self.holder()
            if pid is None or pid in self._undo or pid not in self.pids():
                self._rest(0.005)
                continue
            self.freeze(pid)
            if self.holder() == pid:
                self._later(pid, lambda pid=pid: self.thaw(pid), "overtaken", random.uniform(1.1, 2.0))
                return
            self.thaw(pid)  # it was quicker

    def _cut(self) -> None:
        random.choice(self.relays).cut()
        self.happened.append("cut")

    def _hold(self) -> None:
        relay = random.choice(self.relays)
        relay.hold()
        self._later(relay, relay.let_go, "held up", random.uniform(0.1, 2.0))

    def _later(self, what: object, undo: Callable[[], Any], name: str, share: float) -> None:
        self._undo[what] = (time.monotonic() + share * self.scale, undo)
        self.happened.append(name)


def holder_in(journal: Path) -> int | None:
    """Return the process that was the last to get a lease and has not given it back yet, as far as can be seen."""
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4000))
        lines = [line.split() for line in file.read().decode().splitlines()[1:]]
    ended = {line[4] for line in lines if line[0] == "released"}
    holders = [int(line[2]) for line in lines if line[0] in ("granted", "sure") and line[4] not in ended]
    return holders[-1] if holders else None
