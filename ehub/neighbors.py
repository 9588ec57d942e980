"""The answer to a search: neighbors, nearest first, as arrays and as a sequence of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, overload

import numpy as np

from ehub.types import Key, KeyArray, Vectors

__all__ = ["Neighbor", "Neighbors"]


class Neighbor(NamedTuple):
    """One neighbor."""

    key: Key
    distance: float


class Neighbors(Sequence[Neighbor]):
    """Neighbors of one query, nearest first.

    A sequence of `Neighbor(key, distance)`, and two arrays of the same length: `keys` (int64, or
    Python strings) and `distances` (float32).
    """

    __slots__ = ("distances", "keys")

    def __init__(self, keys: KeyArray, distances: Vectors) -> None:
        self.keys = keys
        self.distances = distances

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Neighbor: ...
    @overload
    def __getitem__(self, index: slice) -> Neighbors: ...
    def __getitem__(self, index: int | slice) -> Neighbor | Neighbors:
        if isinstance(index, slice):
            return Neighbors(self.keys[index], self.distances[index])
        key = self.keys[index]
        return Neighbor(key if isinstance(key, str) else int(key), float(self.distances[index]))

    def __iter__(self) -> Iterator[Neighbor]:
        return map(Neighbor, self.keys.tolist(), self.distances.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Neighbors):
            return NotImplemented
        return np.array_equal(self.keys, other.keys) and np.array_equal(
            self.distances, other.distances
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"({key!r}, {distance:.6g})" for key, distance in self[:10])
        return f"Neighbors([{shown}{', ...' if len(self) > 10 else ''}])"


def split(keys: KeyArray, distances: Vectors, begins: list[int]) -> list[Neighbors]:
    """The neighbors of each query: those of query i lie in [begins[i], begins[i + 1])."""
    return [Neighbors(keys[begin:end], distances[begin:end]) for begin, end in pairwise(begins)]
