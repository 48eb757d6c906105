"""`web`: the page that shows limits, rate limits and beats, live."""

from __future__ import annotations

from importlib.util import find_spec

import click

from tasklocks.backends import Backend
from tasklocks.cli.access import WRONG, Failed, command
from tasklocks.cli.output import say_json

__all__ = ["web"]


@command
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Elsewhere than on loopback, reading needs a token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0: any that is free.")
@click.option("--allow-actions", "actions", is_flag=True, help="With the token: release, resize, pause and resume.")
@click.option("--private", is_flag=True, help="Reading needs the token on loopback, too.")
@click.option("--allow-host", "hosts", multiple=True, help="A further name of this host, as browsers ask for it.")
@click.option("--hide-names", is_flag=True, help="Show digests of limits' names: arguments may be part of a name.")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
def web(backend: Backend, *, as_json: bool, **options: object) -> None:
    """Serve a page that shows the limits in use, live, until Ctrl-C.

    It only shows, and only to this host, unless you say otherwise. While nobody watches, it reads nothing.
    """
    if not (find_spec("starlette") and find_spec("uvicorn")):
        raise Failed("the page needs starlette and uvicorn: pip install 'tasklocks[web]'", WRONG)
    from tasklocks.web import Options, serve

    serve(backend, Options(**options), lambda url: _say(url, as_json))  # type: ignore[arg-type]


def _say(url: str, as_json: bool) -> None:
    if as_json:
        say_json({"url": url})
    else:
        click.echo(f"tasklocks is at {url}\nCtrl-C ends it.")
