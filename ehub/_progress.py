"""A progress bar for calls that take long, if one was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Bar", "bar"]


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
    if not progress:
        yield NoBar()
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, unit_scale=True, desc=what, disable=None) as shown:
        yield shown
