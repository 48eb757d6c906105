"""What `docs/cli.md` shows is what the commands print."""

from __future__ import annotations

import re
import shlex

from tasklocks import connect
from tests.cli.scene import a_night
from tests.processes import ROOT

PAGE = ROOT / "docs" / "cli.md"
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(text: str) -> list[str]:
    """Return the lines without what differs from night to night: times, tokens, versions, the spaces that they need."""
    text = re.sub(r"version [\w.]+", "version V", text)
    numbers = re.sub(r"\d+(\.\d+)?( ms| s\b| pairs)", "T", re.sub(r"\d{4}-\d\d-\d\d \S+|\d{16}", "MOMENT", text))
    # On a busy machine the night has gone on.
    numbers = re.sub(
        r"it probably starts .*, for|nobody can tell when it starts: (.*), and each .* than that", r"\1", numbers
    )
    numbers = numbers.replace("overdue", "T")
    return [" ".join(line.split()) for line in numbers.splitlines() if line.strip()]


def test_every_command_of_the_page_prints_what_the_page_shows(at, tmp_path):
    url = f"sqlite:///{tmp_path}/locks.db"
    blocks = CONSOLE.findall(PAGE.read_text())
    assert len(blocks) >= 8
    with a_night(connect(url)):
        for block in blocks:
            command, _, output = block.partition("\n")
            program, *words = shlex.split(command.removeprefix("$ "))
            assert program == "tasklocks"
            assert shown(at(url)(*words).output.replace(str(tmp_path), "/var/lib/shop")) == shown(output), command
