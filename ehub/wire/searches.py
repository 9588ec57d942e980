"""Single searches of many callers, gathered: those that wait are searched for at once.

Who finds nobody searching, searches at once and alone: gathering never makes a lone search wait.
Those that come meanwhile are one native batch search, on all cores, as soon as it is done. Each
search looks at a view that was taken after it came, so it finds every write that was acknowledged
before it.

The server gathers what comes from several clients, and a client what comes from several threads:
that is one call instead of many.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ehub.neighbors import Neighbors, split
from ehub.types import Vectors

if TYPE_CHECKING:
    from ehub._native import _store

__all__ = ["Searches"]

BATCH_MAX = 256


class Stoppable(Protocol):
    """What ends a search once it is set."""

    def set(self) -> None: ...


@dataclass(slots=True)
class Asked:
    """Those who asked for one batch: when the last of them has left, nobody wants its answers."""

    count: int
    stop: Stoppable

    def leave(self) -> None:
        """One of them has left."""
        self.count -= 1
        if self.count == 0:
            self.stop.set()


@dataclass(slots=True)
class Waiting:
    """A search that waits for its answer, or to become the one that searches."""

    query: Vectors
    ready: threading.Event | None = None  # of one that waits for another
    answer: Neighbors | None = None
    error: BaseException | None = None
    leads: bool = False
    left: bool = False
    asked: Asked | None = None


class Searches:
    """Searches that may be gathered, by what they have in common. Any thread may use it.

    Args:
        make_stop: Makes what the rows take to end a search; None if they take nothing like that.
    """

    def __init__(self, make_stop: Callable[[], Stoppable] | None = None) -> None:
        self._lock = threading.Lock()
        self._make_stop = make_stop
        # By what is common to those that may be gathered; a key is there while one searches.
        self._waiting: dict[Hashable, deque[Waiting]] = {}

    def nearest(
        self,
        common: Hashable,
        rows: Callable[[], _store.View],
        query: Vectors,
        options: tuple[Any, ...],
        on_leave: Callable[[Callable[[], None]], object] | None = None,
    ) -> Neighbors:
        """The neighbours of one query.

        Args:
            common: The same for searches that may be gathered: table, partitions, options.
            rows: Takes the view, as of now.
            query: float32[dims].
            options: k, the largest distance, ef, exact.
            on_leave: Is given what to call when the one who asked has left: the search ends early
                if nobody else waits for it.
        """
        mine = Waiting(query)
        if on_leave is not None:
            on_leave(lambda: self._leave(mine))
        with self._lock:
            queue = self._waiting.get(common)
            if queue is None:
                self._waiting[common] = deque()
                mine.leads = True
            else:
                mine.ready = threading.Event()
                queue.append(mine)
        if mine.ready is not None:
            mine.ready.wait()
        if mine.leads:
            self._lead(common, rows, mine, options)
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def _leave(self, one: Waiting) -> None:
        with self._lock:
            one.left = True
            if one.asked is not None:
                one.asked.leave()

    def _asked(self, batch: list[Waiting]) -> tuple[Stoppable, ...]:
        """What ends the search of a batch, if there is such a thing. Requires the lock."""
        if self._make_stop is None:
            return ()
        stop = self._make_stop()
        # One more, who leaves at once: all may have left before.
        asked = Asked(sum(not one.left for one in batch) + 1, stop)
        for one in batch:
            if not one.left:
                one.asked = asked
        asked.leave()
        return (stop,)

    def _lead(
        self,
        common: Hashable,
        rows: Callable[[], _store.View],
        mine: Waiting,
        options: tuple[Any, ...],
    ) -> None:
        """Search for this one and those behind it, then let the next one lead."""
        with self._lock:
            queue = self._waiting[common]
            batch = [mine, *(queue.popleft() for _ in range(min(len(queue), BATCH_MAX - 1)))]
            stop = self._asked(batch)
        try:
            search(rows(), batch, options, stop)
        except BaseException as error:
            self._one_by_one(rows, batch, options, stop, error)
        finally:
            with self._lock:
                following = queue.popleft() if queue else None
                if following is None:
                    del self._waiting[common]
            if following is not None:
                following.leads = True
            for one in batch[1:] if following is None else (following, *batch[1:]):
                assert one.ready is not None
                one.ready.set()

    def _one_by_one(
        self,
        rows: Callable[[], _store.View],
        batch: list[Waiting],
        options: tuple[Any, ...],
        stop: tuple[Stoppable, ...],
        error: BaseException,
    ) -> None:
        """One bad query must not spoil the others: each gets an answer or an error of its own."""
        if len(batch) == 1:
            batch[0].error = error
            return
        for one in batch:
            try:
                search(rows(), [one], options, stop)
            except BaseException as own:
                one.error = own


def search(
    rows: Any, batch: list[Waiting], options: tuple[Any, ...], stop: tuple[Stoppable, ...]
) -> None:
    """Search natively for all of a batch."""
    k, distance_max, ef, exact = options
    if len(batch) == 1:
        found = rows.nearest_one(batch[0].query, k, distance_max, ef, exact, *stop)
        batch[0].answer = Neighbors(*found)
        return
    queries = np.stack([one.query for one in batch])
    answers = split(*rows.nearest(queries, k, distance_max, None, ef, exact, *stop))
    for one, answer in zip(batch, answers, strict=True):
        one.answer = answer
