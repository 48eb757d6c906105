"""What people see who sit at a terminal, with `rich` and without it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tasklocks import connect
from tasklocks.testing.asking import taken
from tests.processes import ROOT


def at_a_terminal(url: str, *words: str, without_rich: bool = False) -> str:
    """Run a command with its output on a terminal; return what that got."""
    hide = "import sys; sys.modules['rich'] = None; " if without_rich else ""
    code = f"{hide}from tasklocks.cli import main; main(prog_name='tasklocks')"
    ours, theirs = pty.openpty()
    env = {**os.environ, "TASKLOCKS_URL": url, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=theirs, stderr=theirs, cwd=ROOT, env=env)
    os.close(theirs)
    got = b""
    while part := _read(ours):
        got += part
    os.close(ours)
    assert process.wait(timeout=30) == 0, got
    return got.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # so Linux says that the other side is closed
        return b""


@pytest.fixture
def url(tmp_path) -> str:
    url = f"sqlite:///{tmp_path}/locks.db"
    taken(connect(url), "a", "a [bold] name")
    return url


@pytest.mark.parametrize("without_rich", [False, True])
@pytest.mark.parametrize("words", [["ls"], ["watch", "--times", "2", "--interval", "0.1"]])
def test_a_terminal_shows_the_same_limits_with_rich_and_without(url, words, without_rich):
    shown = at_a_terminal(url, *words, without_rich=without_rich)
    assert re.search(r"a \[bold\] name +mutex +1/1", shown), shown
    assert ("\x1b[" in shown) is not without_rich
