"""Django's settings for a database that is given in one word."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

__all__ = ["database"]


def database(where: str) -> dict[str, Any]:
    """Return the settings for the URL of a PostgreSQL, or for the path of a SQLite file."""
    if "://" not in where:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": where, "OPTIONS": {"timeout": 60}}
    at = urlsplit(where)
    its = {"HOST": at.hostname, "PORT": at.port, "USER": at.username, "NAME": at.path[1:]}
    return {"ENGINE": "django.db.backends.postgresql", **its}
