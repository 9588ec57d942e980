"""Ctrl-C while the engine works.

Python raises KeyboardInterrupt in the main thread, between steps of its own, and a call of the
engine is one step, however long it takes. So what may take long is done in another thread, while
the main one waits: that can be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sized
from concurrent.futures import Future
from typing import Any, TypeVar

from ehub._native import _store

__all__ = ["interruptible", "searched"]

Answer = TypeVar("Answer")

ENGINE = (_store.Table, _store.View, _store.KMeans)
# Fewer searches are done soon, and a thread for them would be felt.
SEARCHES_MIN = 256


def interruptible(
    work: Callable[..., Answer], *args: Any, stop: Callable[[], None] | None = None
) -> Answer:
    """What `work(*args)` returns, unless somebody interrupts it.

    A server is called as it is, for that can be interrupted anyway. Another thread than the main
    one never is, and gets no other.

    Args:
        work: A method of the engine, or of what stands for it.
        args: What it is called with.
        stop: Makes the work end soon; None: it goes on by itself until it is done, or the hub is
            closed.
    """
    if not blocks(work):
        return work(*args)
    done: Future[Answer] = Future()
    thread = threading.Thread(target=run, args=(done, work, args), name="ehub-work", daemon=True)
    try:
        if not begun(thread):
            return work(*args)
        return done.result()
    except BaseException:  # of any signal's handler; of the work's own it changes nothing
        if stop is not None:
            stop()
        raise
    finally:
        del done, thread  # an error holds this frame, and they hold the error


def searched(search: Callable[..., Answer], queries: Sized, *options: Any) -> Answer:
    """What `search(queries, *options)` finds, unless somebody interrupts it."""
    if len(queries) < SEARCHES_MIN or not blocks(search):
        return search(queries, *options)
    stop = _store.Stop()
    return interruptible(search, queries, *options, stop, stop=stop.set)


def blocks(work: Callable[..., Any]) -> bool:
    """Whether nobody could interrupt it here: it is the engine's, and this is the main thread."""
    of_engine = isinstance(getattr(work, "__self__", None), ENGINE)
    return of_engine and threading.current_thread() is threading.main_thread()


def begun(thread: threading.Thread) -> bool:
    """Start a thread; whether there was one to be had."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


def run(done: Future[Answer], work: Callable[..., Answer], args: tuple[Any, ...]) -> None:
    """Work, and hand on what comes of it."""
    try:
        done.set_result(work(*args))
    except BaseException as error:
        done.set_exception(error)
    finally:
        del done, work, args
