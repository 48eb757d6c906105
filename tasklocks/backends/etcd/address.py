"""Reads `etcd://` URLs: hosts, user, TLS and options. What is secret in them is never shown."""

from __future__ import annotations

import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from tasklocks.errors import ConfigurationError

__all__ = ["Address", "read_address"]

_PORT = 2379
_TIMEOUT = 5.0
_KNOWN = ("timeout", "tls", "ca", "cert", "key", "user", "password")
_YES_AND_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Address:
    """Where etcd is and who asks.

    Attributes:
        hosts: names or addresses with ports; any one will do.
        namespace: what every key starts with.
        user: empty if etcd asks for no password.
        password: never shown.
        timeout: seconds until a step gives up.
        tls: whether connections are encrypted; `ca`, `cert` and `key` are paths of PEM files, or empty.
    """

    hosts: tuple[tuple[str, int], ...]
    namespace: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: float = _TIMEOUT
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def shown(self) -> str:
        """The hosts, for people."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to encrypt; None: not at all."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except OSError as error:
            raise ConfigurationError(
                f"etcd at {self.shown}: ca, cert or key in the URL cannot be read as PEM files: {error}"
            ) from error
        return context


def read_address(url: str, options: Mapping[str, object]) -> Address:
    """Return what `url` says; `options` count more than its query.

    Raises:
        ConfigurationError: no host, a wrong port, or an unknown option; never shows the URL.
    """
    place, _, query = url.partition("://")[2].partition("?")
    place, _, namespace = place.partition("/")
    login, _, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    in_url = {"user": unquote(user), "password": unquote(password)} if login else {}
    given = {**in_url, **dict(parse_qsl(query, keep_blank_values=True)), **options}
    if unknown := sorted(given.keys() - set(_KNOWN)):
        raise ConfigurationError(f"etcd:// knows the options {', '.join(_KNOWN)}, not {', '.join(unknown)}")
    texts = {name: str(given.get(name, "")) for name in ("user", "password", "ca", "cert", "key")}
    tls = _yes_or_no(given["tls"]) if "tls" in given else bool(texts["ca"] or texts["cert"])
    return Address(
        _hosts(hosts), unquote(namespace), timeout=_timeout(given.get("timeout", _TIMEOUT)), tls=tls, **texts
    )


def _hosts(hosts: str) -> tuple[tuple[str, int], ...]:
    found = tuple(_host(each.strip(), number) for number, each in enumerate(hosts.split(","), 1) if each.strip())
    if not found:
        raise ConfigurationError("an etcd:// URL names hosts: etcd://host:2379,host2:2379")
    return found


def _host(text: str, number: int) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if text.startswith("[") and not port.isdigit():
        host, separator, port = text, "", ""
    if not separator:
        host, port = text, str(_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536 or not host:
        # Not shown: without its @, a password would stand here.
        raise ConfigurationError(f"number {number} of the hosts in an etcd:// URL is not host:port")
    return host.strip("[]"), int(port)


def _timeout(value: object) -> float:
    try:
        timeout = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        timeout = -1.0
    if not 0 < timeout < math.inf:
        raise ConfigurationError(f"etcd://: timeout must be a number of seconds, not {value!r}")
    return timeout


def _yes_or_no(value: object) -> bool:
    answer = _YES_AND_NO.get(str(value).lower())
    if answer is None:
        raise ConfigurationError(f"etcd://: tls must be true or false, not {value!r}")
    return answer
