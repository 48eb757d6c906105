"""One process's connection to MongoDB: the few commands that the steps need, and their write concern."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import CursorType, WriteConcern
from pymongo.cursor import Cursor
from pymongo.errors import OperationFailure, PyMongoError

from tasklocks.backends.mongodb._errors import passes_at_once, translated
from tasklocks.backends.mongodb._expressions import Step
from tasklocks.backends.mongodb._url import Place
from tasklocks.shield import shielded

__all__ = ["KNOCKS", "LIMITS", "Server"]

LIMITS = "tasklocks"
"""The collection of limits, one document each."""

KNOCKS = "tasklocks_knocks"
"""The capped collection through which waiters are woken."""

_KNOCKS_BYTES = 1 << 20
_AWAIT_MS = 1000  # how long the server keeps a listening request before it answers that there is nothing
_ATTEMPTS = 3
_EXISTS = 48

# Without an end, a primary that lost its majority would keep a step for ever.
_MAJORITY = {"w": "majority", "wtimeout": 4000}
# Moments as whole milliseconds, not as datetimes: the only use of them is arithmetic.
_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)

_logger = logging.getLogger("tasklocks")


class Server:
    """A client that belongs to one process, made on first use.

    Args:
        place: where and how.
    """

    def __init__(self, place: Place) -> None:
        self._shown = place.shown
        with translated(self._shown):
            self._client = shielded(place.open)
        self._database = self._client.get_database(place.database, codec_options=_PLAIN)
        self._indexed = False

    def step(self, key: str, step: Step) -> dict[str, Any] | None:
        """Do one atomic step on a document, and on a majority of the members; return its answer."""
        reply = self._ask(
            {
                "findAndModify": LIMITS,
                "query": {"_id": key},
                "update": step.stages,
                "fields": step.answer,
                "new": True,
                "upsert": step.make,
                "writeConcern": _MAJORITY,
            }
        )
        if "upserted" in reply["lastErrorObject"]:
            self._index()
        found: dict[str, Any] | None = reply["value"]
        return found

    def steps(self, steps: Sequence[tuple[str, Step]], fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Do one atomic step on each of many documents, in one request, then read `fields` of them in another one."""
        updates = [{"q": {"_id": key}, "u": step.stages} for key, step in steps]
        self._ask({"update": LIMITS, "updates": updates, "ordered": False, "writeConcern": _MAJORITY})
        keys = sorted({key for key, _ in steps})
        found = self._ask(
            {
                "find": LIMITS,
                "filter": {"_id": {"$in": keys}},
                "projection": fields,
                "batchSize": len(keys),
                "singleBatch": True,
            }
        )
        return {each["_id"]: each for each in found["cursor"]["firstBatch"]}

    def look(self, key: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return `fields` of a document as the primary has it now."""
        reply = self._ask(
            {"find": LIMITS, "filter": {"_id": key}, "projection": fields, "limit": 1, "singleBatch": True}
        )
        found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
        return found[0] if found else None

    def behind(self, key: str, end: str, fields: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return `fields` of the first documents with keys behind `key` and before `end`, in the keys' order."""
        wish = {"find": LIMITS, "filter": {"_id": {"$gt": key, "$lt": end}}, "projection": fields, "sort": {"_id": 1}}
        reply = self._ask({**wish, "limit": most, "batchSize": most, "singleBatch": True})
        found: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
        return found

    def time(self) -> float:
        """Return the server's clock."""
        return int(self._ask({"hello": 1})["localTime"]) / 1000

    def version(self) -> str:
        """Return the server's version."""
        return str(self._ask({"buildInfo": 1}).get("version", ""))

    def knock(self, knocks: Sequence[dict[str, Any]]) -> None:
        """Leave word for waiters; nobody waits for an answer, and it may be lost."""
        unacknowledged = self._database.get_collection(KNOCKS, write_concern=WriteConcern(w=0))
        with suppress(PyMongoError):
            for each in knocks:  # rarely more than one
                shielded(partial(unacknowledged.insert_one, each))

    def tail(self, address: str) -> Cursor[dict[str, Any]]:
        """Return a cursor that goes on yielding what is left for `address`."""
        self._make_knocks()
        # A cursor on an empty collection would be dead at once; and the greeting's arrival shows that it follows.
        self._database[KNOCKS].insert_one({"to": address, "owner": ""})
        cursor: Cursor[dict[str, Any]] = self._database[KNOCKS].find(
            {"to": address}, cursor_type=CursorType.TAILABLE_AWAIT
        )
        cursor.max_await_time_ms(_AWAIT_MS)
        return cursor

    def kill(self, cursor: int | None) -> None:
        """End a cursor, and whatever request waits for it."""
        if cursor:
            with suppress(PyMongoError):
                self._database.command("killCursors", KNOCKS, cursors=[cursor])

    def close(self) -> None:
        """Close all connections."""
        shielded(self._client.close)

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Ask, and ask again if the connection broke: a step that is done twice does no harm."""
        with translated(self._shown):
            for _ in range(_ATTEMPTS - 1):
                if (reply := self._answer_now(command)) is not None:
                    return reply
            return self._answer(command)

    def _answer_now(self, command: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self._answer(command)
        except PyMongoError as error:
            if not passes_at_once(error):
                raise
        return None

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = shielded(lambda: self._database.command(command, codec_options=_PLAIN))
        for failed in (*reply.get("writeErrors", ()), *filter(None, [reply.get("writeConcernError")])):
            raise OperationFailure(failed.get("errmsg", "no majority"), failed.get("code"), failed)
        return reply

    def _make_knocks(self) -> None:
        try:
            self._database.create_collection(KNOCKS, check_exists=False, capped=True, size=_KNOCKS_BYTES)
        except OperationFailure as error:
            if error.code != _EXISTS:
                raise
            if not self._database[KNOCKS].options().get("capped"):
                # It was dropped, and the word of a release made it anew: that never ends, and nobody can follow it.
                self._database.command("convertToCapped", KNOCKS, size=_KNOCKS_BYTES)

    def _index(self) -> None:
        """Let the server delete what is forgotten. Whoever makes a document makes the index: nobody else needs it."""
        if self._indexed:
            return
        self._indexed = True
        try:
            shielded(lambda: self._database[LIMITS].create_index("forget_at", expireAfterSeconds=0))
        except PyMongoError as error:
            _logger.warning("limits that nobody uses any more are not deleted: %s", error)
