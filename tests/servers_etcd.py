"""Real etcd servers for the tests: alone, and as a cluster of three."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.processes import ChildProcess, eventually, free_port
from tests.servers import Server

__all__ = ["EtcdCluster", "EtcdServer", "new_etcd_namespace"]


def new_etcd_namespace(url: str) -> str:
    """Return the URL of a part of the etcd at `url` that nobody has used yet."""
    hosts = url.partition("://")[2].partition("/")[0]
    return f"etcd://{hosts}/tests-{os.getpid()}-{time.time_ns()}"


class EtcdServer(Server):
    """One etcd; it keeps its data over a restart.

    Args:
        folder: where its data and its log go.
        options: further options of etcd, as on its command line.
        scheme: `https` if the options say so.
    """

    program = "etcd"

    def __init__(self, folder: Path, *options: str, scheme: str = "http") -> None:
        super().__init__(folder)
        self.peer_port = free_port()
        self.options = options
        self.scheme = scheme
        self.cluster = f"default={self.peer_url}"
        self.name = "default"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"etcd://{self.address}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def command(self) -> Sequence[str]:
        clients = f"{self.scheme}://{self.address}"
        return [
            *(self.program, "--name", self.name, "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", self.cluster, "--log-level", "warn", *self.options),
        ]

    def launch(self) -> None:
        """Start it without waiting: alone, a member of a cluster never gets ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = ChildProcess(self.command(), log=self.folder / "server.log", cwd=self.folder)

    def ready(self) -> bool:
        with suppress(OSError, KeyError, http.client.HTTPException):
            return "leader" in self.ask("/v3/maintenance/status")
        # With TLS it answers nobody here without a certificate.
        return self.scheme == "https" and "elected leader" in self.process.log()

    def ask(self, path: str, **wish: object) -> dict[str, Any]:
        """Ask the JSON gateway."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("POST", path, json.dumps(wish))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def leases(self) -> set[str]:
        """The ids of all etcd leases."""
        return {lease["ID"] for lease in self.ask("/v3/lease/leases").get("leases", [])}

    def ttl(self, lease: str) -> int:
        """The seconds for which an etcd lease was granted."""
        return int(self.ask("/v3/lease/timetolive", ID=lease).get("grantedTTL", 0))

    def keys(self) -> int:
        """How many keys there are."""
        return int(self.ask("/v3/kv/range", key="AA==", range_end="AA==", count_only=True).get("count", 0))

    def is_leader(self) -> bool:
        with suppress(OSError, KeyError, http.client.HTTPException):
            status = self.ask("/v3/maintenance/status")
            return status["leader"] == status["header"]["member_id"]
        return False


class EtcdCluster:
    """Three members; `url` names them all."""

    def __init__(self, folder: Path) -> None:
        self.members = [EtcdServer(folder / f"member-{number}") for number in range(3)]
        for number, member in enumerate(self.members):
            member.name = f"member-{number}"
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.cluster = cluster

    @property
    def url(self) -> str:
        return "etcd://" + ",".join(member.address for member in self.members)

    def leader(self) -> EtcdServer:
        """Return the member that leads, waiting for an election if need be."""
        assert eventually(lambda: any(member.is_leader() for member in self.members), within=20)
        return next(member for member in self.members if member.is_leader())

    def __enter__(self) -> EtcdCluster:
        for member in self.members:
            member.launch()
        assert eventually(lambda: all(member.ready() for member in self.members), within=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.stop()
