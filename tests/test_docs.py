"""What the README and the docs show runs as it stands there."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tasklocks

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks():
    for page in PAGES:
        for number, block in enumerate(BLOCK.findall(page.read_text()), 1):
            yield pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("code", list(blocks()))
def test_every_python_block_runs_as_it_stands(code, tmp_path):
    environ = {key: value for key, value in os.environ.items() if key != "TASKLOCKS_URL"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert missing == []


def test_the_readme_shows_the_whole_first_look():
    assert len(BLOCK.findall((ROOT / "README.md").read_text())) >= 7


def test_the_reference_says_what_the_code_says():
    done = subprocess.run([sys.executable, "tools/reference.py", "--check"], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, "run: python tools/reference.py"


def test_every_setting_is_in_the_docs_and_every_one_there_is_read():
    code = "\n".join(path.read_text() for path in (ROOT / "tasklocks").rglob("*.py"))
    read = set(re.findall(r"""conf\.(?:get\()?"?(tasklocks_\w+)""", code))
    told = set(re.findall(r"^\| `(tasklocks_\w+)`", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    assert read == told


@pytest.mark.parametrize(
    ("decorator", "page"), [(tasklocks.locked, "configuration.md"), (tasklocks.rate_limited, "rates.md")]
)
def test_every_option_of_a_decorator_is_in_its_table(decorator, page):
    text = (ROOT / "docs" / page).read_text()
    table = text[text.index(f"## Options of `@{decorator.__name__}`") :]
    told = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert set(inspect.signature(decorator).parameters) <= told
