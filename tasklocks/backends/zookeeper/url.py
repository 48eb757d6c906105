"""`zookeeper://user:password@h1:2181,h2/chroot?option=value`: what it says, with its credentials kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl, unquote

from tasklocks.errors import ConfigurationError

__all__ = ["Settings", "read_url"]

_PORT = 2181
_NUMBERS = {"timeout": 5.0, "session_timeout": 9.0}
_FLAGS = ("use_ssl", "verify_certs", "check_hostname")
_TEXTS = ("ca", "certfile", "keyfile", "keyfile_password")
_KNOWN = (*_NUMBERS, *_FLAGS, *_TEXTS, "sasl_mechanism", "sasl_options")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the ensemble is and how to talk to it.

    Attributes:
        hosts: `h1:2181,h2:2181`.
        chroot: the path below which everything is kept, without a slash at its end; empty for the root.
        timeout: seconds that a step waits for an answer.
        session_timeout: seconds after which the servers drop what a silent process had in line.
        client: further options of the client; may hold secrets.
    """

    hosts: str
    chroot: str
    timeout: float
    session_timeout: float
    client: Mapping[str, Any] = field(repr=False)


def read_url(url: str, options: Mapping[str, Any]) -> Settings:
    """Return what the URL and the options say.

    Raises:
        ConfigurationError: no host, a wrong port or an unknown option; never shows the credentials.
    """
    rest, _, query = url.partition("://")[2].partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    given: dict[str, Any] = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    _check_names(given)
    return Settings(
        hosts=_hosts(hosts),
        chroot=_chroot(slash + path),
        timeout=_number(given, "timeout"),
        session_timeout=_number(given, "session_timeout"),
        client={**_tls(given), **_login(credentials, given)},
    )


def _hosts(text: str) -> str:
    hosts = [_host(each) for each in text.split(",")]
    return ",".join(hosts)


def _host(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_PORT)
    if not host or not port.isdecimal():
        raise ConfigurationError(
            f"zookeeper://: {text!r} is not a host; write zookeeper://host1:2181,host2:2181/chroot"
        )
    return f"{host}:{port}"


def _chroot(path: str) -> str:
    chroot = unquote(path).rstrip("/")
    if any(part in ("", ".", "..") for part in chroot.split("/")[1:]):
        raise ConfigurationError(f"zookeeper://: {chroot!r} is not a path")
    return chroot


def _login(credentials: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if not given.keys().isdisjoint(("sasl_options", "sasl_mechanism")) and find_spec("puresasl") is None:
        raise ConfigurationError("zookeeper://: SASL needs one more package: pip install 'kazoo[sasl]'")
    if "sasl_options" in given:
        return {"sasl_options": dict(given["sasl_options"])}
    if not credentials:
        return {}
    user, _, password = credentials.partition(":")
    user, password = unquote(user), unquote(password)
    if mechanism := given.get("sasl_mechanism"):
        return {"sasl_options": {"mechanism": mechanism, "username": user, "password": password}}
    return {"auth_data": [("digest", f"{user}:{password}")]}


def _tls(given: Mapping[str, Any]) -> dict[str, Any]:
    flags = {name: _flag(given[name], name) for name in _FLAGS if name in given}
    return {**flags, **{name: given[name] for name in _TEXTS if name in given}}


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false", "1", "0"):
        raise ConfigurationError(f"zookeeper://: {name} must be true or false, not {value!r}")
    return value in ("true", "1")


def _number(given: Mapping[str, Any], name: str) -> float:
    value = given.get(name, _NUMBERS[name])
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < 1e6:
        raise ConfigurationError(f"zookeeper://: {name} must be a number of seconds, not {value!r}")
    return number


def _check_names(given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(_KNOWN))
    if unknown:
        raise ConfigurationError(f"zookeeper:// does not know {', '.join(unknown)}; options: {', '.join(_KNOWN)}")
