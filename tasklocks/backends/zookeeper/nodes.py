"""Names and contents of a limit's nodes. What a step must know of the others stands in the names: one listing shows it.

Permits, kind and order are in the name; who it is and for how long is in the node, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from tasklocks.backends.base import GRANT_TTL

__all__ = [
    "AWAY",
    "GRANTED",
    "KEPT",
    "LEASE",
    "LEASES",
    "WAITER",
    "Header",
    "Node",
    "Row",
    "away_until",
    "digest",
    "epoch_of",
    "in_order",
    "limit_node",
    "name_in",
    "node_name",
    "prefix_node",
    "read",
    "read_header",
    "row",
    "written",
    "written_header",
]

LEASE, GRANTED, KEPT, WAITER, AWAY = "l", "g", "k", "w", "a"
LEASES = (LEASE, GRANTED, KEPT)

_CLOCKS_DIFFER = 5.0  # seconds by which the clocks of two leaders may be apart
_READABLE = 100  # characters of a limit's name that its node shows
_WRAP = 1 << 32  # the server's sequence numbers are 32 bits wide and start again below zero


@dataclass(frozen=True, slots=True)
class Node:
    """One child of a limit, as its name tells."""

    path: str
    kind: str
    permits: int
    digest: str
    seq: int


@dataclass(frozen=True, slots=True)
class Row:
    """One child of a limit with its content; `until` and `since` are on the server's clock.

    until: when it ends unless renewed; None for a waiter of whom nobody has noticed yet that it is granted.
    version: of the content; a delete that names it touches nothing that was renewed meanwhile.
    marked: a waiter that was seen to be granted.
    epoch: which leader's clock stamped it.
    """

    node: Node
    owner: str
    ttl: float
    info: str
    token: int
    since: float
    until: float | None
    version: int
    marked: bool = False
    epoch: int = 0

    def is_over(self, now: float, epoch: int) -> bool:
        """Tell whether it has ended, by the clock of the leader of `epoch`."""
        if self.until is None:
            return False
        return self.until + (0.0 if self.epoch == epoch else _CLOCKS_DIFFER) <= now


@dataclass(frozen=True, slots=True)
class Header:
    """What a limit's own node holds; `lowered` is the server time at which the capacity last became smaller."""

    capacity: int
    usual_hold: float | None
    version: int
    lowered: float = 0.0


def epoch_of(zxid: int) -> int:
    """Return which leader made a transaction."""
    return zxid >> 32


def digest(text: str) -> str:
    """Return a short stand-in for an owner or a ticket; names of nodes are listed often and must be short."""
    return blake2b(text.encode(), digest_size=10).hexdigest()


def prefix_node(prefix: str) -> str:
    """Return the name of the node of a prefix: one path component, whatever the prefix is."""
    return _component(prefix)


@lru_cache(maxsize=4096)
def limit_node(name: str) -> str:
    """Return the limit's path below the prefix; the first part only keeps listings short."""
    return f"{digest(name)[:2]}/{_component(name)}"


def node_name(kind: str, permits: int, who: str, seq: int | None = None) -> str:
    """Return a child's name; without `seq` the server appends one."""
    return f"{kind}-{permits}-{who}-{'' if seq is None else format(seq, '010d')}"


def read(folder: str, name: str) -> Node | None:
    """Return what a child's name tells; None if it is not one of ours."""
    try:
        kind, permits, who, seq = name.split("-", 3)
        return Node(f"{folder}/{name}", kind, int(permits), who, int(seq))
    except ValueError:
        return None


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes, first come first; right also where the server's numbers wrap around."""
    listed = list(nodes)
    if not listed:
        return []
    middle = listed[0].seq - _WRAP // 2
    return sorted(listed, key=lambda node: (node.seq - middle) % _WRAP)


def away_until(node: Node) -> float:
    """Return the server time until which one who is away keeps its place."""
    return int(node.digest.split(".")[1]) / 1000


def written(owner: str, ttl: float, info: str, **more: Any) -> bytes:
    """Return the content of a lease's or a waiter's node."""
    return json.dumps({"owner": owner, "ttl": ttl, "info": info, **more}).encode()


def row(node: Node, content: bytes, stat: Any, token: int) -> Row:
    """Return the node with its content; what somebody else wrote there by hand counts as an ended lease."""
    said = _object(content)
    marked = bool(said.get("marked"))
    ttl = _number(said.get("ttl"))
    lasts = min(ttl, GRANT_TTL) if marked else ttl
    written_at = stat.mtime / 1000
    return Row(
        node=node,
        owner=str(said.get("owner", "")),
        ttl=ttl,
        info=str(said.get("info", "")),
        token=int(_number(said.get("token"))) or token,
        since=written_at if node.kind == WAITER else stat.ctime / 1000,
        until=None if node.kind == WAITER and not marked else written_at + lasts,
        version=stat.version,
        marked=marked,
        epoch=epoch_of(stat.mzxid),
    )


def written_header(name: str, header: Header) -> bytes:
    """Return the content of a limit's own node; the name is for people who look at it."""
    said = {"capacity": header.capacity, "usual_hold": header.usual_hold, "lowered": header.lowered}
    return json.dumps({"name": name, **said}).encode()


def name_in(content: bytes) -> str:
    """Return the name of the limit whose own node says this; empty if it says none."""
    return str(_object(content).get("name", ""))


def read_header(content: bytes, version: int) -> Header:
    """Return what a limit's own node says."""
    said = _object(content)
    hold = said.get("usual_hold")
    capacity, lowered = int(_number(said.get("capacity"))), _number(said.get("lowered"))
    return Header(capacity, None if hold is None else _number(hold), version, lowered)


def _component(text: str) -> str:
    quoted = quote(text, safe="").replace("~", "%7E")
    if len(quoted) > _READABLE:
        return f"{quoted[:_READABLE]}~{blake2b(text.encode(), digest_size=16).hexdigest()}"
    # ZooKeeper refuses the names "." and "..", which quoting leaves as they are.
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _object(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
