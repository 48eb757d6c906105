"""What Django's settings say about one of its databases, and how to reach it beside Django's own connections.

A step must not run on the connection of a request or a task: what is taken inside `atomic()` would vanish when that is
rolled back, and would be seen by nobody before it is committed. So connections are made from the same settings, but
are not Django's: no query log, no `assertNumQueries`, no hooks of `execute`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, utils

from tasklocks.errors import ConfigurationError

__all__ = ["MIGRATE", "Target", "in_test_run", "read"]

MIGRATE = (
    "the tables of tasklocks are not in {where}: add 'tasklocks.contrib.django' to INSTALLED_APPS "
    "and run `manage.py migrate{database}`"
)

_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """One of Django's databases.

    Attributes:
        alias: its key in `DATABASES`.
        timeout: seconds after which a step that is not answered counts as a backend that is down.
    """

    alias: str
    timeout: float

    @property
    def where(self) -> str:
        """How messages call it; nothing secret."""
        return f"Django's database {self.alias!r}"

    @property
    def name(self) -> str:
        """What `NAME` is now: Django changes it for the time of a test run."""
        return str(_settings(self.alias)["NAME"])

    @property
    def vendor(self) -> str:
        """Which kind of database it is, as Django calls it: `postgresql` or `sqlite`, for example."""
        try:
            vendor: str = self.wrapper().vendor
        except ImproperlyConfigured as error:
            raise ConfigurationError(f"{self.where}: {error}") from error
        return vendor

    @property
    def not_migrated(self) -> str:
        """What to say if the tables are missing."""
        database = "" if self.alias == "default" else f" --database={self.alias}"
        return MIGRATE.format(where=self.where, database=database)

    def wrapper(self) -> Any:
        """Return a wrapper of Django's for this database which nobody else uses. It has no connection."""
        settings = dict(_settings(self.alias))
        # A connection that is borrowed for ever, and listened at, does not belong into somebody else's pool.
        settings["OPTIONS"] = {key: value for key, value in settings["OPTIONS"].items() if key != "pool"}
        return utils.load_backend(settings["ENGINE"]).DatabaseWrapper(settings, self.alias)

    def in_transaction(self) -> bool:
        """Whether this thread is inside `atomic()` on Django's own connection to it."""
        return bool(connections[self.alias].in_atomic_block)


def read(url: str, options: Mapping[str, object]) -> Target:
    """Return what a `django://alias?timeout=5` URL means.

    Raises:
        ConfigurationError: no such database, or an unknown option.
    """
    alias, _, query = url.partition("://")[2].partition("?")
    alias = unquote(alias.rstrip("/")) or "default"
    given = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    target = Target(alias, _seconds(given.pop("timeout", _TIMEOUT)))
    if given:
        raise ConfigurationError(f"django:// knows the option timeout, not {', '.join(sorted(given))}")
    _settings(alias)
    return target


def in_test_run() -> bool:
    """Whether Django's test runner (or pytest-django) has set up its environment in this process.

    It drops its databases at the end, which fails while anybody is connected; so then nothing is kept open.
    """
    # Where it puts the mails that tests send; documented, and there for that time only.
    return getattr(sys.modules.get("django.core.mail"), "outbox", None) is not None


def _settings(alias: str) -> Any:
    try:
        known = connections.settings
    except ImproperlyConfigured as error:
        raise ConfigurationError(
            f"django:// needs a Django project, and its settings cannot be read: {error}"
        ) from error
    if alias not in known:
        raise ConfigurationError(f"django://{alias}: DATABASES has no {alias!r}, only {', '.join(sorted(known))}")
    return known[alias]


def _seconds(value: Any) -> float:
    try:
        timeout = float(value)
    except (TypeError, ValueError):
        timeout = -1.0
    if not 0 < timeout < math.inf:
        raise ConfigurationError(f"django://: timeout must be a number of seconds, not {value!r}")
    return timeout
