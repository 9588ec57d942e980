"""What README.md shows works as it stands: each Python block runs, each command exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ehub

README = Path(__file__).resolve().parent.parent / "README.md"
TEXT = README.read_text()


def blocks(*languages: str) -> list[str]:
    """The fenced blocks of these languages, in the order of the page."""
    fences = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [body for language, body in fences if language in languages]


def commands() -> list[list[str]]:
    """Every `ehub ...` command line of the page, as words, without its arguments' values."""
    lines = [line for block in blocks("console", "bash", "sh") for line in block.splitlines()]
    parts = [part.strip().removeprefix("$ ") for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts if part.startswith("ehub ")]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory of its own, with the package under test and a wide terminal."""
    package_parent = str(Path(ehub.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": package_parent, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )


def test_the_page_has_something_to_run():
    assert blocks("python")
    assert commands()


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_runs_as_it_stands(block, tmp_path):
    done = run(["-c", block], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_commands_run_one_after_the_other_on_what_the_quick_start_made(tmp_path):
    assert run(["-c", blocks("python")[0]], tmp_path).returncode == 0
    for command in commands():
        if command[1] not in ("demo", "bench", "serve", "top"):  # which have tests of their own
            done = run(["-m", "ehub.cli", *command[1:]], tmp_path)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands(), ids=shlex.join)
def test_a_command_and_its_options_exist(command, tmp_path):
    depth = 3 if command[1] in ("audit", "auth") else 2  # which have commands of their own
    subcommand = [word for word in command[1:depth] if not word.startswith("-")]
    script = "import sys; from ehub.cli import main; sys.argv[0] = 'ehub'; main()"
    done = run(["-c", script, *subcommand, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    options = [word.partition("=")[0] for word in command if word.startswith("--")]
    assert [option for option in options if option not in done.stdout] == []
