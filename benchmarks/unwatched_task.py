"""Runs a locked task as a worker's process runs it, and prints how many bytecodes it takes; see `unwatched`.

    python -m benchmarks.unwatched_task WAY URL TASKS

With TASKS it only runs so many, for somebody else to count.
"""

from __future__ import annotations

import ast
import gc
import logging
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from types import CodeType, FrameType
from typing import Any

_PACKAGE = "/tasklocks/"
_WARM_UP = 50


class _Cut(ast.NodeTransformer):
    """Cuts out what there is for the sake of news: what is under `if watched[0]`, and whose news a lease is."""

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        if any(isinstance(each, ast.Name) and each.id == "watched" for each in ast.walk(node.test)):
            return node.orelse or ast.Pass()
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        return ast.Pass() if any(map(_is_source, node.targets)) else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        return ast.Pass() if _is_source(node.target) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        node.keywords = [each for each in node.keywords if each.arg != "source"]
        return self.generic_visit(node)


def _is_source(target: ast.AST) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == "source"


def _cut_news_out() -> None:
    """Import tasklocks without the lines of news from now on."""
    usual = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        if _PACKAGE not in path:
            return usual(self, fullname)
        return compile(ast.fix_missing_locations(_Cut().visit(ast.parse(self.get_data(path)))), path, "exec")

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def _task(url: str) -> Callable[[], Any]:
    """Return what runs the task once."""
    from celery import Celery
    from celery.app.trace import build_tracer

    from tasklocks import locked

    app = Celery("unwatched", broker="memory://", backend="disabled://")
    app.conf.update(tasklocks_url=url)

    @app.task(name="import", ignore_result=True)
    @locked("import-{account}")
    def imports(account: int) -> None: ...

    app.finalize()
    task = app.tasks["import"]
    trace = build_tracer("import", task, app=app)
    request = {"id": "00000000-0000-4000-8000-000000000000", "delivery_info": {}, "is_eager": False}
    return lambda: trace(request["id"], (7,), {}, dict(request))


def _watch(way: str) -> None:
    from tasklocks import logs, news

    if way == "events":
        from tasklocks.celery import events

        pipe = events._Worker.pipe = events._Pipe()
        news.subscribe(events._say, events.EVENTS, if_asked=True)
        news.subscribe(lambda told: pipe.take() if told.kind == "released" else None, if_asked=True)
        news.ask(True)
    elif way == "metrics":
        from tasklocks.contrib.prometheus import watch

        watch()
    elif way == "signal":
        from tasklocks.celery import signals

        for name in signals.__all__:
            getattr(signals, name).connect(lambda **facts: None, weak=False)
    elif way == "log":
        logging.getLogger("tasklocks").setLevel(logging.DEBUG)
        logging.getLogger("tasklocks").addHandler(logging.NullHandler())
        logging.getLogger("tasklocks").propagate = False
        logs.follow()


def _bytecodes(run: Callable[[], Any]) -> int:
    """Return how many bytecodes this thread runs in `run`."""
    count = 0

    def each(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "opcode"
        return each

    def call(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return each

    sys.settrace(call)
    try:
        run()
    finally:
        sys.settrace(None)
    return count


def main(way: str, url: str, tasks: int) -> None:
    """Run the task, and count."""
    if way == "cut":
        _cut_news_out()
    run = _task(url)
    _watch(way)
    # What lies around from cutting would be looked through again and again.
    gc.disable()
    for _ in range(tasks or _WARM_UP):
        run()
    if not tasks:
        print(min(_bytecodes(run) for _ in range(_WARM_UP)), end="")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
