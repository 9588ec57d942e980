"""Who is in which group of a named average, in memory and as rows of the store.

A membership is a pair of a group and a member, with a weight. On disk it is a row of a hidden
version: its key is `<n>:<group><member>` (integers in decimals, n being the length of the group's
text), and its vector holds the float64 weight, bit by bit. In memory, groups and members have
numbers, and memberships are sorted arrays of them, so that nothing here loops over memberships but
what makes and reads their keys.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub.types import Key, KeyArray, KeyType, Vectors

__all__ = ["Memberships", "Numbering", "as_pieces", "from_pieces", "pair_of", "row_keys"]

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

PIECES = 4  # of 16 bits, in float32 each, which holds such numbers exactly
GROUP_SHIFT = 32  # a membership is a group's number above a member's


class Numbering:
    """Keys by number, in the order in which they were first seen."""

    __slots__ = ("_array", "_numbers", "key_type", "keys")

    def __init__(self, key_type: KeyType) -> None:
        self.key_type = key_type
        self.keys: list[Key] = []
        self._numbers: dict[Key, int] = {}
        self._array: KeyArray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, keys: list[Any]) -> Numbers:
        """The numbers of keys, given to those that have none yet."""
        numbers = self._numbers
        fresh = [key for key in dict.fromkeys(keys) if key not in numbers]
        numbers.update(zip(fresh, range(len(self.keys), len(self.keys) + len(fresh)), strict=True))
        self.keys += fresh
        return np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys))

    def find(self, keys: Iterable[Any]) -> Numbers:
        """The numbers of those keys that have one."""
        found = np.fromiter(map(self._numbers.get, keys, repeat(-1)), np.int64)
        return found[found >= 0]

    def of(self, numbers: Numbers) -> KeyArray:
        """The keys with these numbers."""
        if self._array is None or len(self._array) != len(self.keys):
            dtype: Any = np.int64 if self.key_type == "int" else np.object_
            array = np.empty(len(self.keys), dtype)
            array[:] = self.keys
            self._array = array
        found: KeyArray = self._array[numbers]
        return found


class Memberships:
    """All memberships of an average.

    Not safe for threads: whoever has it takes turns.
    """

    __slots__ = ("_hashes", "_pairs", "_weights", "groups", "members")

    def __init__(self, group_type: KeyType, member_type: KeyType) -> None:
        self.groups = Numbering(group_type)
        self.members = Numbering(member_type)
        self._pairs = np.empty(0, np.int64)  # ascending
        self._weights = np.empty(0, np.float64)
        self._hashes = np.empty(0, np.uint64)  # of the members' keys

    def __len__(self) -> int:
        return len(self._pairs)

    def put(self, groups: Numbers, members: Numbers, weights: NDArray[np.float64]) -> None:
        """Add memberships; of one that is there, or comes twice, the last weight counts."""
        pairs = paired(groups, members)
        order = np.argsort(pairs, kind="stable")
        pairs, weights = pairs[order], weights[order]
        last = np.append(pairs[1:] != pairs[:-1], True)[: len(pairs)]
        pairs, weights = pairs[last], weights[last]
        at, there = self._places(pairs)
        self._weights[at[there]] = weights[there]
        self._pairs = np.insert(self._pairs, at[~there], pairs[~there])
        self._weights = np.insert(self._weights, at[~there], weights[~there])

    def drop(self, groups: Numbers, members: Numbers) -> None:
        """Remove memberships; those that are not there do not matter."""
        at, there = self._places(paired(groups, members))
        self._pairs = np.delete(self._pairs, at[there])
        self._weights = np.delete(self._weights, at[there])

    def _places(self, pairs: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
        """Where pairs are or belong, and which are there."""
        at = np.searchsorted(self._pairs, pairs)
        there = np.zeros(len(pairs), np.bool_)
        within = at < len(self._pairs)
        there[within] = self._pairs[at[within]] == pairs[within]
        return at, there

    def living_groups(self) -> Numbers:
        """The groups that have members, whether those have rows or not."""
        return np.unique(self._pairs >> GROUP_SHIFT)

    def groups_with(self, members: Numbers) -> Numbers:
        """The groups that have one of these members."""
        wanted = np.zeros(len(self.members), np.bool_)
        wanted[members] = True
        return np.unique(self._pairs[wanted[members_of(self._pairs)]] >> GROUP_SHIFT)

    def of(self, groups: Numbers) -> tuple[NDArray[np.uint64], Numbers, NDArray[np.float64]]:
        """Where each group begins (and the last one ends), then all their members and weights."""
        first = np.searchsorted(self._pairs, groups << GROUP_SHIFT)
        sizes = np.searchsorted(self._pairs, (groups + 1) << GROUP_SHIFT) - first
        begins = np.zeros(len(groups) + 1, np.int64)
        np.cumsum(sizes, out=begins[1:])
        places = np.repeat(first - begins[:-1], sizes) + np.arange(begins[-1])
        return (
            begins.astype(np.uint64),
            members_of(self._pairs[places]),
            self._weights[places],
        )

    def hash_of(
        self,
        begins: NDArray[np.uint64],
        members: Numbers,
        weights: NDArray[np.float64],
        births: NDArray[np.uint64],
    ) -> Hashes:
        """A number for each group that says which members it has, with which weights and rows.

        `births`: when the row of each member was written, 0 if it has none. A key has one row of
        one birth, so the same number means the same vectors. It does not depend on any order.
        """
        known = self._hashes_of_members()[members]
        mixed = mix(mix(known ^ mix(births + np.uint64(1))) ^ bits_of(weights + 0.0))
        sums = np.zeros(len(mixed) + 1, np.uint64)
        np.cumsum(mixed, out=sums[1:])
        ends = begins.astype(np.int64)
        found: Hashes = sums[ends[1:]] - sums[ends[:-1]]
        return found

    def _hashes_of_members(self) -> Hashes:
        fresh = self.members.keys[len(self._hashes) :]
        if fresh:
            self._hashes = np.append(self._hashes, key_hashes(fresh, self.members.key_type))
        return self._hashes


# --- numbers ---


def paired(groups: Numbers, members: Numbers) -> Numbers:
    """Memberships as numbers, in the order of the groups."""
    return (groups << GROUP_SHIFT) | members


def members_of(pairs: Numbers) -> Numbers:
    """The members of memberships."""
    return pairs & ((1 << GROUP_SHIFT) - 1)


def key_hashes(keys: list[Any], key_type: KeyType) -> Hashes:
    """A number for each key, the same in every process."""
    if key_type == "int":
        return mix(np.array(keys, np.int64).view(np.uint64))
    texts = (key.encode() for key in keys)
    found = np.fromiter(map(zlib.crc32, texts), np.uint64, len(keys))
    return mix(found)


def mix(values: Hashes) -> Hashes:
    """Spread the bits of numbers: the finaliser of splitmix64."""
    x = values + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = x ^ (x >> np.uint64(31))
    return mixed


def bits_of(weights: NDArray[np.float64]) -> Hashes:
    """The bits of float64."""
    return np.ascontiguousarray(weights, np.float64).view(np.uint64)


# --- rows ---


def as_pieces(values: NDArray[Any]) -> Vectors:
    """64-bit values, [n] or [n, m], bit by bit as float32[n, 4 m]; the inverse: `from_pieces()`."""
    flat = np.ascontiguousarray(values).reshape(-1)
    pieces = flat.astype(flat.dtype.newbyteorder("<"), copy=False).view("<u2")
    width = PIECES * (values.shape[1] if values.ndim == 2 else 1)
    return pieces.reshape(len(values), width).astype(np.float32)


def from_pieces(pieces: Vectors, dtype: type[np.float64] | type[np.uint64]) -> NDArray[Any]:
    """What `as_pieces()` was given, as [n, m]."""
    little = np.ascontiguousarray(pieces.astype("<u2"))
    return little.view(np.dtype(dtype).newbyteorder("<")).astype(dtype)


def row_keys(groups: Collection[Any], members: Iterable[Any]) -> list[str]:
    """The keys of memberships' rows."""
    texts = {group: str(group) for group in set(groups)}
    begins = {group: f"{len(text)}:{text}" for group, text in texts.items()}
    return [f"{begins[group]}{member}" for group, member in zip(groups, members, strict=True)]


def pair_of(key: str) -> tuple[str, str]:
    """Group and member of a membership's row, as texts."""
    size, _, rest = key.partition(":")
    return rest[: int(size)], rest[int(size) :]
