"""Progress bars for calls that take long, if one was asked for.

A call that goes step by step counts them on a `bar()`. One that does not, because all of it is one
step of the engine or one call to a server, is `watched()`: something beside it looks how far it is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TextIO

__all__ = ["Bar", "Beside", "InThread", "Look", "bar", "grown", "is_terminal", "watched"]

LOOK_SECONDS = 0.2
BYTES = "B"
# For how long a last look is waited for when the call is over.
END_SECONDS = 0.5

# How much is done, and of how much; None: nobody knows yet.
Look = Callable[[], tuple[int, int | None]]


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

    with tqdm(total=total, unit=spaced(unit), unit_scale=True, desc=what) as shown:
        yield shown


def spaced(unit: str) -> str:
    """A unit as it follows a number: "12.0k rows", but "12.0MB"."""
    return unit if unit in ("", BYTES) else f" {unit}"


class Beside(Protocol):
    """What takes steps beside a call, until the call is over."""

    def start(self, step: Callable[[], None]) -> None:
        """Take `step` again and again from now on."""

    def end(self, *, last: bool) -> None:
        """Take no more, but with `last` one, which is not waited for for long."""


class InThread:
    """Steps in a thread of their own."""

    def __init__(self, seconds: float = LOOK_SECONDS) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._last = False
        self._thread: threading.Thread | None = None

    def start(self, step: Callable[[], None]) -> None:
        """Take `step` again and again, `seconds` apart; where there is no thread to be had, not."""
        thread = threading.Thread(target=self._run, args=(step,), name="ehub-progress", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self, step: Callable[[], None]) -> None:
        while not self._ended.wait(self._seconds):
            step()
        if self._last:
            step()

    def end(self, *, last: bool) -> None:
        """End the thread, which takes its last step alone if it takes long."""
        self._last = last
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)


def grown(figure: Callable[[], int], total: int | None = None) -> Callable[[], Look]:
    """What `watched()` begins with where a figure grows with what is done."""

    def begin() -> Look:
        before = figure()
        return lambda: (figure() - before, total)

    return begin


@contextmanager
def watched(
    progress: bool,
    what: str,
    begin: Callable[[], Look] | None = None,
    unit: str = "",
    looking: Callable[[], Beside] = InThread,
) -> Iterator[None]:
    """A bar as of `bar()` that shows by itself how far the block is.

    Args:
        progress: Whether somebody asked for it; else nothing is done.
        what: What the block does.
        begin: Called before the block; gives what says how far it is. None: nobody can say, and
            the bar shows the time that it takes alone.
        unit: Of what is counted.
        looking: Makes what looks again and again while the block runs.
    """
    if not (progress and is_terminal(sys.stderr)):
        yield
        return
    from tqdm import tqdm

    look = None
    if begin is not None:
        with suppress(Exception):  # which the block will raise as well, in the words of its own
            look = begin()
    form = "{desc}: {elapsed}" if look is None else None
    looks = looking()
    with tqdm(total=None, unit=spaced(unit), unit_scale=True, desc=what, bar_format=form) as shown:
        step = partial(show, shown, look)
        is_done = False
        try:
            looks.start(step)
            yield
            is_done = True
        finally:
            looks.end(last=is_done)


def show(shown: Any, look: Look | None) -> None:
    """Draw the bar as far as things are; a look that fails changes nothing but the time.

    So does a drawing that fails, which gives back the lock that all bars share: `refresh()` by
    itself would keep it.
    """
    if look is not None:
        with suppress(Exception):
            done, total = look()
            shown.n = max(shown.n, done)
            shown.total = total and max(total, shown.n)
    with suppress(Exception), shown.get_lock():
        shown.refresh(nolock=True)
