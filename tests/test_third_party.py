"""The author of another backend installs tasklocks, writes one small test module, and knows what is promised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PROJECT = ROOT / "tests" / "third_party"
PAGE = ROOT / "docs" / "backends.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The author's project, with what an installation of it leaves where Python looks for entry points."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tasklocks_box-1.0.dist-info").mkdir()
    table = (folder / "pyproject.toml").read_text().partition('[project.entry-points."tasklocks.backends"]\n')[2]
    points = table.replace('"', "")
    (folder / "tasklocks_box-1.0.dist-info" / "entry_points.txt").write_text(f"[tasklocks.backends]\n{points}")
    return folder


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "TASKLOCKS"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-W", "error", "-q", "-rs", "--rootdir", ".", *options],
        cwd=folder,
        env={**env, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.slow
def test_a_backend_of_somebody_else_passes_the_suite(project):
    done = pytest_in(project)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100
    assert "failed" not in done.stdout


def test_a_backend_that_breaks_a_promise_fails_the_suite_with_what_it_answered(project):
    box = project / "box.py"
    box.write_text(box.read_text().replace("return self._limits.release(name, owner, keep)", "return True"))
    done = pytest_in(project, "-k", "test_a_second_release_is_harmless")
    assert done.returncode == 1, done.stdout[-3000:]
    assert "assert True is False" in done.stdout


def test_tasklocks_itself_needs_no_test_tools():
    code = "import sys, tasklocks, tasklocks.backends.memory; print({'pytest', 'hypothesis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_the_suite_says_what_to_install_where_pytest_is_missing():
    code = "import sys; sys.modules['pytest'] = None; import tasklocks.testing"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pip install 'tasklocks[testing]'" in done.stderr.splitlines()[-1]


def test_the_documentation_shows_the_project_that_is_tested():
    page = PAGE.read_text("utf-8")
    for file in ("test_box.py", "pyproject.toml"):
        assert (PROJECT / file).read_text("utf-8").strip() in page, file
