"""Transactions and their answers as the JSON gateway writes them."""

from __future__ import annotations

from base64 import b64decode
from binascii import b2a_base64
from typing import Any

from tasklocks.backends.etcd.ops import Compare, Delete, KeyValue, Op, Put, Range, Rows, Txn, TxnReply

__all__ = ["read_reply", "text", "written"]

Json = dict[str, Any]

# Enumerations by number and texts put together here: names and nested mappings cost etcd and Python more time.
_TARGETS = {"create": (1, "create_revision"), "mod": (2, "mod_revision"), "value": (3, "value")}
_RELATIONS = {"EQUAL": 0, "GREATER": 1, "LESS": 2}
_BY_CREATION = ',"sort_target":2,"sort_order":1'


def text(data: bytes) -> str:
    """Return bytes as text."""
    return b2a_base64(data, newline=False).decode("ascii")


def written(txn: Txn) -> bytes:
    """Return a transaction as JSON."""
    compare = ",".join([_comparison(each) for each in txn.compare])
    success = ",".join([_operation(each) for each in txn.success])
    failure = ",".join([_operation(each) for each in txn.failure])
    return f'{{"compare":[{compare}],"success":[{success}],"failure":[{failure}]}}'.encode()


def read_reply(reply: Json) -> TxnReply:
    """Return the answer to a transaction."""
    answers = reply.get("responses", ())
    return TxnReply(
        bool(reply.get("succeeded")),
        int(reply["header"]["revision"]),
        tuple(_rows(each["response_range"]) for each in answers if "response_range" in each),
        sum(int(each.get("response_delete_range", {}).get("deleted", 0)) for each in answers),
    )


def _comparison(compare: Compare) -> str:
    target, field = _TARGETS[compare.field]
    value = text(compare.value) if isinstance(compare.value, bytes) else compare.value
    relation = _RELATIONS[compare.relation]
    return f'{{{_keys(compare)},"target":{target},"result":{relation},"{field}":"{value}"}}'


def _operation(op: Op) -> str:
    match op:
        case Put():
            lease = ',"ignore_lease":true' if op.keep_lease else f',"lease":"{op.lease}"' if op.lease else ""
            return f'{{"request_put":{{"key":"{text(op.key)}","value":"{text(op.value)}"{lease}}}}}'
        case Delete():
            return f'{{"request_delete_range":{{{_keys(op)}}}}}'
        case Range():
            # Without an order they come by key, and a limit then keeps etcd from reading the rest.
            order = _BY_CREATION if op.end and not op.by_key else ""
            limit = f',"limit":"{op.limit}"' if op.limit else ""
            return f'{{"request_range":{{{_keys(op)}{order}{limit}}}}}'


def _keys(op: Compare | Delete | Range) -> str:
    end = f',"range_end":"{text(op.end)}"' if op.end else ""
    return f'"key":"{text(op.key)}"{end}'


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
