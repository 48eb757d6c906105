"""A real browser without a window: what a page shows once its scripts have run, as text and as a picture."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import missing_program
from tests.processes import ROOT

__all__ = ["picture", "shown"]

_PICTURES = ROOT / "docs" / "img"


def shown(url: str, folder: Path) -> str:
    """Return the page's elements as they are after a moment."""
    return _run(folder, "--dump-dom", url)


def picture(url: str, folder: Path, name: str, size: tuple[int, int]) -> Path:
    """Take a picture of the page; with TASKLOCKS_KEEP_PICTURES set, it becomes the one in the docs."""
    path = folder / f"{name}.png"
    _run(folder, f"--window-size={size[0]},{size[1]}", f"--screenshot={path}", url)
    if os.environ.get("TASKLOCKS_KEEP_PICTURES"):
        shutil.copy(path, _PICTURES / path.name)
    return path


def _run(folder: Path, *arguments: str) -> str:
    if shutil.which("chromium") is None:
        missing_program("chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
    done = subprocess.run(
        ["chromium", *options, f"--user-data-dir={folder}/browser", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout
