"""Starts the page: a socket, its rules, and a server that ends with Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from tasklocks.backends import Backend
from tasklocks.errors import ConfigurationError
from tasklocks.names import escaped
from tasklocks.web.api import routes
from tasklocks.web.guard import Guard, Rules
from tasklocks.web.hiding import digests
from tasklocks.web.poller import Poller

__all__ = ["Options", "application", "serve"]

_TOKEN = "TASKLOCKS_WEB_TOKEN"  # noqa: S105 - the name of a variable
_SHORTEST_TOKEN = 20


@dataclass(frozen=True, slots=True)
class Options:
    """How the page is served.

    Attributes:
        host: where it listens. On another address than loopback, even reading needs the token.
        port: 0: any that is free.
        actions: whether those who have the token may release, resize, pause and resume.
        private: whether reading needs the token on loopback, too.
        hosts: further names under which browsers may ask for it.
        hide_names: whether limits are shown by digests instead of their names.
        every: seconds from look to look while somebody watches.
    """

    host: str = "127.0.0.1"
    port: int = 8787
    actions: bool = False
    private: bool = False
    hosts: tuple[str, ...] = ()
    hide_names: bool = False
    every: float = 1.0

    @property
    def needs_token(self) -> bool:
        """Whether anything at all needs the token."""
        return self.actions or self.reads_need_token

    @property
    def reads_need_token(self) -> bool:
        """Whether even reading needs the token."""
        return self.private or not _is_loopback(self.host)


def serve(backend: Backend, options: Options, started: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        backend: what it shows.
        options: how.
        started: is called with the page's address; the token, if anything needs it, is in the part behind the `#`,
            which browsers send to nobody.

    Raises:
        ConfigurationError: nobody can listen there, or the token that the environment gives is too short.
    """
    rules = rules_of(options)
    with _listening(options) as listener:
        port = listener.getsockname()[1]
        name = f"[{options.host}]" if ":" in options.host else options.host
        fragment = f"#token={rules.token}" if options.needs_token else ""
        config = uvicorn.Config(
            application(backend, options, rules),
            access_log=False,  # searches are in addresses, and names in searches
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,  # streams have no end of their own
            ws="none",
        )
        started(f"http://{name}:{port}/{fragment}")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def application(backend: Backend, options: Options, rules: Rules) -> ASGIApp:
    """Return the page as an ASGI application."""
    poller = Poller(backend, every=options.every)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await poller.close()

    shown = digests() if options.hide_names else escaped
    return Guard(Starlette(routes=routes(poller, shown), lifespan=lifespan), rules)


def rules_of(options: Options) -> Rules:
    """Return who may do what; the token is the environment's, or a new one."""
    hosts = frozenset(name.lower() for name in (options.host, *options.hosts))
    token = os.environ.get(_TOKEN)
    if token is None:
        return Rules(hosts, options.actions, options.reads_need_token)
    if len(token) < _SHORTEST_TOKEN:
        raise ConfigurationError(f"{_TOKEN} must have at least {_SHORTEST_TOKEN} characters")
    return Rules(hosts, options.actions, options.reads_need_token, token)


def _listening(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"nobody can listen at {options.host} port {options.port}: {error.strerror}"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
