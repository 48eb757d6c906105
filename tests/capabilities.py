"""The table of capabilities in the docs, from the declarations: `python -m tests.capabilities` writes it anew."""

from __future__ import annotations

from tasklocks.backends import _BUILT_IN, _backend_class
from tasklocks.types import Capabilities
from tests.processes import ROOT

__all__ = ["PAGE", "kind", "on_page", "table"]

PAGE = ROOT / "docs" / "backends.md"

_START = "<!-- capabilities -->\n"
_END = "<!-- end of capabilities -->\n"
_HEAD = [
    "backend",
    "push",
    "server's clock",
    "strict order",
    "by waiting time",
    "in one step",
    "several hosts",
    "shortest ttl",
]
# Memory first, then by what they need.
_ORDER = ["memory", "sqlite", "redis", "mongodb", "etcd", "zookeeper"]


def table() -> str:
    """Return the table as it must be."""
    rows = [_HEAD, ["---"] * len(_HEAD)]
    rows += [[_schemes(name), *_cells(_backend_class(name).capabilities)] for name in _ORDER]
    rows += [[f"`django://` on {name}", *_cells(has)] for name, has in _on_django()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def on_page() -> str:
    """Return the table as the docs have it."""
    return PAGE.read_text("utf-8").partition(_START)[2].partition(_END)[0]


def write() -> None:
    """Put the table into the docs."""
    before, start, rest = PAGE.read_text("utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    PAGE.write_text(f"{before}{start}{table()}{end}{after}", "utf-8")


def kind(scheme: str) -> str:
    """Return the module or package of the backend behind a scheme."""
    return _BUILT_IN[scheme][0].split(":")[0].split(".")[2]


def _schemes(name: str) -> str:
    same = [scheme for scheme in _BUILT_IN if kind(scheme) == kind(name)]
    return ", ".join(f"`{scheme}://`" for scheme in same)


def _on_django() -> list[tuple[str, Capabilities]]:
    from tasklocks.backends.django import CAPABILITIES

    return [("PostgreSQL", CAPABILITIES["postgresql"]), ("SQLite", CAPABILITIES["sqlite"])]


def _cells(has: Capabilities) -> list[str]:
    flags = [has.push, has.server_clock, has.strict_order, has.by_since, has.together, has.multi_host]
    return [*("yes" if flag else "no" for flag in flags), f"{has.min_ttl:g} s"]


if __name__ == "__main__":
    write()
