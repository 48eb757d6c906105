"""Runs functions in processes of their own: several at once, or one to talk with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["partner", "together"]

# Children are forked from a process that has imported everything and started nothing: 50 of them start in a second,
# and none inherits a connection or a thread.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "benchmarks.contestants",
        "tasklocks.backends.sqlite",
        "tasklocks.backends.redis",
        "tasklocks.backends.mongodb",
        "tasklocks.backends.etcd",
        "tasklocks.backends.zookeeper",
        "pymongo",
        "kazoo.client",
        "redis",
        "redis_lock",
        "sherlock",
        "tooz.coordination",
        "tooz.drivers.redis",
    ]
)


def together(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, within: float) -> list[Any]:
    """Call `work(gate, *arguments[i])` in one process each; `gate.wait()` lets all of them go at once.

    Raises:
        RuntimeError: one of them ended without an answer, or not `within` so many seconds.
    """
    gate = _CONTEXT.Barrier(len(arguments))
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in arguments]
    children = [
        _CONTEXT.Process(target=_child, args=(sender, gate, work, each), daemon=True)
        for (_, sender), each in zip(pipes, arguments, strict=True)
    ]
    try:
        for child, (_, sender) in zip(children, pipes, strict=True):
            child.start()
            sender.close()
        return [_answer(receiver, within) for receiver, _ in pipes]
    finally:
        for child in children:
            _end(child)


@contextmanager
def partner(work: Callable[..., Any], *arguments: Any) -> Iterator[Connection]:
    """Run `work(connection, *arguments)` in a process of its own and yield the other end of the connection."""
    here, there = _CONTEXT.Pipe()
    child = _CONTEXT.Process(target=work, args=(there, *arguments), daemon=True)
    child.start()
    # The child's own copy is then the last one: if the child dies, whoever waits for its answer is told.
    there.close()
    try:
        yield here
    finally:
        here.close()
        _end(child)


def _child(sender: Connection, gate: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send(work(gate, *arguments))
    except BaseException:
        # The others must not wait for this one.
        gate.abort()
        raise


def _answer(receiver: Connection, within: float) -> Any:
    with suppress(EOFError):
        if receiver.poll(within):
            return receiver.recv()
    raise RuntimeError(f"a benchmark process gave no answer within {within:g} s; see its traceback above")


def _end(child: Any) -> None:
    if child.pid is None:
        return
    child.join(5)
    if child.is_alive():
        child.kill()
        child.join()
