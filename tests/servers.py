"""Real servers for the tests: on free loopback ports, with data of their own, gone when the test session is."""

from __future__ import annotations

import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.processes import ChildProcess, eventually, free_port

__all__ = ["GuardedRedis", "LastingRedisServer", "RabbitServer", "RedisServer", "SentinelServer", "Server"]

S = TypeVar("S", bound="Server")


class Server(ABC):
    """One server process; leaving its `with` block stops it.

    Args:
        folder: where its data and its log go.
    """

    program: str
    start_timeout = 20.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: ChildProcess | None = None

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.program) is not None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def ready(self) -> bool: ...

    def environment(self) -> Mapping[str, str]:
        return {}

    def start(self: S) -> S:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = ChildProcess(
            self.command(), log=self.folder / "server.log", env=self.environment(), cwd=self.folder
        )
        eventually(lambda: self.ready() or not self.process.running, within=self.start_timeout)
        if not self.ready():
            self.kill()
            raise RuntimeError(f"{self.program} did not get ready; its log ends:\n{self.process.log()[-2000:]}")
        return self

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def restart(self: S) -> S:
        self.stop()
        return self.start()

    def __enter__(self: S) -> S:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RedisServer(Server):
    """Redis without persistence: after a restart it is empty.

    Args:
        folder: where its data and its log go.
        options: further options of redis-server, as on its command line.
    """

    program = "redis-server"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--databases", "4096"]
        return [self.program, *own, "--save", "", "--appendonly", "no", *self.options]

    def replica(self, folder: Path, *options: str) -> RedisServer:
        """Return a replica of this server, not started yet."""
        return RedisServer(folder, *self.options, *options, "--replicaof", "127.0.0.1", str(self.port))

    def ready(self) -> bool:
        return _answers(self.port, b"PING\r\n", (b"+PONG", b"-NOAUTH"))


class LastingRedisServer(RedisServer):
    """Redis that has written down each step before it answers, so that a kill takes nothing from it."""

    def command(self) -> Sequence[str]:
        return [*super().command(), "--appendonly", "yes", "--appendfsync", "always"]


class SentinelServer(Server):
    """A Redis sentinel that watches one master under the name `tests`."""

    program = "redis-server"

    def __init__(self, folder: Path, master: RedisServer, *, quorum: int = 1) -> None:
        super().__init__(folder)
        self.master = master
        self.quorum = quorum

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/tests/0"

    def command(self) -> Sequence[str]:
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor tests 127.0.0.1 {self.master.port} {self.quorum}\n"
            "sentinel down-after-milliseconds tests 500\nsentinel failover-timeout tests 3000\n"
        )
        return [self.program, str(config), "--sentinel"]

    def ready(self) -> bool:
        return _answers(self.port, b"PING\r\n", (b"+PONG",))


class GuardedRedis:
    """A primary, its replica and a sentinel that puts the replica in the primary's place."""

    COPYIST = ("copyist", "the-copyists")

    def __init__(self, folder: Path) -> None:
        name, password = self.COPYIST
        may_copy = ["--user", name, "on", f">{password}", "+@all"]
        self.primary = RedisServer(folder / "primary", "--repl-diskless-sync-delay", "0", *may_copy)
        self.replica = self.primary.replica(folder / "replica", "--masteruser", name, "--masterauth", password)
        self.guard = SentinelServer(folder / "guard", self.primary)
        self.members = [self.primary, self.replica]

    @property
    def url(self) -> str:
        return self.guard.url

    def leader(self) -> RedisServer:
        """Return the member that the sentinel names."""
        port = int(_told(self.guard.port, "SENTINEL get-master-addr-by-name tests").split()[-1])
        return next(each for each in self.members if each.port == port)

    def stop_copying(self) -> None:
        """From now on nothing that the primary is told reaches its replica."""
        _told(self.primary.port, f"ACL SETUSER {self.COPYIST[0]} off")
        _told(self.primary.port, "CLIENT KILL TYPE replica")

    def __enter__(self) -> GuardedRedis:
        for each in (*self.members, self.guard):
            each.start()
        copied = "master_link_status:up"
        assert eventually(lambda: copied in _told(self.replica.port, "INFO replication"), within=20)
        assert eventually(
            lambda: str(self.replica.port) in _told(self.guard.port, "SENTINEL replicas tests"), within=20
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self.guard, *self.members):
            each.kill()


class RabbitServer(Server):
    """RabbitMQ as a node of its own, beside its own epmd, so that nothing of a system's node is touched."""

    program = "rabbitmq-server"
    start_timeout = 60.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.epmd_port = free_port()
        self.epmd: ChildProcess | None = None

    @classmethod
    def installed(cls) -> bool:
        return cls._script() is not None and shutil.which("epmd") is not None

    @classmethod
    def _script(cls) -> str | None:
        # The wrapper on the PATH of Debian drops the environment and insists on the system's folders.
        return shutil.which(cls.program, path="/usr/lib/rabbitmq/bin") or shutil.which(cls.program)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def command(self) -> Sequence[str]:
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 10MB\nlog.console = true\n"
            "log.console.level = warning\nlog.file = false\n"
        )
        (self.folder / "plugins").write_text("[].\n")
        return [self._script() or self.program]

    def environment(self) -> Mapping[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_NODENAME": f"tasklocks{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # Two schedulers that sleep when idle: the tests beside it need the processor.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def ready(self) -> bool:
        return _answers(self.port, b"AMQP\x00\x00\x09\x01", (b"\x01\x00\x00",))

    def start(self) -> RabbitServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        # In the foreground, or RabbitMQ would start one as a daemon that outlives it.
        command = ["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)]
        self.epmd = ChildProcess(command, log=self.folder / "epmd.log", cwd=self.folder)
        eventually(lambda: _answers(self.epmd_port, b"\x00\x01n", (b"",)), within=5)
        return super().start()

    def stop(self) -> None:
        # A polite stop takes seconds and protects data that nobody wants.
        self.kill()

    def kill(self) -> None:
        super().kill()
        self.epmd.kill()


def _answers(port: int, question: bytes, answers: tuple[bytes, ...]) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(question)
        return connection.recv(64).startswith(answers)
    return False


def _told(port: int, command: str) -> str:
    """Return a Redis server's answer to a command, as it is on the wire."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        answer = connection.recv(65536).decode()
    assert not answer.startswith("-"), answer
    return answer
