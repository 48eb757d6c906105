"""What an operator may do from the page: the same as `tasklocks release`, `resize`, `pause` and `resume`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import tasklocks
from tasklocks import resizing
from tasklocks.backends import Backend
from tasklocks.errors import ConfigurationError
from tasklocks.names import check_name, escaped

__all__ = ["ACTIONS", "Action"]

_MOST_PERMITS = 1_000_000_000

Action = Callable[[Backend, str, Mapping[str, Any]], Mapping[str, Any]]
"""Does it to a limit, as asked, and returns what came of it. Raises `ConfigurationError` for what cannot be."""

_logger = logging.getLogger("tasklocks.web")


def _release(backend: Backend, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    owner = asked.get("owner")
    if not isinstance(owner, str) or not owner:
        raise ConfigurationError("say whose lease is to end")
    # By what it was when it was shown: whoever came meanwhile keeps what it has.
    return {"released": backend.force_release(name, owner)}


def _resize(backend: Backend, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    permits = asked.get("permits")
    if permits is not None and not (type(permits) is int and 1 <= permits <= _MOST_PERMITS):
        raise ConfigurationError("permits are a whole number from 1 on, or nothing: as many as the code says")
    resizing.resize(backend, name, permits)
    return {"permits": permits}


def _pause(backend: Backend, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    seconds = asked.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ConfigurationError("say for how many seconds")
    tasklocks.pause(name, seconds, backend=backend)
    return {"paused": seconds}


def _resume(backend: Backend, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    tasklocks.resume(name, backend=backend)
    return {"paused": 0}


def _noted(word: str, action: Action) -> Action:
    def act(backend: Backend, name: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        done = action(backend, check_name(name), asked)
        _logger.warning("from the page: %s %r: %s", word, name, escaped(str(dict(done))))
        return done

    return act


ACTIONS: Mapping[str, Action] = {
    word: _noted(word, action)
    for word, action in {"release": _release, "resize": _resize, "pause": _pause, "resume": _resume}.items()
}
"""By the word that the page uses."""
