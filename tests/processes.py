"""Child processes of the tests: each in a process group of its own, none of which outlives the test session.

A group is stopped by its id. A reaper, one small process a session, holds the other end of a pipe: when the test
session is gone, even by SIGKILL, it kills every group that is still on its list.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["ROOT", "ChildProcess", "eventually", "free_port"]

ROOT = Path(__file__).resolve().parent.parent

_REAPER = """
import os, select, signal, sys
parent, groups = os.getppid(), set()
os.setsid()
while os.getppid() == parent:
    if not select.select([sys.stdin], [], [], 0.5)[0]:
        continue
    line = sys.stdin.buffer.raw.readline().decode()
    if not line:
        break
    group = int(line[1:])
    (groups.add if line[0] == "+" else groups.discard)(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class _Reaper:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.process = subprocess.Popen([sys.executable, "-c", _REAPER], stdin=subprocess.PIPE, bufsize=0)
        atexit.register(self.close)

    def tell(self, sign: str, group: int) -> None:
        self.process.stdin.write(f"{sign}{group}\n".encode())

    def close(self) -> None:
        if os.getpid() == self.pid:
            self.process.stdin.close()
            self.process.wait()


_reapers: list[_Reaper] = []


def _reaper() -> _Reaper:
    if not _reapers or _reapers[-1].pid != os.getpid():
        _reapers.append(_Reaper())
    return _reapers[-1]


class ChildProcess:
    """A command in a process group of its own, with its output in a file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.log_path = log
        reaper = _reaper()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        reaper.tell("+", self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def send(self, number: int, *, group: bool = False) -> None:
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def pause(self) -> None:
        self.send(signal.SIGSTOP, group=True)

    def resume(self) -> None:
        self.send(signal.SIGCONT, group=True)

    def wait(self, timeout: float | None = None) -> int:
        return self._process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM, *, within: float = 10.0) -> None:
        """End it: by `number` to its leader, and by SIGKILL whatever is left of the group after `within` seconds."""
        self.resume()
        self.send(number)
        with suppress(subprocess.TimeoutExpired):
            self.wait(within)
        self.kill()

    def kill(self) -> None:
        """End the whole group at once."""
        self.send(signal.SIGKILL, group=True)
        self.wait()
        _reaper().tell("-", self.pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(condition: Callable[[], object], *, within: float, every: float = 0.02) -> bool:
    """Return whether `condition` became true within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return bool(condition())
