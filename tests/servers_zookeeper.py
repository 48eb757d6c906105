"""Real ZooKeeper servers for the tests, alone and as an ensemble."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.processes import ChildProcess, eventually, free_port
from tests.servers import Server

__all__ = ["ZooKeeperEnsemble", "ZooKeeperServer"]

_JARS = "/usr/share/java"


class ZooKeeperServer(Server):
    """ZooKeeper with half-second ticks, so that sessions may be as short as a second.

    Args:
        folder: where its data and its log go.
        number: which of an ensemble it is.
        settings: further lines of its configuration, as those that name all members of an ensemble.
        idle_check: seconds between two looks for nodes that go by themselves when they are empty.
        properties: of the Java machine.
    """

    program = "java"

    def __init__(
        self,
        folder: Path,
        number: int = 1,
        settings: Sequence[str] = (),
        *,
        idle_check: float = 60.0,
        properties: Sequence[str] = (),
    ) -> None:
        super().__init__(folder)
        self.idle_check = idle_check
        self.number = number
        self.settings = settings
        self.properties = properties

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.program) is not None and Path(_JARS, "zookeeper.jar").exists()

    @property
    def url(self) -> str:
        return f"zookeeper://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        (data / "myid").write_text(str(self.number))
        config = self.folder / "zoo.cfg"
        config.write_text(
            f"tickTime=500\ninitLimit=20\nsyncLimit=10\ndataDir={data}\n"
            f"clientPort={self.port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
            "minSessionTimeout=1000\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n"
            + "".join(f"{line}\n" for line in self.settings)
        )
        (self.folder / "logback.xml").write_text("<configuration/>")
        return [
            self.program,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            f"-Dznode.container.checkIntervalMs={self.idle_check * 1000:.0f}",
            # Nobody pulls a plug here: what a killed server wrote is in the system's cache.
            "-Dzookeeper.forceSync=no",
            *(f"-D{each}" for each in self.properties),
            "-cp",
            f"{self.folder}:/etc/zookeeper/conf:{_JARS}/*",
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(config),
        ]

    def launch(self) -> None:
        """Start it and do not wait: one of an ensemble is not ready before the others."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = ChildProcess(self.command(), log=self.folder / "server.log", cwd=self.folder)

    def ready(self) -> bool:
        return "Mode:" in self.ask("srvr")

    def leads(self) -> bool:
        return "Mode: leader" in self.ask("srvr")

    def ask(self, command: str) -> str:
        """Return the answer to a four letter command; empty if there is none."""
        answer = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(command.encode())
            while part := connection.recv(65536):
                answer += part
        return answer.decode()

    def count(self, what: str) -> int:
        """Return a number that the server shows under `mntr`, such as `zk_watch_count`."""
        for line in self.ask("mntr").splitlines():
            if line.startswith(what):
                return int(float(line.split()[1]))
        raise KeyError(what)

    def stop(self) -> None:
        # It has no farewell of its own; what it acknowledged is on disk.
        self.kill()


class ZooKeeperEnsemble:
    """Three servers that elect a leader."""

    def __init__(self, folder: Path) -> None:
        ports = [(free_port(), free_port()) for _ in range(3)]
        lines = [f"server.{at + 1}=127.0.0.1:{peer}:{vote}" for at, (peer, vote) in enumerate(ports)]
        self.members = [ZooKeeperServer(folder / f"zk{at + 1}", at + 1, lines) for at in range(3)]

    @property
    def url(self) -> str:
        return "zookeeper://" + ",".join(f"127.0.0.1:{server.port}" for server in self.members)

    def leader(self, within: float = 20.0) -> ZooKeeperServer:
        found: list[ZooKeeperServer] = []

        def look() -> bool:
            found[:] = [server for server in self.members if server.process.running and server.leads()]
            return bool(found)

        assert eventually(look, within=within), "no leader was elected"
        return found[0]

    def __enter__(self) -> ZooKeeperEnsemble:
        for server in self.members:
            server.launch()
        for server in self.members:
            assert eventually(server.ready, within=30), server.process.log()[-2000:]
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.members:
            server.kill()
