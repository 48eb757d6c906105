"""Who may see the page and act on it, decided before anything else looks at a request.

The page is opened by a browser, which also runs other people's pages. So a request must be made under a name that is
ours (a name server of an attacker may lead to this address), one that changes something must come from our own page
(`Origin`), and no other page may show ours in a frame. To act takes two secrets: a cookie that no script can read, and
a key that only the page has that logged in. Browsers send cookies to every port of a host; the key they never send.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["KEY_HEADER", "Guard", "Rules"]

KEY_HEADER = "x-tasklocks-key"

_SESSIONS = 100
_FREE = ("/api/login", "/api/session")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed.

    Attributes:
        hosts: names under which the page is served, beside `localhost` and plain addresses.
        actions: whether those who logged in may act.
        private: whether only they may read.
        token: what one logs in with.
    """

    hosts: frozenset[str] = frozenset()
    actions: bool = False
    private: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


class Guard:
    """Lets through what the rules allow, and says no to the rest.

    Args:
        app: what is guarded.
        rules: what is allowed.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._keys: dict[str, str] = {}  # of those who logged in, by what is in their cookie
        # Cookies are for all ports of a host, so that two of us must not share one.
        self._cookie = f"tasklocks_{secrets.token_hex(4)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        scope["tasklocks.guard"] = self
        await (refusal or self._app)(scope, receive, send_with_headers)

    def login(self, token: str, headers: Headers) -> tuple[str, str] | None:
        """Return a cookie and the key that belongs to it, if the token is right."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._rules.token.encode()):
            return None
        session, key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        while len(self._keys) >= _SESSIONS:
            del self._keys[next(iter(self._keys))]
        self._keys[session] = key
        secure = "; Secure" if headers.get("origin", "").startswith("https:") else ""
        return f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict{secure}", key

    def about(self, headers: Headers) -> Mapping[str, bool]:
        """Return what whoever asks may do."""
        key = self._key_of(headers)
        return {
            "readable": not self._rules.private or key is not None,
            "actions": self._rules.actions,
            "can_act": self._rules.actions and _same(key, headers.get(KEY_HEADER)),
        }

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if scope["type"] != "http":
            return _no(403, "there is nothing of this kind here")
        headers, path = Headers(scope=scope), scope["path"]
        if not self._is_ours(headers.get("host", "")):
            return _no(403, "the page is not served under this name; start it with --allow-host NAME if it should be")
        if not path.startswith("/api/"):
            return None  # the same for everybody, and it holds no data
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return _no(403, "another page may not ask this one")
        if scope["method"] == "POST" and not self._is_from_our_page(headers):
            return _no(403, "this did not come from the page itself")
        return self._needs_login(headers, path, scope["method"])

    def _needs_login(self, headers: Headers, path: str, method: str) -> JSONResponse | None:
        if path in _FREE:
            return None
        key = self._key_of(headers)
        if self._rules.private and key is None:
            return _no(401, "log in with the address that `tasklocks web` printed")
        if method == "POST" and not self._rules.actions:
            return _no(403, "this page only shows; start it with --allow-actions to steer")
        if method == "POST" and not _same(key, headers.get(KEY_HEADER)):
            return _no(401, "log in with the address that `tasklocks web` printed")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _split(f"//{host}").hostname or "" if "@" not in host else ""
        return name == "localhost" or name in self._rules.hosts or _is_address(name)

    def _is_from_our_page(self, headers: Headers) -> bool:
        origin = _split(headers.get("origin", ""))
        own = origin.scheme in ("http", "https") and origin.netloc == headers.get("host")
        # A form cannot send JSON, and a script of another page has to ask us before it does.
        return own and headers.get("content-type", "").partition(";")[0].strip() == "application/json"

    def _key_of(self, headers: Headers) -> str | None:
        return self._keys.get(cookie_parser(headers.get("cookie", "")).get(self._cookie, ""))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_address(name: str) -> bool:
    # No name server is asked for an address, so nobody can make one lead here.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(key: str | None, given: str | None) -> bool:
    return key is not None and given is not None and hmac.compare_digest(key.encode(), given.encode())


def _no(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)
