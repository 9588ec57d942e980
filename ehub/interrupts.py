"""Ctrl-C while the engine works.

Python raises KeyboardInterrupt in the main thread, between steps of its own, and a call of the
engine is one step, however long it takes. So what may take long is done in another thread, while
the main one waits: that can be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sized
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ehub._native import _store

__all__ = ["interruptible", "searched", "stoppable"]

Answer = TypeVar("Answer")

ENGINE = (_store.Store, _store.Table, _store.View, _store.KMeans)
# Fewer searches are done soon, and a thread for them would be felt.
SEARCHES_MIN = 256


# For how long the end of work is waited for that was asked to stop, so that what comes next, such
# as closing the hub, finds it done.
STOP_SECONDS = 0.5


def interruptible(work: Callable[..., Answer], *args: Any) -> Answer:
    """What `work(*args)` returns, unless somebody interrupts it.

    The work goes on by itself then until it is done, or the hub is closed. A server is called as it
    is, for that can be interrupted anyway. Another thread than the main one never is, and gets no
    other.

    Args:
        work: A method of the engine, or of what stands for it.
        args: What it is called with.
    """
    return in_thread(partial(work, *args), None) if blocks(work) else work(*args)


def stoppable(work: Callable[..., Answer], *args: Any) -> Answer:
    """The same of work that ends soon when it is interrupted, for it takes a `stop`."""
    if not blocks(work):
        return work(*args)
    stop = _store.Stop()
    return in_thread(partial(work, *args, stop=stop), stop)


def searched(search: Callable[..., Answer], queries: Sized, *options: Any) -> Answer:
    """What `search(queries, *options)` finds, unless somebody interrupts it."""
    if len(queries) < SEARCHES_MIN:
        return search(queries, *options)
    return stoppable(search, queries, *options)


def in_thread(work: Callable[[], Answer], stop: _store.Stop | None) -> Answer:
    """Work in another thread, and wait for it where that can be interrupted."""
    done: Future[Answer] = Future()
    thread = threading.Thread(target=run, args=(done, work), name="ehub-work", daemon=True)
    try:
        if not begun(thread):
            return work()
        return done.result()
    except BaseException:  # of any signal's handler; of the work's own it changes nothing
        if stop is not None:
            stop.set()
            with suppress(RuntimeError):  # it never began
                thread.join(STOP_SECONDS)
        raise
    finally:
        del done, thread, work  # an error holds this frame, and they hold the error


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


def run(done: Future[Answer], work: Callable[[], Answer]) -> None:
    """Work, and hand on what comes of it."""
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    finally:
        del done, work
