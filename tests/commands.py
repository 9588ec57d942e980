"""Commands of `ehub`, run within the process of a test."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ehub.cli import run

__all__ = ["Outcome", "outcome_of"]


class Outcome(NamedTuple):
    """The exit code of a command, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote with `--json`."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """What it wrote for programs: lines of fields."""
        return [line.split("\t") for line in self.out.splitlines()]


def outcome_of(capsys: Any, *arguments: object) -> Outcome:
    """Run a command."""
    code = run([str(argument) for argument in arguments])
    return Outcome(code, *capsys.readouterr())
