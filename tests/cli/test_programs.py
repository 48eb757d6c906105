"""The command line as it is started: its entry points, exit codes, and what it never shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tasklocks import connect, who
from tasklocks.cli import limits, main
from tasklocks.testing.asking import taken
from tests.cli.conftest import CommandLine
from tests.processes import ROOT, free_port

SECRET = "s3cret-pass"
BIN = Path(sys.executable).parent


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TASKLOCKS_URL", "PYTEST"))}
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/locks.db"


@pytest.mark.parametrize("program", [[str(BIN / "tasklocks")], [sys.executable, "-W", "error", "-m", "tasklocks"]])
def test_the_program_lists_the_limits_of_the_backend_in_the_environment(program, url):
    taken(connect(url), "a", "report")
    done = run(*program, "ls", "--json", TASKLOCKS_URL=url)
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)["limits"]] == ["report"]


@pytest.mark.parametrize(
    "program", [["celery", "-A", "tests.apps.basic", "limits"], ["tasklocks", "-A", "tests.apps.basic"]]
)
def test_the_apps_settings_are_used(program, url):
    taken(connect(url, prefix="of-the-app"), "a", "report")
    app = {"BROKER_URL": "memory://", "RESULT_BACKEND": "cache+memory://", "TEST_QUEUE": "unused"}
    conf = json.dumps({"tasklocks_url": url, "tasklocks_prefix": "of-the-app"})
    done = run(str(BIN / program[0]), *program[1:], "show", "report", TEST_CELERY_CONF=conf, **app)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 permits held" in done.stdout


def test_nobody_is_shown_an_empty_backend_that_nobody_meant(tmp_path):
    done = subprocess.run(
        [str(BIN / "tasklocks"), "ls"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "TASKLOCKS_URL" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["nothing://x", "no url", "sqlite://"])
def test_a_url_that_cannot_work_is_exit_code_2(wrong):
    result = CommandLine(wrong)("ls")
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_an_app_that_cannot_be_imported_is_exit_code_2(tmp_path):
    result = CommandLine("memory://")("-A", "no.such.app", "ls")
    assert result.exit_code == 2
    assert "no.such.app" in result.stderr


@pytest.mark.parametrize("command", [["ls"], ["show", "x"], ["doctor"], ["doctor", "--json"], ["bench"]])
def test_a_backend_that_does_not_answer_is_exit_code_3_and_its_password_is_not_shown(command):
    result = CommandLine(f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0")(*command)
    assert result.exit_code == 3
    assert SECRET not in result.output


def test_a_refused_password_is_exit_code_2_and_is_not_shown(redis_url):
    result = CommandLine(redis_url.replace("redis://", f"redis://user:{SECRET}@"))("ls")
    assert result.exit_code == 2
    assert "password" in result.output
    assert SECRET not in result.output


def test_control_characters_of_owners_do_not_reach_the_terminal(tmp_path):
    url = f"memory://{tmp_path.name}"
    info = who.written(task="\x1b[2Jevil\n[bold]", id="id-1", host="\x1b]0;title\x07", pid="1")
    taken(connect(url), "\x1b[31mowner", "report", info=info)
    shown = CommandLine(url)
    texts = [shown.says(*words) for words in (["ls"], ["show", "report"], ["why", "id-1"], ["watch", "--times", "1"])]
    assert "%1B[2Jevil%0A[bold]" in texts[1]
    for text in (*texts, shown("release", "report", answer="y\n").output):
        assert "\x1b" not in text
        assert "\x07" not in text


@pytest.mark.parametrize("name", sorted(limits.commands))
def test_every_command_can_answer_in_json(name):
    assert "--json" in limits.commands[name].get_help(click.Context(limits.commands[name]))
    assert limits.commands[name] is main.commands[name]


def test_bench_measures_pairs(url):
    answer = CommandLine(url).knows("bench", "--seconds", "0.2")
    assert answer["pairs"] > 0
    assert 0 < answer["p50_ms"] <= answer["p99_ms"]
