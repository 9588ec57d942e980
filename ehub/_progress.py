"""A progress bar for calls that take long, if one was asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

__all__ = ["Bar", "bar", "is_terminal"]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end; Python has None for a stream that is closed."""
    return stream is not None and stream.isatty()


class Bar(Protocol):
    """What a long call tells."""

    def update(self, n: int) -> object:
        """`n` more are done."""


class NoBar:
    """Nobody asked."""

    def update(self, n: int) -> None:
        """Say nothing."""


@contextmanager
def bar(progress: bool, total: int | None, unit: str, what: str) -> Iterator[Bar]:
    """A bar on standard error if `progress` and a person is looking (a terminal)."""
    if not (progress and is_terminal(sys.stderr)):
        yield NoBar()
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True, desc=what) as shown:
        yield shown
