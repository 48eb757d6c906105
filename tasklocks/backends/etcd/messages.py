"""Transactions and their answers as python-etcd3's messages."""

from __future__ import annotations

from typing import Any

from etcd3 import etcdrpc as rpc

from tasklocks.backends.etcd.ops import Compare, Delete, KeyValue, Op, Put, Range, Rows, Txn, TxnReply

__all__ = ["read_reply", "written"]

_FIELDS = {"create": "create_revision", "mod": "mod_revision", "value": "value"}


def written(txn: Txn) -> Any:
    """Return a transaction as a message."""
    return rpc.TxnRequest(
        compare=[_comparison(each) for each in txn.compare],
        success=[_operation(each) for each in txn.success],
        failure=[_operation(each) for each in txn.failure],
    )


def read_reply(reply: Any) -> TxnReply:
    """Return the answer to a transaction."""
    answers = reply.responses
    return TxnReply(
        reply.succeeded,
        reply.header.revision,
        tuple(_rows(each.response_range) for each in answers if each.HasField("response_range")),
        sum(each.response_delete_range.deleted for each in answers if each.HasField("response_delete_range")),
    )


def _comparison(compare: Compare) -> Any:
    return rpc.Compare(
        key=compare.key,
        range_end=compare.end,
        target=rpc.Compare.CompareTarget.Value(compare.field.upper()),
        result=rpc.Compare.CompareResult.Value(compare.relation),
        **{_FIELDS[compare.field]: compare.value},
    )


def _operation(op: Op) -> Any:
    match op:
        case Put():
            put = rpc.PutRequest(key=op.key, value=op.value, lease=op.lease, ignore_lease=op.keep_lease)
            return rpc.RequestOp(request_put=put)
        case Delete():
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=op.key, range_end=op.end))
        case Range():
            return rpc.RequestOp(request_range=_range(op))


def _range(op: Range) -> Any:
    order, target = rpc.RangeRequest.SortOrder, rpc.RangeRequest.SortTarget
    if not op.end:
        return rpc.RangeRequest(key=op.key)
    if op.by_key:
        return rpc.RangeRequest(key=op.key, range_end=op.end, limit=op.limit)
    return rpc.RangeRequest(
        key=op.key,
        range_end=op.end,
        limit=op.limit,
        sort_order=order.Value("ASCEND"),
        sort_target=target.Value("CREATE"),
    )


def _rows(answer: Any) -> Rows:
    kvs = tuple(KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease) for kv in answer.kvs)
    return Rows(kvs, answer.count)
