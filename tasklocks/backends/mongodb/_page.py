"""Limits and texts in the order of their keys, for those who look at all of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from tasklocks.backends import paging
from tasklocks.backends.mongodb._answers import state_of
from tasklocks.backends.mongodb._expressions import NOW
from tasklocks.backends.mongodb._server import Server
from tasklocks.backends.mongodb._steps import EVERYTHING
from tasklocks.types import LimitState, Page

__all__ = ["page"]


def page(server: Server, limits: str, texts: str, after: str, most: int) -> Page:
    """See `Backend.page`; `limits` and `texts` are what the keys of the two begin with."""
    return paging.page(after, most, partial(_limits_behind, server, limits), partial(_texts_behind, server, texts))


def _limits_behind(server: Server, prefix: str, name: str, most: int) -> list[LimitState]:
    found = server.behind(prefix + name, _end_of(prefix), EVERYTHING, most)
    return [state_of(each["_id"][len(prefix) :], each) for each in found]


def _texts_behind(server: Server, prefix: str, name: str, most: int) -> list[tuple[str, str]]:
    found = server.behind(prefix + name, _end_of(prefix), {"text": 1, "forget_at": 1, "now": NOW}, most)
    return [(each["_id"][len(prefix) :], str(each["text"]) if _lasts(each) else "") for each in found]


def _lasts(text: dict[str, Any]) -> bool:
    return int(text.get("forget_at", 0)) > int(text["now"])


def _end_of(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
