"""Transactions and their answers as the JSON gateway writes them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from tasklocks.backends.etcd.ops import Compare, Delete, KeyValue, Op, Put, Range, Rows, Txn, TxnReply

__all__ = ["read_reply", "text", "written"]

Json = dict[str, Any]

_TARGETS = {"create": ("CREATE", "create_revision"), "mod": ("MOD", "mod_revision"), "value": ("VALUE", "value")}


def text(data: bytes) -> str:
    """Return bytes as text."""
    return b64encode(data).decode("ascii")


def written(txn: Txn) -> Json:
    """Return a transaction as JSON."""
    return {
        "compare": [_comparison(each) for each in txn.compare],
        "success": [_operation(each) for each in txn.success],
        "failure": [_operation(each) for each in txn.failure],
    }


def read_reply(reply: Json) -> TxnReply:
    """Return the answer to a transaction."""
    answers = reply.get("responses", ())
    return TxnReply(
        bool(reply.get("succeeded")),
        int(reply["header"]["revision"]),
        tuple(_rows(each["response_range"]) for each in answers if "response_range" in each),
        sum(int(each.get("response_delete_range", {}).get("deleted", 0)) for each in answers),
    )


def _comparison(compare: Compare) -> Json:
    target, field = _TARGETS[compare.field]
    value = text(compare.value) if isinstance(compare.value, bytes) else str(compare.value)
    form = {"target": target, "result": compare.relation, "key": text(compare.key), field: value}
    if compare.end:
        form["range_end"] = text(compare.end)
    return form


def _operation(op: Op) -> Json:
    match op:
        case Put():
            form: Json = {"key": text(op.key), "value": text(op.value)}
            if op.keep_lease:
                form["ignore_lease"] = True
            elif op.lease:
                form["lease"] = str(op.lease)
            return {"request_put": form}
        case Delete():
            return {"request_delete_range": _keys(op)}
        case Range():
            form = _keys(op)
            # Without a target they come by key, and a limit then keeps etcd from reading the rest.
            if op.end and not op.by_key:
                form |= {"sort_target": "CREATE", "sort_order": "ASCEND"}
            if op.limit:
                form["limit"] = str(op.limit)
            return {"request_range": form}


def _keys(op: Delete | Range) -> Json:
    form: Json = {"key": text(op.key)}
    if op.end:
        form["range_end"] = text(op.end)
    return form


def _rows(answer: Json) -> Rows:
    kvs = tuple(_key_value(each) for each in answer.get("kvs", ()))
    return Rows(kvs, int(answer.get("count", 0)))


def _key_value(kv: Json) -> KeyValue:
    return KeyValue(
        b64decode(kv["key"]),
        b64decode(kv.get("value", "")),
        int(kv["create_revision"]),
        int(kv["mod_revision"]),
        int(kv.get("lease", 0)),
    )
