"""A real PostgreSQL for the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.servers import Server

__all__ = ["PostgresServer", "new_postgresql_database"]

# Debian keeps the programs of each version in a folder of its own, and puts none of them on the PATH.
_FOLDERS = "/usr/lib/postgresql"
_USER = "postgres"
# Nobody pulls a plug here: what a killed server wrote is in the system's cache.
_OPTIONS = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1"]


class PostgresServer(Server):
    """One PostgreSQL that keeps its data over a restart, until its `with` block is left.

    Args:
        folder: where its log goes; its data are in a folder of their own, for it does not run as root.
        options: further options of postgres, as on its command line.
    """

    program = "postgres"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        self.data: Path | None = None

    @classmethod
    def installed(cls) -> bool:
        return _program("postgres") is not None

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[str]:
        if self.data is None:
            self.data = _new_data()
        own = ["-D", str(self.data), "-p", str(self.port), *_OPTIONS]
        return [*_unprivileged(self.data), _program("postgres"), *own, *self.options]

    def ready(self) -> bool:
        asked = [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        # Its word for "now"; at SIGTERM it waits for its clients to go.
        self.process.stop(signal.SIGINT)

    def kill(self) -> None:
        self._tell_all(signal.SIGKILL)
        self.process.kill()

    def pause(self) -> None:
        self._tell_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._tell_all(signal.SIGCONT)

    def _tell_all(self, number: int) -> None:
        # Each of its processes is in a group of its own. The first one first, for it would start others.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.process.send(number)
        for pid in children.read_text().split() if children.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        shutil.rmtree(self.data, ignore_errors=True)


def new_postgresql_database(url: str) -> str:
    """Return the URL of a database of the server at `url` that nobody has used yet."""
    import secrets

    import psycopg

    name = f"tests_{secrets.token_hex(8)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url.rpartition('/')[0]}/{name}"


def _program(name: str) -> str | None:
    folders = sorted(Path(_FOLDERS).glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    found = (shutil.which(name, path=str(folder)) for folder in folders)
    return next((path for path in found if path), None) or shutil.which(name)


def _new_data() -> Path:
    data = Path(tempfile.mkdtemp(prefix="tasklocks-postgresql-"))
    if os.getuid() == 0:
        shutil.chown(data, _USER, _USER)
    made = [_program("initdb"), "-D", str(data), "-U", _USER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run([*_unprivileged(data), *made], check=True, capture_output=True)
    return data


def _unprivileged(folder: Path) -> list[str]:
    """Return what stands in front of a command that refuses to run as root, or where it may not look."""
    there = ["env", f"--chdir={folder}"]
    if os.getuid() != 0:
        return there
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", *there]
