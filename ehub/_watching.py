"""Bars of what the engine does in one call, as its figures tell from beside it.

A table or a store of a server has other things beside its calls, and says which; its figures may
be fewer, and then a bar shows the time alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ehub._progress import Beside, InThread, Look, grown, watched

__all__ = ["building", "rewriting", "waiting"]


def building(progress: bool, table: Any, what: str) -> AbstractContextManager[None]:
    """A bar of the rows of graphs that are built for a version while a block runs."""

    def begin() -> Look:
        before = table.index_stats()["rows_built"]

        def look() -> tuple[int, int]:
            stats = table.index_stats()
            built = stats["rows_built"] - before
            return built, built + stats["rows_due"]

        return look

    return watched(progress, f"{what} {table.space}", begin, "row", beside(table))


def rewriting(progress: bool, store: Any, what: str) -> AbstractContextManager[None]:
    """A bar of the rows that are written to new segments of a hub while a block runs."""
    figures = getattr(store, "work_stats", None)
    begin = None if figures is None else grown(lambda: figures()["rows_rewritten"])
    return watched(progress, what, begin, "row", beside(store))


def waiting(progress: bool, engine: object, what: str) -> AbstractContextManager[None]:
    """A bar of the time that a block takes, where nothing else can be known."""
    return watched(progress, what, looking=beside(engine))


def beside(engine: object) -> Callable[[], Beside]:
    """What looks beside calls of a part of the engine, or of what stands for it."""
    made: Callable[[], Beside] = getattr(engine, "beside", InThread)
    return made
