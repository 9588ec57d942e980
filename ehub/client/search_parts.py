"""Batches of searches that are more than a server takes in one call: cut, and put together again.

A call has a bound for its message and one for the neighbors in its answer. The parts are asked for
of a snapshot that the server holds meanwhile, so that all answers are of one time. A server that
was started again has it no more: then all parts are asked for anew, of another one. A sub-index
has no snapshots, so of its answers each is of one time, and what is written meanwhile may show in
the later parts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from ehub.errors import InvalidArgumentError, NotFoundError, UnavailableError
from ehub.types import KeyArray, Vectors
from ehub.wire.failures import SNAPSHOT_GONE, TOO_LARGE, TOO_MANY

__all__ = ["Answers", "Asked", "Rows", "in_parts"]

# Of a message, for what goes with queries and filter.
HEAD_BYTES = 64 << 10
# Of a neighbor in an answer, if its key is short.
NEIGHBOR_BYTES = 12
# How many snapshots a batch takes, one after the other, before it is given up.
SNAPSHOTS_MAX = 4
# What is said of the first of several missing keys.
POSITION = re.compile(r"\(key (\d+) of \d+\)$")

# Of all queries together: keys, distances, where each query's begin.
Answers = tuple[KeyArray, Vectors, list[int]]


class Rows(Protocol):
    """What is searched."""

    def row_count(self) -> int:
        """How many rows there are."""

    def at_one_time(self) -> AbstractContextManager[Any]:
        """The same rows, which do not change; itself, if they cannot, or there is no such thing."""


class Asked(NamedTuple):
    """A batch of searches.

    Args:
        queries: How many.
        k: The neighbors of each.
        query_bytes: The bytes of a query in a message; of the largest.
        filter_bytes: Of the filter, which goes with each part.
        ask: Given rows, the first query and the end of a part: its answer.
    """

    queries: int
    k: int
    query_bytes: int
    filter_bytes: int
    ask: Callable[[Any, int, int], Answers]


def in_parts(rows: Rows, batch: Asked, message_bytes: int, rows_max: int | None) -> Answers:
    """The answers to a batch, by as few calls as can be.

    Args:
        rows: What is searched.
        batch: The searches.
        message_bytes: What fits in one message, of the server's too.
        rows_max: The neighbors with which it answers one call; None: nobody knows.
    """
    room = max(1, message_bytes - HEAD_BYTES - batch.filter_bytes)
    fits = max(1, room // batch.query_bytes)
    if batch.queries < 2 or (batch.queries <= fits and are_few(rows, batch, rows_max)):
        try:
            return batch.ask(rows, 0, batch.queries)
        except InvalidArgumentError as error:
            if not is_too_much(error) or batch.queries < 2:
                raise
            fits = batch.queries // 2
    for _ in range(SNAPSHOTS_MAX):
        held: Any = rows  # until there is a snapshot; if none can be taken, that is what is wrong
        try:
            with rows.at_one_time() as held:
                return of_one_time(held, batch, room, fits, rows_max)
        except NotFoundError as error:
            if held is rows or SNAPSHOT_GONE not in str(error):
                raise
    raise UnavailableError(
        f"the server let {SNAPSHOTS_MAX} snapshots go, one after the other, before a batch of "
        f"{batch.queries:,} searches, cut into parts, was answered from one: it was started again "
        "each time, or its limit `snapshot_idle_seconds` is less than a part takes; ask again, or "
        "for less at once"
    )


def of_one_time(held: Any, batch: Asked, room: int, fits: int, rows_max: int | None) -> Answers:
    """The answers to a batch from rows that do not change, in parts.

    Args:
        held: The rows.
        batch: The searches.
        room: The bytes of a message for queries, or for neighbors.
        fits: How many queries a part has at most, by their size.
        rows_max: The neighbors with which the server answers one call; None: nobody knows.
    """
    found = max(1, min(batch.k, held.row_count()))
    most = room // NEIGHBOR_BYTES if rows_max is None else min(rows_max, room // NEIGHBOR_BYTES)
    fits = min(fits, max(1, most // found))
    begins = range(0, batch.queries, fits)
    return together([part(batch, held, i, min(i + fits, batch.queries)) for i in begins])


def part(batch: Asked, rows: Any, begin: int, end: int) -> Answers:
    """The answer to some of the queries, by halves if their keys are too long for a message.

    A key that is missing is named by its place among all.
    """
    try:
        return batch.ask(rows, begin, end)
    except InvalidArgumentError as error:
        if not is_too_much(error) or end - begin < 2:
            raise
    except NotFoundError as error:
        place = POSITION.search(str(error))
        if place is None:
            raise
        said = f"(key {begin + int(place[1])} of {batch.queries})"
        raise NotFoundError(POSITION.sub(said, str(error))) from None
    middle = (begin + end) // 2
    return together([part(batch, rows, begin, middle), part(batch, rows, middle, end)])


def are_few(rows: Rows, batch: Asked, rows_max: int | None) -> bool:
    """Whether one call answers with all neighbors: each query has no more than there are rows."""
    if rows_max is None or batch.queries * batch.k <= rows_max:
        return True
    return batch.queries * max(1, min(batch.k, rows.row_count())) <= rows_max


def is_too_much(error: InvalidArgumentError) -> bool:
    """Whether gRPC says that a message was too large, or the server that an answer would be."""
    return TOO_LARGE in str(error) or TOO_MANY in str(error)


def together(parts: list[Answers]) -> Answers:
    """Answers one behind the other."""
    begins = [0]
    for _, _, own in parts:
        first = begins[-1]
        begins += [first + begin for begin in own[1:]]
    keys: Any = np.concatenate([keys for keys, _, _ in parts])
    return keys, np.concatenate([distances for _, distances, _ in parts]), begins
