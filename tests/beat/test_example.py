"""The example does what its page says, without any server."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT


def test_the_example_kills_its_leader_and_the_other_beat_takes_over(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "beat" / "run.py"), "--seconds", "2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "is killed" in ended.stdout
    assert "leads after" in ended.stdout
    assert ended.stdout.count("tick  ") >= 2
    assert list(tmp_path.iterdir()) == []
