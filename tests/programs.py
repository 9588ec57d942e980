"""Runs a function of a test file in a program of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_a_program_of_its_own(function: Callable[..., None], *args: Any) -> None:
    """Call it where no other test has left threads, whose locks a fork would copy, held.

    The arguments go as text. Processes that it starts can import its file by the file's name,
    which those of a test cannot.
    """
    module = function.__module__.rpartition(".")[2]
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {module}; "
        f"{module}.{function.__name__}(*{args!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=180)
