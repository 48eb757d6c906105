"""Runs one function in several processes at once and collects what they return."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["CONTEXT", "together"]

# Children are forked from a process that has imported everything and started nothing: 50 of them start in a second,
# and none inherits a connection or a thread.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "benchmarks.contestants",
        "tasklocks.backends.sqlite",
        "tasklocks.backends.redis",
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
    gate = CONTEXT.Barrier(len(arguments))
    pipes = [CONTEXT.Pipe(duplex=False) for _ in arguments]
    children = [
        CONTEXT.Process(target=_child, args=(sender, gate, work, each), daemon=True)
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
