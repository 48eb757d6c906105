"""Real MongoDB servers for the tests: alone, as a replica set of one, and as a replica set of three."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.processes import eventually
from tests.servers import Server

__all__ = ["MongoReplicaSet", "MongoServer", "StandaloneMongoServer"]

# Elections within a second or two instead of a dozen.
_SETTINGS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 250}
_WIRED = [
    "--setParameter",
    "ttlMonitorSleepSecs=1",
    "--wiredTigerCacheSizeGB",
    "0.25",
    "--nounixsocket",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
]


class StandaloneMongoServer(Server):
    """One mongod without a replica set; it keeps its data over a restart.

    Args:
        folder: where its data and its log go.
        options: further options of mongod, as on its command line.
    """

    program = "mongod"
    start_timeout = 60.0

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    @classmethod
    def installed(cls) -> bool:
        return cls._program() is not None

    @classmethod
    def _program(cls) -> str | None:
        # tools/mongod_install.sh puts it beside the interpreter that runs the tests.
        return shutil.which(cls.program) or shutil.which(cls.program, path=f"{sys.prefix}/mongodb/fiftyone/db/bin")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"mongodb://{self.address}/tests"

    def command(self) -> Sequence[str]:
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        own = ["--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1", *_WIRED]
        return [self._program() or self.program, *own, *self.options]

    def ready(self) -> bool:
        return "setName" in self.hello() or self.hello().get("isWritablePrimary", False)

    def hello(self) -> dict[str, Any]:
        """What the server says about itself; empty if it does not answer."""
        return _admin(self.address, "hello")


class MongoServer(StandaloneMongoServer):
    """A replica set of one: what a single server should be, for it has a log of changes."""

    set_name = "tests"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, "--replSet", self.set_name, *options)

    @property
    def url(self) -> str:
        return f"{super().url}?replicaSet={self.set_name}"

    def ready(self) -> bool:
        found = self.hello()
        if found and "setName" not in found:
            _admin(self.address, "replSetInitiate", _set_of(self.set_name, [self]))
        return bool(found.get("isWritablePrimary"))


class MongoReplicaSet:
    """Three members, one of which is the primary; leaving its `with` block stops them."""

    set_name = "tests"

    def __init__(self, folder: Path, members: int = 3) -> None:
        options = ("--replSet", self.set_name)
        self.members = [_Member(folder / f"member-{number}", *options) for number in range(members)]

    @classmethod
    def installed(cls) -> bool:
        return MongoServer.installed()

    @property
    def url(self) -> str:
        return f"mongodb://{','.join(each.address for each in self.members)}/tests?replicaSet={self.set_name}"

    @property
    def primary(self) -> StandaloneMongoServer | None:
        """The member that takes writes now; None while there is none."""
        return next((each for each in self.members if each.hello().get("isWritablePrimary")), None)

    def leader(self) -> StandaloneMongoServer:
        """Return the primary, waiting for an election if need be."""
        found: list[StandaloneMongoServer | None] = []
        assert eventually(lambda: found.append(self.primary) or found[-1], within=20, every=0.1), "no primary"
        return found[-1]

    def step_down(self) -> None:
        """Let another member become the primary, in an orderly way."""
        _admin(self.primary.address, {"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5})

    def start(self) -> MongoReplicaSet:
        for each in self.members:
            each.start()
        _admin(self.members[0].address, "replSetInitiate", _set_of(self.set_name, self.members))
        self.await_members(len(self.members))
        return self

    def await_members(self, count: int) -> None:
        """Return when a primary and `count` members in all serve."""
        if not eventually(lambda: self._serving() >= count and self.primary, within=60, every=0.1):
            raise RuntimeError(f"the replica set has {self._serving()} members that serve, not {count}")

    def stop(self) -> None:
        for each in self.members:
            if each.process is not None:
                each.kill()  # a polite stop waits for the others

    def __enter__(self) -> MongoReplicaSet:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serving(self) -> int:
        found = [each.hello() for each in self.members]
        return sum(1 for each in found if each.get("isWritablePrimary") or each.get("secondary"))


class _Member(StandaloneMongoServer):
    def ready(self) -> bool:
        return bool(self.hello())


def _set_of(name: str, members: Sequence[StandaloneMongoServer]) -> dict[str, Any]:
    hosts = [{"_id": number, "host": each.address} for number, each in enumerate(members)]
    return {"_id": name, "members": hosts, "settings": _SETTINGS}


def _admin(address: str, command: Any, value: Any = 1) -> dict[str, Any]:
    with (
        suppress(PyMongoError),
        MongoClient(
            f"mongodb://{address}/?directConnection=true", serverSelectionTimeoutMS=500, socketTimeoutMS=20_000
        ) as client,
    ):
        return client.admin.command(command, value)
    return {}
