"""Reading an audit log, and proving that it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehub.access.audit import DIRECTORY, START, files_of, hash_of, number_of

__all__ = ["AuditReport", "check", "entries"]

FINDINGS_MAX = 100


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a check found.

    Args:
        lines: How many lines were read.
        head: The number and the SHA-256 of the last one; (0, zeros) of an empty log.
        findings: What is wrong, a text for each place, at most a hundred; empty if nothing is.
        torn: The last line is cut short, as a crash leaves it; that is no finding.
    """

    lines: int
    head: tuple[int, str]
    findings: tuple[str, ...]
    torn: bool = False


def check(hub: str | os.PathLike[str], *known: tuple[int, str]) -> AuditReport:
    """Follow the chain through all files of a hub's log.

    Args:
        hub: The hub's directory.
        known: Heads that the log had at some time: number and SHA-256 of a line. Each must still be
            there, so what was cut off at the end is found, and a log that was written anew.
    """
    chain = Chain(known)
    files = files_of(Path(hub, DIRECTORY))
    first = number_of(files[0]) if files else 1
    if first != 1:
        chain.report(f"{files[0].name}: the files before are missing")
    for place, path in enumerate(files):
        if number_of(path) != first + place:
            chain.report(f"{path.name}: the file before is missing")
            first = number_of(path) - place
        chain.follow(path, is_last=path == files[-1])
    return chain.end()


class Chain:
    """How far a log was followed."""

    def __init__(self, known: Iterable[tuple[int, str]]) -> None:
        self.n, self.prev = 0, START
        self.lines = 0
        self.torn = False
        self.findings: list[str] = []
        # Heads of one number may differ; then one of them is not of this log.
        self._known: dict[int, set[str]] = {}
        for number, value in known:
            if number > 0:
                self._known.setdefault(number, set()).add(value)

    def report(self, text: str) -> None:
        """Add a finding."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)

    def follow(self, path: Path, *, is_last: bool) -> None:
        """Read one file."""
        with path.open("rb") as file:
            for place, line in enumerate(file, 1):
                where = f"{path.name}:{place}"
                if line.endswith(b"\n"):
                    self._step(line[:-1], where)
                elif is_last:
                    self.torn = True
                else:
                    self.report(f"{where}: the line is cut short")

    def _step(self, line: bytes, where: str) -> None:
        self.lines += 1
        entry = parsed(line)
        if entry is None:
            self.report(f"{where}: no line of an audit log")
            self.n, self.prev = self.n + 1, hash_of(line)
            return
        if entry["n"] != self.n + 1:
            self.report(f"{where}: line {entry['n']} follows line {self.n}: {gap(entry, self.n)}")
        elif entry["prev"] != self.prev:
            self.report(
                f"{where}: line {self.n} is not the one that line {entry['n']} was written after: "
                "one of the two was changed"
            )
        self.n, self.prev = entry["n"], hash_of(line)
        if self._known.pop(self.n, {self.prev}) != {self.prev}:
            self.report(f"{where}: line {self.n} is another one than it was known to be")

    def end(self) -> AuditReport:
        """What was found."""
        for number in sorted(self._known):
            self.report(f"the log had line {number}, which is not there: its end was cut off")
        return AuditReport(self.lines, (self.n, self.prev), tuple(self.findings), self.torn)


def gap(entry: dict[str, Any], before: int) -> str:
    """What a wrong number means."""
    if entry["n"] > before + 1:
        return f"{entry['n'] - before - 1} lines are missing"
    return "lines were repeated, or their order was changed"


def parsed(line: bytes) -> dict[str, Any] | None:
    """A line; None if it is no line of a log."""
    try:
        entry = json.loads(line)
        good = type(entry["n"]) is int and type(entry["prev"]) is str
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if good else None


def entries(hub: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The lines of a hub's log that can be read, oldest first."""
    for path in files_of(Path(hub, DIRECTORY)):
        with path.open("rb") as file:
            for line in file:
                entry = parsed(line) if line.endswith(b"\n") else None
                if entry is not None:
                    yield entry
