"""SQL from files, filled in: as plain text, or prepared once a connection, which saves PostgreSQL most of its work."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tasklocks.backends.base import GRANT_TTL, HOLD_WEIGHT, HOLDERS_SHOWN, RETENTION, SHORTER_HOLD_WEIGHT
from tasklocks.errors import ConfigurationError

__all__ = ["Statement", "array", "literal"]

_CONSTANTS = {
    "now": "extract(epoch FROM clock_timestamp())::float8",
    "grant_ttl": f"{GRANT_TTL}::float8",
    "retention": f"{RETENTION}::float8",
    "weight": f"{HOLD_WEIGHT}::float8",
    "shorter_weight": f"{SHORTER_HOLD_WEIGHT}::float8",
    "shown": str(HOLDERS_SHOWN),
}
# Of what a prepared statement is given.
_TYPES = {
    **dict.fromkeys(["key", "owner", "full", "info", "ticket", "address"], "text"),
    **dict.fromkeys(["permits", "capacity", "away"], "int"),
    **dict.fromkeys(["ttl", "keep", "since"], "float8"),
    **dict.fromkeys(["keys", "names", "owners"], "text[]"),
    "numbers": "int[]",
    "ttls": "float8[]",
}
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        name: its file in `sql/`.
        facts: what stands in the places of the names in braces, as SQL.
    """

    name: str
    facts: Mapping[str, str]

    def plain(self) -> str:
        """Return it as it is."""
        return _text(self.name).format_map({**_CONSTANTS, **self.facts})

    @property
    def can_be_prepared(self) -> bool:
        """Whether nothing but values stands in its places."""
        return all(field in _TYPES for field in _fields(self.name))

    def prepare(self) -> str:
        """Return what prepares it on a connection."""
        fields = _fields(self.name)
        numbered = {field: f"${number}" for number, field in enumerate(fields, 1)}
        types = f"({', '.join(_TYPES[field] for field in fields)})" if fields else ""
        return f"PREPARE tasklocks_{self.name} {types} AS {_text(self.name).format_map({**_CONSTANTS, **numbered})}"

    def execute(self) -> str:
        """Return what does it where it is prepared."""
        values = ", ".join(self.facts[field] for field in _fields(self.name))
        return f"EXECUTE tasklocks_{self.name} ({values})" if values else f"EXECUTE tasklocks_{self.name}"


def literal(value: str | float | None) -> str:
    """Return a value as SQL; it reads the same whatever the server's settings for backslashes are."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"'{value!r}'::float8"
    if isinstance(value, int):
        return str(value)
    if "\0" in value:
        raise ConfigurationError("PostgreSQL keeps no text with a zero character in it")
    quoted = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{quoted}'"


def array(values: Iterable[str | float], kind: str) -> str:
    """Return values as an SQL array."""
    return f"ARRAY[{', '.join(map(literal, values))}]::{kind}[]"


@cache
def _text(name: str) -> str:
    text = (resources.files(__package__) / "sql" / f"{name}.sql").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


@cache
def _fields(name: str) -> list[str]:
    return [field for field in dict.fromkeys(_FIELD.findall(_text(name))) if field not in _CONSTANTS]
