"""Real shells complete commands, names of limits and ids, when Tab is pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasklocks import connect, who
from tasklocks.testing.asking import taken
from tests.cli.conftest import CommandLine
from tests.conftest import missing_program
from tests.processes import ROOT, eventually, free_port

BIN = Path(sys.executable).parent
# How each is started without anybody's own settings, and how it takes over what `tasklocks completion` prints.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(tasklocks completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(tasklocks completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "tasklocks completion fish | source"),
}


@pytest.fixture
def url(tmp_path) -> str:
    url = f"sqlite:///{tmp_path}/locks.db"
    info = who.written(task="shop.imports", id="0b9a6d1e-1", host="celery@one", pid="1")
    taken(connect(url), "0b9a6d1e-1:x", "import-7", info=info)
    for name in ("$(touch pwned)", "import 8; reboot"):
        taken(connect(url), "a", name)
    return url


class Terminal:
    """A shell at a terminal: what is typed, and what is to be seen."""

    def __init__(self, screen: int) -> None:
        self.screen = screen
        self.seen = ""

    def types(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def shows(self, text: str, within: float = 30.0) -> bool:
        os.set_blocking(self.screen, False)
        return eventually(lambda: text in self._look(), within=within, every=0.05)

    def _look(self) -> str:
        with suppress(OSError):  # nothing new, or closed
            self.seen += os.read(self.screen, 65536).decode(errors="replace")
        return self.seen


@contextmanager
def shell(name: str, url: str, folder: Path) -> Iterator[Terminal]:
    command, take_over = SHELLS[name]
    if shutil.which(name) is None:
        missing_program(name)
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "TASKLOCKS_URL": url, "TERM": "vt100", "HOME": str(folder)}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        cwd=folder,
        start_new_session=True,
        # fish wants a terminal that is its own
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        terminal.types(f"{take_over}; echo is-re''ady\n")
        assert terminal.shows("is-ready"), terminal.seen
        time.sleep(0.2)
        yield terminal
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("name", list(SHELLS))
def test_a_shell_completes_commands_names_of_limits_and_ids(name, url, tmp_path):
    with shell(name, url, tmp_path) as terminal:
        terminal.types("tasklocks docto\t")
        assert terminal.shows("doctor"), terminal.seen
        terminal.types(" --help\n")
        assert terminal.shows("Try the backend"), terminal.seen
        terminal.types("tasklocks show im\t")
        assert terminal.shows("show import-7"), terminal.seen
        terminal.types("\n")
        assert terminal.shows("1 of 1 permits held"), terminal.seen
        terminal.types("tasklocks why 0b\t")
        assert terminal.shows("why 0b9a6d1e-1"), terminal.seen


def completed(url: str, line: str, folder: Path | None = None, **more: str) -> list[str]:
    """What the program tells a shell that completes a line."""
    program = line.partition(" ")[0]
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "TASKLOCKS_URL": url}
    told = subprocess.run(
        [str(BIN / program)],
        env={"PATH": os.environ["PATH"], f"_{program.upper()}_COMPLETE": "bash_complete", **words, **more},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stderr == ""
    return [each.partition(",")[2] for each in told.stdout.split()]


def test_the_holders_of_the_named_limit_are_completed(url):
    assert completed(url, "tasklocks release import-7 --holder ") == ["0b9a6d1e-1"]


def test_names_that_a_shell_would_act_upon_are_not_completed(url):
    assert completed(url, "tasklocks show ") == ["import-7"]


@pytest.mark.parametrize("wrong", ["redis://127.0.0.1:{port}/0", "nothing://x", ""])
def test_what_cannot_be_asked_is_silent(wrong, tmp_path):
    assert completed(wrong.format(port=free_port()), "tasklocks show ", tmp_path) == []


def test_the_options_before_say_which_backend(url):
    assert completed("", f"tasklocks --url {url} show imp") == ["import-7"]


def test_celery_completes_the_same(url):
    app = {"BROKER_URL": "memory://", "RESULT_BACKEND": "cache+memory://", "TEST_QUEUE": "unused"}
    line = "celery -A tests.apps.basic limits show im"
    assert completed(url, line, ROOT, **app) == ["import-7"]


def test_every_shell_has_its_script():
    for name in SHELLS:
        assert "_TASKLOCKS_COMPLETE" in CommandLine("memory://").says("completion", name)
