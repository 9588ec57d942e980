"""A space as a map: a sample of its rows in the plane in which they vary most."""

from __future__ import annotations

import heapq
import threading
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ehub.comparison.geometry import Plane, as_seen, plane_of
from ehub.comparison.sampling import as_objects
from ehub.types import Key, KeyArray
from ehub.view import BATCH_ROWS, View

__all__ = ["Maps", "SampleMap", "map_of"]

ROWS_MAX = 2_000
SAMPLE_BYTES_MAX = 32 << 20
# So many keys are looked at for a sample; a space with more is sampled from those that come first.
KEYS_MAX = 1_000_000

# A map of rows that are all there still is good for so long.
SECONDS = 60.0
MAPS_MAX = 16


@dataclass(frozen=True, slots=True, eq=False)
class SampleMap:
    """A map.

    Args:
        keys: Of the sample, str or int64[n].
        births: The batch that each of their rows came with, uint64[n].
        plane: What rows are seen in.
        points: Where they are in it, float64[n, 2].
        keys_seen: Among how many keys the sample was drawn.
        id: Unlike that of any other map.
    """

    keys: KeyArray
    births: NDArray[np.uint64]
    plane: Plane
    points: NDArray[np.float64]
    keys_seen: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def place(self, view: View, keys: list[Key]) -> list[tuple[float, float] | None]:
        """Where rows of a view are on the map, in the sample or not; None: gone meanwhile."""
        if not len(self.keys):
            return [None] * len(keys)
        vectors, found = view.multiget(keys, default=None)
        points = self.plane.points(as_seen(vectors, view.metric)).tolist()
        return [(x, y) if there else None for (x, y), there in zip(points, found, strict=True)]


class Maps:
    """Maps that were made a moment ago, for those who asked for them. Any thread may ask.

    Args:
        turn: Gives those who make one their turn: it takes all cores for a while.
    """

    def __init__(self, turn: Callable[[], AbstractContextManager[None]]) -> None:
        self._turn = turn
        self._lock = threading.Lock()
        self._maps: OrderedDict[Hashable, tuple[float, SampleMap]] = OrderedDict()

    def of(self, view: View, scope: Hashable) -> SampleMap:
        """The map of a view; `scope` tells views apart, and callers, who see different rows."""
        found = self._known(view, scope)
        if found is None:
            with self._turn():
                # Somebody may have made it while this one was waiting.
                found = self._known(view, scope) or self._made(view, scope)
        return found

    def _known(self, view: View, scope: Hashable) -> SampleMap | None:
        with self._lock:
            made, known = self._maps.get(scope, (0.0, None))
        if known is None or time.monotonic() - made >= SECONDS or not is_whole(known, view):
            return None
        return known

    def _made(self, view: View, scope: Hashable) -> SampleMap:
        fresh = map_of(view)
        with self._lock:
            self._maps[scope] = (time.monotonic(), fresh)
            self._maps.move_to_end(scope)
            if len(self._maps) > MAPS_MAX:
                self._maps.popitem(last=False)
        return fresh


def is_whole(known: SampleMap, view: View) -> bool:
    """Whether the caller sees each row of a map, and it is still the same."""
    if not len(known.keys):
        return len(view) == 0
    return bool((births_of(view, known.keys) == known.births).all())


def map_of(view: View) -> SampleMap:
    """Make a map. Of equal keys and vectors it is equal, in whatever order they were written."""
    most = min(ROWS_MAX, max(2, SAMPLE_BYTES_MAX // (4 * view.dims)))
    chosen, seen = drawn(view._now().scan_keys(BATCH_ROWS), most)
    keys = (
        np.array(chosen, np.int64)
        if view.key_type == "int"
        else as_objects(cast("list[str]", chosen))
    )
    births = births_of(view, keys)
    vectors, found = view.multiget(keys, default=None)
    keys, births, rows = keys[found], births[found], as_seen(vectors[found], view.metric)
    if not len(rows):
        nowhere = Plane(np.zeros(view.dims), np.zeros((0, view.dims)), np.zeros(2))
        return SampleMap(keys, births, nowhere, np.zeros((0, 2)), seen)
    plane = plane_of(rows)
    return SampleMap(keys, births, plane, plane.points(rows), seen)


def births_of(view: View, keys: KeyArray) -> NDArray[np.uint64]:
    """The batch that each key's row came with; 0 for those that the caller does not see."""
    return view._now().births(view._pack(keys))


def drawn(batches: Iterable[KeyArray], most: int) -> tuple[list[Key], int]:
    """Those keys whose hashes come first, in that order, and among how many.

    So a key stays in the sample when others come and go, and nothing is sorted as a whole, which
    would keep every other thread waiting.
    """
    kept: list[tuple[int, Key]] = []
    seen, bound = 0, 1 << 32
    for batch in batches:
        hashed = ((zlib.crc32(str(key).encode()), key) for key in batch.tolist())
        kept += [one for one in hashed if one[0] <= bound]
        if len(kept) > most:
            kept = heapq.nsmallest(most, kept)
            bound = kept[-1][0]
        seen += len(batch)
        if seen >= KEYS_MAX:
            break
    return [key for _, key in sorted(kept)], seen
