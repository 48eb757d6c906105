"""`mongodb://` URLs: what is in them, and what may be shown of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pymongo import MongoClient
from pymongo.errors import ConfigurationError as RefusedSettings
from pymongo.errors import InvalidURI
from pymongo.uri_parser import parse_uri

from tasklocks.errors import ConfigurationError

__all__ = ["DEFAULT_DATABASE", "Place", "read_url"]

DEFAULT_DATABASE = "tasklocks"

# Our own, unless the URL or the options say otherwise. pymongo's are too patient: a waiter looks again every few
# seconds, and whoever renews must know in good time whether it may go on.
_PATIENCE = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 5000, "socketTimeoutMS": 5000}
# Each step can be asked again without harm, so the server need not keep a copy of every answer.
_FIXED = {"retryWrites": False, "appname": "tasklocks"}

_MALFORMED = (
    "a mongodb:// URL cannot be read; it has the form mongodb://[user:password@]host[:port][,host…][/database][?option=…]"
    " or mongodb+srv://[user:password@]host[/database][?option=…], with / : @ ? in a password as %-escapes"
)


@dataclass(frozen=True)
class Place:
    """A database, and how to reach it.

    Attributes:
        url: as it was given, with credentials.
        shown: hosts and database, without credentials.
        database: where the collections are.
        options: of the client.
    """

    url: str = field(repr=False)
    shown: str
    database: str
    options: Mapping[str, Any] = field(repr=False)

    def open(self) -> MongoClient[dict[str, Any]]:
        """Return a client of this process."""
        return MongoClient(self.url, **self.options)


def read_url(url: str, options: Mapping[str, Any]) -> Place:
    """Return what the URL says; nothing is contacted.

    Raises:
        ConfigurationError: it is malformed, or an option is unknown.
    """
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    name, _, query = path.partition("?")
    hosts = authority.rpartition("@")[2]
    # A slash in a password would make the rest of it a part of the path, and of what we show.
    if not hosts or "@" in name or "?" in authority:
        raise ConfigurationError(_MALFORMED)
    named = {key.lower() for key in _options(query)} | {key.lower() for key in options}
    _check(url if scheme == "mongodb" else "mongodb://host", options)
    ours = {key: value for key, value in _PATIENCE.items() if key.lower() not in named}
    database = unquote(name) or DEFAULT_DATABASE
    return Place(url, f"{scheme}://{hosts}/{database}", database, {**ours, **options, **_FIXED})


def _options(query: str) -> Mapping[str, Any]:
    # Asked about a host of our own, for what pymongo says about the whole URL may quote a part of the password.
    try:
        options: Mapping[str, Any] = parse_uri(f"mongodb://host/?{query}")["options"]
    except (InvalidURI, RefusedSettings, ValueError) as error:
        raise ConfigurationError(f"a mongodb:// URL has an option that cannot work: {error}") from None
    return options


def _check(url: str, options: Mapping[str, Any]) -> None:
    try:
        parse_uri(url)
    except (InvalidURI, RefusedSettings, ValueError):
        raise ConfigurationError(_MALFORMED) from None
    try:
        MongoClient("mongodb://host", connect=False, **options).close()
    except (RefusedSettings, ValueError, TypeError) as error:
        raise ConfigurationError(f"an option of the MongoDB client cannot work: {error}") from None
