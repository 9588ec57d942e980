"""Single searches of many callers, gathered: those that wait are searched for at once.

Who finds few searching, searches at once and alone: gathering never makes a lone search wait.
Those that come meanwhile are one native batch search, on all cores, as soon as one is done. Each
search looks at a view that was taken after it came, so it finds every write that was acknowledged
before it.

The server gathers what comes from several clients, and a client what comes from several threads,
or tasks of its event loop: that is one call instead of many.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ehub.neighbors import Neighbors, split
from ehub.types import Vectors

if TYPE_CHECKING:
    from ehub._native import _store

__all__ = ["Event", "Searches"]

BATCH_MAX = 256


class Stoppable(Protocol):
    """What ends a search once it is set."""

    def set(self) -> None: ...


class Event(Stoppable, Protocol):
    """What one waits for until it is set: a `threading.Event`, or one of an event loop."""

    def wait(self) -> object:
        """Wait until it is set."""


@dataclass(slots=True, eq=False)
class Wanted:
    """A search, as `Searches.nearest()` has it."""

    common: Hashable
    rows: Callable[[], _store.View]
    query: Vectors
    options: tuple[Any, ...]
    on_leave: Callable[[Callable[[], None]], object] | None


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


class BeginAgainError(Exception):
    """The one who searched for others was interrupted: they have no answer yet."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A search that waits for its answer, or to become the one that searches."""

    query: Vectors
    ready: Event
    answer: Neighbors | None = None
    error: BaseException | None = None
    leads: bool = False
    left: bool = False
    asked: Asked | None = None


class Searches:
    """Searches that may be gathered, by what they have in common. Any thread may use it.

    Args:
        make_stop: Makes what the rows take to end a search; None if they take nothing like that.
        at_once: So many search at once before others wait.
        make_event: Makes what a search waits for.
    """

    def __init__(
        self,
        make_stop: Callable[[], Stoppable] | None = None,
        at_once: int = 1,
        make_event: Callable[[], Event] = threading.Event,
    ) -> None:
        # Never held while something is waited for: the tasks of an event loop share a thread.
        self._lock = threading.Lock()
        self._make_stop = make_stop
        self._make_event = make_event
        self._at_once = at_once
        # By what is common to those that may be gathered; a key is there while some search.
        self._waiting: dict[Hashable, deque[Waiting]] = {}
        self._searching: dict[Hashable, int] = {}

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
        wanted = Wanted(common, rows, query, options, on_leave)
        while True:
            with suppress(BeginAgainError):
                return self._nearest(wanted)

    def _nearest(self, wanted: Wanted) -> Neighbors:
        common = wanted.common
        is_alone = False
        try:  # a signal may interrupt every line, and what was counted must be handed on
            with self._lock:
                searching = self._searching.get(common, 0)
                if searching < self._at_once:
                    self._searching[common] = searching + 1
                    is_alone = True
            if is_alone:
                return self._alone(wanted)
        finally:
            if is_alone:
                self._hand_on(common)
        return self._in_turn(wanted)

    def _alone(self, wanted: Wanted) -> Neighbors:
        """Search for one, at once."""
        stop: tuple[Stoppable, ...] = ()
        if self._make_stop is not None:
            stop = (self._make_stop(),)
            if wanted.on_leave is not None:
                wanted.on_leave(stop[0].set)
        view: Any = wanted.rows()
        return Neighbors(*view.nearest_one(wanted.query, *wanted.options, *stop))

    def _in_turn(self, wanted: Wanted) -> Neighbors:
        """Wait for those that search; then search for all that wait, or be searched for."""
        common, mine = wanted.common, Waiting(wanted.query, self._make_event())
        if wanted.on_leave is not None:
            wanted.on_leave(lambda: self._leave(mine))
        try:
            with self._lock:
                # One of them may have ended meanwhile.
                mine.leads = self._searching.get(common, 0) < self._at_once
                if mine.leads:
                    self._searching[common] = self._searching.get(common, 0) + 1
                else:
                    self._waiting.setdefault(common, deque()).append(mine)
            if not mine.leads:
                mine.ready.wait()
        except BaseException:  # of a signal
            self._abandon(common, mine)
            raise
        if mine.leads:
            self._lead(wanted, mine)
        if mine.error is not None:
            raise mine.error
        assert mine.answer is not None
        return mine.answer

    def _abandon(self, common: Hashable, mine: Waiting) -> None:
        """One who waited was interrupted, and must not be made to lead."""
        self._leave(mine)
        with self._lock:
            queue = self._waiting.get(common)
            if queue is not None and mine in queue:
                queue.remove(mine)
            leads = mine.leads
        if leads:
            self._hand_on(common)

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

    def _lead(self, wanted: Wanted, mine: Waiting) -> None:
        """Search for this one and those behind it, then let the next one lead."""
        common, options = wanted.common, wanted.options
        with self._lock:
            queue = self._waiting.get(common) or deque[Waiting]()
            behind = [queue.popleft() for _ in range(min(len(queue), BATCH_MAX - 1))]
            batch = [mine, *behind]
            stop = self._asked(batch)
        try:
            search(wanted.rows(), batch, options, stop)
        except (ConnectionError, TimeoutError) as error:  # of no query: nobody would get more
            mine.error = error
            for one in behind:
                one.error = copied(error)
        except Exception as error:
            self._one_by_one(wanted.rows, batch, options, stop, error)
        finally:
            self._hand_on(common)
            for one in behind:
                if one.answer is None and one.error is None:  # a signal, this thread's alone
                    one.error = BeginAgainError()
                one.ready.set()

    def _hand_on(self, common: Hashable) -> None:
        """A search has ended: let the one that waits for longest lead the next."""
        with self._lock:
            queue = self._waiting.get(common)
            following = queue.popleft() if queue else None
            if following is None:
                self._waiting.pop(common, None)
                self._searching[common] -= 1
                if self._searching[common] == 0:
                    del self._searching[common]
            else:
                following.leads = True
        if following is not None:
            following.ready.set()

    def _one_by_one(
        self,
        rows: Callable[[], _store.View],
        batch: list[Waiting],
        options: tuple[Any, ...],
        stop: tuple[Stoppable, ...],
        error: Exception,
    ) -> None:
        """One bad query must not spoil the others: each gets an answer or an error of its own."""
        if len(batch) == 1:
            batch[0].error = error
            return
        for one in batch:
            try:
                search(rows(), [one], options, stop)
            except Exception as own:
                one.error = own


def copied(error: Exception) -> Exception:
    """The same error as an object of its own: who raises one changes its traceback and notes."""
    own = copy.copy(error).with_traceback(error.__traceback__)
    own.__cause__, own.__suppress_context__ = error.__cause__, error.__suppress_context__
    if hasattr(error, "__notes__"):
        own.__notes__ = list(error.__notes__)
    return own


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
