"""The types of the public API, as users' own type checkers see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

API = ROOT / "tests" / "typing" / "api.py"

pytest.importorskip("mypy")


@pytest.mark.parametrize("python", ["3.10", "3.13"])
def test_the_public_api_keeps_the_types_of_what_it_decorates(python, tmp_path):
    done = _mypy(API, python, tmp_path)
    assert done.stdout.strip() == "Success: no issues found in 1 source file"


def test_the_check_finds_a_mistake(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from tasklocks import locked\n\n@locked("report", ttl="30")\ndef report() -> None: ...\n')
    assert 'Argument "ttl" to "locked" has incompatible type "str"' in _mypy(wrong, "3.10", tmp_path).stdout


def _mypy(file: Path, python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    options = ["--strict", "--python-version", python, "--cache-dir", str(ROOT / ".mypy_cache" / "tests")]
    command = [sys.executable, "-m", "mypy", *options, "--config-file", str(_config(folder)), str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


def _config(folder: Path) -> Path:
    """The users' view: their own strict settings, and Celery without type information."""
    config = folder / "mypy.ini"
    config.write_text(
        "[mypy]\nfollow_imports_for_stubs = True\n"
        "[mypy-celery.*,kombu.*,billiard.*]\nignore_missing_imports = True\n"
        "[mypy-tasklocks.*]\nfollow_imports = silent\n"
    )
    return config
