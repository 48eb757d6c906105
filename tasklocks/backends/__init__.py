"""`connect`: from a URL to the one backend of this process behind it, with its client imported only then."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from tasklocks.backends.base import Backend
from tasklocks.errors import ConfigurationError

__all__ = ["DEFAULT_PREFIX", "DEFAULT_URL", "Backend", "connect", "fingerprint", "scheme_of", "with_fingerprint"]

DEFAULT_URL = "sqlite:///tasklocks.db"
DEFAULT_PREFIX = "tasklocks"

# scheme: (where the backend is, the extra that brings its client)
_BUILT_IN = {
    "memory": ("tasklocks.backends.memory:MemoryBackend", ""),
    "sqlite": ("tasklocks.backends.sqlite:SQLiteBackend", ""),
    "redis": ("tasklocks.backends.redis:RedisBackend", "redis"),
    "rediss": ("tasklocks.backends.redis:RedisBackend", "redis"),
    "redis+sentinel": ("tasklocks.backends.redis:RedisBackend", "redis"),
    "zookeeper": ("tasklocks.backends.zookeeper:ZooKeeperBackend", "zookeeper"),
    "mongodb": ("tasklocks.backends.mongodb:MongoBackend", "mongodb"),
    "mongodb+srv": ("tasklocks.backends.mongodb:MongoBackend", "mongodb"),
    "etcd": ("tasklocks.backends.etcd:EtcdBackend", "etcd"),
    "etcd+grpc": ("tasklocks.backends.etcd.stubs:EtcdGrpcBackend", "etcd-grpc"),
    "django": ("tasklocks.backends.django:DjangoBackend", "django"),
}

_logger = logging.getLogger("tasklocks")


class _Registry:
    """The backends of this process. A forked child keeps them: their connections are per process anyway."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.backends: dict[tuple[str, str, str], Backend] = {}
        self.fingerprints: dict[Backend, str] = {}
        self.default_announced = False


_registry = _Registry()


def _after_fork() -> None:
    _registry.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def connect(
    url: str | None = None, *, prefix: str = DEFAULT_PREFIX, options: Mapping[str, Any] | None = None
) -> Backend:
    """Return the backend behind `url`: one per URL, prefix and options in each process.

    Nothing is contacted yet: a connection is made by the first use, and made anew after a fork.

    Args:
        url: for example `redis://localhost/0`. None: the environment's `TASKLOCKS_URL`; unset too: the embedded
            `sqlite:///tasklocks.db`, which serves one host.
        prefix: what every key starts with; two applications with two prefixes never meet.
        options: the client's own options, as its documentation names them.

    Raises:
        ConfigurationError: no such scheme, a malformed URL, or its client is not installed.
    """
    resolved = url or os.environ.get("TASKLOCKS_URL") or _default_url()
    key = (resolved, prefix, repr(sorted((options or {}).items())))
    backend = _registry.backends.get(key)
    if backend is not None:
        return backend
    with _registry.lock:
        if key not in _registry.backends:
            made = _backend_class(scheme_of(resolved))(resolved, prefix=prefix, **(options or {}))
            _registry.backends[key] = cast(Backend, made)
            _registry.fingerprints[_registry.backends[key]] = hashlib.sha256(repr(key).encode()).hexdigest()
        return _registry.backends[key]


def fingerprint(backend: Backend) -> str:
    """Return what another process of the same program knows this backend by; it tells nothing of the URL.

    Empty for a backend that `connect` did not make.
    """
    return _registry.fingerprints.get(backend, "")


def with_fingerprint(wanted: str) -> Backend | None:
    """Return this process's backend with that fingerprint, if it has connected to it."""
    found = (backend for backend, its in list(_registry.fingerprints.items()) if its == wanted)
    return next(found, None)


def scheme_of(url: str) -> str:
    """Return the URL's scheme; never shows the URL itself, for it may hold a password."""
    if not isinstance(url, str):
        raise ConfigurationError(f"a backend URL must be a text, not {type(url).__name__}")
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise ConfigurationError(
            f"a backend URL has the form scheme://…, this one does not; schemes: {_known_schemes()}"
        )
    return scheme.lower()


def _default_url() -> str:
    if not _registry.default_announced:
        _registry.default_announced = True
        _logger.warning(
            "tasklocks_url is not set: locks are kept in %s, which serves the processes of this host only; "
            "set tasklocks_url (or TASKLOCKS_URL) for more than one host",
            DEFAULT_URL,
        )
    return DEFAULT_URL


def _backend_class(scheme: str) -> Any:
    if scheme in _BUILT_IN:
        target, extra = _BUILT_IN[scheme]
        return _built_in(scheme, target, extra)
    for found in entry_points(group="tasklocks.backends", name=scheme):
        return found.load()
    raise ConfigurationError(f"no backend for {scheme}:// URLs; schemes: {_known_schemes()}")


def _built_in(scheme: str, target: str, extra: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{scheme}:// needs the package {error.name!r}, which is not installed: pip install 'tasklocks[{extra}]'"
        ) from error


def _known_schemes() -> str:
    plugged = [found.name for found in entry_points(group="tasklocks.backends")]
    return ", ".join([*_BUILT_IN, *plugged])
