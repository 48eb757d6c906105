"""From a URL to a way of making connections, with errors that never show the URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from tasklocks.errors import ConfigurationError

__all__ = ["Target", "read"]

_FIXED = {"decode_responses": False, "protocol": 2}
# A lock service that does not answer within seconds is down; the callers know how to go on.
_TIMEOUTS = {"socket_timeout": 3.0, "socket_connect_timeout": 3.0, "socket_keepalive": True}
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Target:
    """A Redis to talk to.

    Attributes:
        where: its place as errors show it, without credentials.
        connection: makes a connection that is not connected yet.
    """

    where: str
    connection: Callable[[], AbstractConnection]


def read(url: str, options: Mapping[str, Any]) -> Target:
    """Return what `url` names.

    Args:
        url: as in the documentation.
        options: redis-py's options of a connection; the URL's own ones come first.

    Raises:
        ConfigurationError: it is malformed, or has an option that redis-py does not know.
    """
    scheme = url.partition("://")[0].lower()
    try:
        parts = urlsplit(url)
        target = _sentinel(parts, options) if scheme == "redis+sentinel" else _server(parts, options)
        target.connection()
    except (TypeError, ValueError, AttributeError) as error:
        # redis-py names the option, never its value; urllib shows a malformed port, which may be part of a password.
        reason = str(error) if isinstance(error, (TypeError, ConfigurationError)) else "malformed"
        raise ConfigurationError(f"the {scheme}:// URL does not work: {_without_class(reason)}") from None
    return target


def _server(parts: SplitResult, options: Mapping[str, Any]) -> Target:
    _check_database(parts.path.strip("/"))
    settings = {**_defaults(), **options, **parse_url(urlunsplit(parts)), **_FIXED}
    kind = settings.pop("connection_class", None)
    pool = ConnectionPool(**({"connection_class": kind} if kind else {}), **settings)
    host, port = settings.get("host", "localhost"), settings.get("port", 6379)
    return Target(f"{parts.scheme}://{host}:{port}/{settings.get('db', 0)}", _maker(pool))


def _sentinel(parts: SplitResult, options: Mapping[str, Any]) -> Target:
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigurationError("it names no service: redis+sentinel://host:26379/service/database")
    _check_database(database)
    first = f"{credentials}@localhost" if credentials else "localhost"
    plain = urlunsplit(("redis", first, f"/{database}", parts.query, ""))
    settings = {**_defaults(), **options, **parse_url(plain), **_FIXED}
    settings.pop("host", None)
    settings["ssl"] = str(settings.get("ssl", "")).lower() in ("1", "true", "yes")
    sentinels = [_host_and_port(host) for host in hosts.split(",")]
    guards = Sentinel(sentinels, sentinel_kwargs=_own_settings(settings))
    return Target(f"redis+sentinel://{hosts}/{service}/{database or 0}", _maker(_pool(service, guards, settings)))


def _pool(service: str, guards: Sentinel, settings: Mapping[str, Any]) -> SentinelConnectionPool:
    return SentinelConnectionPool(service, guards, **settings)


def _own_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Take what is for the sentinels themselves out of `settings`; return it."""
    own = {name: settings.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    return {**_TIMEOUTS, **{name: value for name, value in own.items() if value is not None}}


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or _SENTINEL_PORT


def _maker(pool: ConnectionPool) -> Callable[[], AbstractConnection]:
    # Of the pool only its settings are used. The connections it hands out cost more than a command does.
    return lambda: pool.connection_class(**pool.connection_kwargs)


def _defaults() -> dict[str, Any]:
    # How often to try again is for the callers to say: they know until when an answer is of use.
    return {**_TIMEOUTS, "retry": Retry(NoBackoff(), 0)}


def _check_database(text: str) -> None:
    if text and not text.isdecimal():
        raise ConfigurationError(f"the database must be a number, not {text!r}")


def _without_class(reason: str) -> str:
    return reason.partition(".__init__() ")[2] or reason
