"""The command line on a backend of the test's own, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tasklocks import connect
from tasklocks.cli import main


@dataclass
class CommandLine:
    """`tasklocks` with the URL of one backend in the environment."""

    url: str

    def __call__(self, *words: str, answer: str | None = None) -> Result:
        """Run a command; `answer` is what is typed when it asks."""
        return CliRunner().invoke(main, words, input=answer, env={"TASKLOCKS_URL": self.url}, catch_exceptions=False)

    def says(self, *words: str, answer: str | None = None) -> str:
        """Run a command that succeeds; return what it prints."""
        result = self(*words, answer=answer)
        assert result.exit_code == 0, result.output
        return result.stdout

    def knows(self, *words: str) -> Any:
        """Run a command that succeeds, and return its answer in JSON."""
        return json.loads(self.says(*words, "--json"))


@pytest.fixture
def at() -> Iterator[Callable[[str], CommandLine]]:
    """Return a function that returns the command line on the backend of a URL."""
    used: list[str] = []

    def command_line(url: str) -> CommandLine:
        used.append(url)
        return CommandLine(url)

    yield command_line
    # A process of its own would end now.
    for url in used:
        connect(url).close()


@pytest.fixture
def tasklocks(backend_url: str, at: Callable[[str], CommandLine]) -> CommandLine:
    """The command line, on an empty backend of each kind in turn."""
    return at(backend_url)
