"""Import real files with real Celery workers, under a mutex and a semaphore, and prove that both were kept.

    python examples/demo/run.py [--files N] [--output DIR] [--quick] [--without-locks]

It needs no server: messages are files, the locks are in SQLite, and all of it is in a temporary directory. The exit
code is 0 if the record of the tasks shows no overlap and the index has every word; 1 if not; 2 if a worker failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from celery import chain
from display import Row, live
from record import Record, Story
from rich.console import Console
from svg import write_svg
from timeline import make_picture, print_picture
from verdict import Verdict, judge
from workers import Worker, WorkerFailedError, running

WORKERS = 2
PROCESSES = 4
PATIENCE = 120.0
"""Seconds after which tasks that have not run count as lost."""


class Demo:
    """One run: its workers, its tasks and the record that they write."""

    def __init__(self, tasks: ModuleType, workers: Sequence[Worker], files: Sequence[Path], console: Console) -> None:
        self.tasks = tasks
        self.files = files
        self.console = console
        self._workers = workers
        self._record: Record = tasks.record

    @property
    def rows(self) -> tuple[Row, ...]:
        """The kinds of tasks; opening the index is one more body under the mutex."""
        count = len(self.files)
        return Row("count_words", "readers", self.tasks.READERS, count), Row("merge", "index", 1, count + 1)

    @property
    def bodies(self) -> int:
        """How many task bodies run in all."""
        return sum(row.total for row in self.rows)

    def send(self, path: Path) -> Any:
        """Send the tasks for one file; the second is sent on when the first is done."""
        return chain(self.tasks.count_words.s(str(path)), self.tasks.merge.s()).apply_async()

    def wait(self, done: Callable[[Story], Any], update: Callable[[Story], None] = lambda _: None) -> Story:
        """Return the story as soon as it is done, a task has failed, or patience ends."""
        deadline = time.monotonic() + PATIENCE
        while True:
            story = self._record.read()
            update(story)
            if done(story) or story.failures or time.monotonic() > deadline:
                return story
            for worker in self._workers:
                worker.check()
            time.sleep(0.05)

    def show_one_retry(self) -> None:
        """Let a task find the mutex busy, and show what becomes of it."""
        opening = self.tasks.open_index.delay()
        self.wait(lambda story: story.of("index"))
        self._say("open_index runs", opening.id, "and holds the mutex 'index'")
        merging = self.send(self.files[0])
        story = self.wait(lambda story: _of(story.again, merging.id) or _merged(story))
        self._say("merge is sent", merging.id, f"state {merging.state}")
        for again in _of(story.again, merging.id)[:1]:
            self._say("", "", again.reason)
        story = self.wait(_merged)
        for hold in _of(story.holds, merging.id):
            waits = len(_of(story.again, merging.id))
            self._say("merge runs", merging.id, f"after {waits} waits; request.retries is {hold.retries}")

    def import_all(self) -> Story:
        """Send the tasks for all other files and show how they run."""
        with live(self.rows, self.console) as show:
            for path in self.files[1:]:
                self.send(path)
            return self.wait(
                lambda story: sum(hold.end is not None for hold in story.holds) == self.bodies, show.update
            )

    def _say(self, what: str, task: str, more: str) -> None:
        name = f"{task[:8]:<8} " if task else " " * 9
        self.console.print(f"  {what:<15} {name} {more}", highlight=False, markup=False, soft_wrap=True)


def _of(things: Sequence[Any], task: str) -> list[Any]:
    return [thing for thing in things if thing.task == task]


def _merged(story: Story) -> bool:
    return len(story.of("index")) > 1


def main(arguments: Sequence[str]) -> int:
    """Run the demo; return the exit code."""
    options = _options(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    # A stop by `kill`, or by closing the terminal, cleans up as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tasklocks-demo-", ignore_cleanup_errors=True) as folder:
        try:
            return _run(options, console, Path(folder), output)
        except KeyboardInterrupt:
            console.print("stopped; so are the workers")
            return 130
        except WorkerFailedError as error:
            console.print(str(error), style="bold red", markup=False)
            return 2
        finally:
            _keep(Path(folder), output, "record.jsonl", "worker1.log", "worker2.log")


def _run(options: argparse.Namespace, console: Console, folder: Path, output: Path) -> int:
    env = {"DEMO_FOLDER": str(folder), "DEMO_PACE": "0.3" if options.quick else "1"}
    if options.without_locks:
        env["DEMO_WITHOUT_LOCKS"] = "1"
    files = _files(options.files or (24 if options.quick else 72))
    console.print(f"[bold]Importing {len(files)} files[/] of {files[0].parent} with {WORKERS} workers", highlight=False)
    with running(WORKERS, PROCESSES, folder, env) as workers:
        demo = Demo(_load_tasks(env), workers, files, console)
        console.print("\n[bold]One busy retry[/]")
        demo.show_one_retry()
        console.print("\n[bold]All of them[/]")
        story = demo.import_all()
    return _report(demo, story, console, output)


def _report(demo: Demo, story: Story, console: Console, output: Path) -> int:
    tasks = demo.tasks
    index = json.loads(tasks.INDEX.read_text())["words"] if tasks.INDEX.exists() else {}
    expected: Counter[str] = Counter()
    for path in demo.files:
        expected.update(tasks.words_of(path.read_text(encoding="utf-8", errors="replace")))
    verdict = judge(story, allowed=tasks.READERS, tasks=demo.bodies, index=index, expected=expected)
    subtitle = (
        f"{len(demo.files)} files of Python's standard library, {WORKERS} workers of {PROCESSES} processes; "
        f"busy tasks were sent again {len(story.again)} times; index: {sum(index.values())} of {expected.total()} words"
    )
    picture = make_picture(verdict.title, subtitle, story, [("readers", tasks.READERS), ("index", 1)])
    write_svg(picture, output / "timeline.svg", good=not verdict.problems)
    console.print("\n[bold]Who held what, when[/]")
    print_picture(picture, console)
    _print_verdict(verdict, subtitle, console)
    console.print(f"picture: {output / 'timeline.svg'}", highlight=False, soft_wrap=True)
    return 1 if verdict.problems else 0


def _print_verdict(verdict: Verdict, subtitle: str, console: Console) -> None:
    console.print(f"\n[bold {'red' if verdict.problems else 'green'}]{verdict.title}[/]", highlight=False)
    console.print(subtitle, highlight=False, soft_wrap=True)
    for problem in verdict.problems:
        console.print(f"wrong: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)


def _load_tasks(env: dict[str, str]) -> ModuleType:
    # The module reads its settings from the environment, as it does in the workers.
    os.environ.update(env)
    return importlib.import_module("tasks")


def _files(count: int) -> list[Path]:
    """Return so many source files of the standard library, neither tiny nor huge."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    fitting = [path for path in sorted(stdlib.glob("*.py")) if 4_000 <= path.stat().st_size <= 60_000]
    return fitting[:count]


def _keep(folder: Path, output: Path, *names: str) -> None:
    for name in names:
        if (folder / name).exists():
            shutil.copyfile(folder / name, output / name)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Import real files with Celery workers under a mutex and a semaphore.")
    parser.add_argument("--files", type=int, help="how many files to import (default: 72)")
    parser.add_argument("--output", default="demo-output", help="where the picture and the record go")
    parser.add_argument("--quick", action="store_true", help="24 files, faster")
    parser.add_argument("--without-locks", action="store_true", help="show that the check finds what goes wrong then")
    options = parser.parse_args(arguments)
    if options.files is not None and options.files < 1:
        parser.error("--files must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
