"""What the page asks: JSON over HTTP, and one stream of changes. Made for the page, and not stable.

| address | answers |
|---|---|
| `GET /api/limits`, `/api/limit`, `/api/rates`, `/api/beats` | what is there now |
| `GET /api/why?task=ID` | sentences about a task |
| `GET /api/live?view=…` | server-sent events: the same, and then what changes |
| `GET /api/session`, `POST /api/login` | what one may do here |
| `POST /api/release`, `/api/resize`, `/api/pause`, `/api/resume` | what came of it |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tasklocks.errors import BackendUnavailable, ConfigurationError
from tasklocks.web.actions import ACTIONS, Action
from tasklocks.web.guard import Guard
from tasklocks.web.hiding import Shown, real_name
from tasklocks.web.poller import Poller
from tasklocks.web.viewer import VIEWS, Viewer, answer, wish_of
from tasklocks.web.why import sentences

__all__ = ["routes"]

_VIEWERS = 100
_LONGEST = 10_000  # bytes of a request
_AFTER_WRONG_TOKEN = 0.5
_STATIC = Path(__file__).with_name("static")

Handler = Callable[[Request], Awaitable[Response]]


def routes(poller: Poller, shown: Shown) -> list[BaseRoute]:
    """Return all addresses of the page."""
    return [
        *(Route(f"/api/{view}", _guarded(partial(_answer, poller, shown, view))) for view in VIEWS),
        *(
            Route(f"/api/{word}", _guarded(partial(_act, poller, shown, action)), methods=["POST"])
            for word, action in ACTIONS.items()
        ),
        Route("/api/why", _guarded(partial(_why, poller, shown))),
        Route("/api/live", partial(_live, poller, shown)),
        Route("/api/session", _session),
        Route("/api/login", _login, methods=["POST"]),
        Mount("/", StaticFiles(directory=_STATIC, html=True)),
    ]


async def _answer(poller: Poller, shown: Shown, view: str, request: Request) -> Response:
    wish = wish_of({**request.query_params, "view": view})
    return JSONResponse(answer(await poller.snapshot(), wish, shown))


async def _why(poller: Poller, shown: Shown, request: Request) -> Response:
    task = request.query_params.get("task", "")
    if not task:
        raise ConfigurationError("say which task: ?task=ID")
    return JSONResponse({"sentences": sentences(await poller.snapshot(), task, shown)})


async def _live(poller: Poller, shown: Shown, request: Request) -> Response:
    if poller.viewers >= _VIEWERS:
        return JSONResponse({"error": f"{_VIEWERS} watch already"}, 503)
    viewer = Viewer(wish_of(request.query_params), shown, poller.history)
    # A proxy in front must not keep it until it is full.
    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(_stream(poller, viewer), media_type="text/event-stream", headers=headers)


async def _stream(poller: Poller, viewer: Viewer) -> AsyncIterator[str]:
    async with poller.watching(viewer.shows) as looks:
        yield f"retry: 2000\nevent: backend\ndata: {json.dumps(repr(poller.backend))}\n\n"
        async for seen in looks:
            yield "".join(f"event: {event}\ndata: {_text(data)}\n\n" for event, data in viewer.events(seen))


async def _act(poller: Poller, shown: Shown, action: Action, request: Request) -> Response:
    asked = await _asked(request)
    called = str(asked.get("name", ""))
    known = await poller.snapshot()
    name = real_name(shown, called, [*known.limits, *known.texts])
    if name is None:
        return JSONResponse({"error": f"nothing is known of a limit {called!r}"}, 404)
    try:
        done = await asyncio.get_running_loop().run_in_executor(None, action, poller.backend, name, asked)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace(name, called)) from error
    return JSONResponse(done)


async def _session(request: Request) -> Response:
    guard: Guard = request.scope["tasklocks.guard"]
    return JSONResponse(guard.about(request.headers))


async def _login(request: Request) -> Response:
    guard: Guard = request.scope["tasklocks.guard"]
    try:
        token = (await _asked(request)).get("token")
    except ConfigurationError as error:
        return JSONResponse({"error": str(error)}, 400)
    let_in = guard.login(token, request.headers) if isinstance(token, str) else None
    if let_in is None:
        await asyncio.sleep(_AFTER_WRONG_TOKEN)
        return JSONResponse({"error": "that is not the token that `tasklocks web` printed"}, 401)
    cookie, key = let_in
    return JSONResponse({"key": key}, headers={"set-cookie": cookie})


def _guarded(handler: Handler) -> Handler:
    """Answer with what went wrong, in words."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except ConfigurationError as error:
            return JSONResponse({"error": str(error)}, 400)
        except BackendUnavailable as error:
            return JSONResponse({"error": str(error)}, 503)

    return answered


async def _asked(request: Request) -> dict[str, Any]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            raise ConfigurationError("that is too long")
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise ConfigurationError("that is no JSON") from error
    if not isinstance(asked, dict):
        raise ConfigurationError("that is no JSON object")
    return asked


def _text(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)
