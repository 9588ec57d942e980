"""What tests of backups share: a hub with some of everything, and a store that fails."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from obstore.exceptions import GenericError

import ehub

DIMS = 384


def vectors(n: int, seed: int, dims: int = DIMS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims), np.float32)


def keys(first: int, n: int) -> list[str]:
    return [f"key{i}" for i in range(first, first + n)]


def filled(path: Path) -> ehub.Hub:
    """Sealed and fresh rows, vectors in the log and beside it, dead rows, names, what is gone."""
    hub = ehub.open(path)
    items = hub.create_space("items", DIMS, metric="l2")
    items.multiset(keys(0, 5000), vectors(5000, 1))
    items.tag("first", message="as it was")
    hub.checkpoint()
    items.multiset(keys(4900, 600), vectors(600, 2), partition="us")  # into a file of its own
    items.multidelete(keys(0, 50))
    items.create_version("next", dims=8)
    items.version("next").multiset(keys(0, 10), vectors(10, 3, 8))
    gone = hub.create_space("gone", DIMS)
    gone.multiset(keys(0, 300), vectors(300, 4))
    hub.delete_space("gone")  # the log still refers to its vectors
    points = hub.create_space("points", 2, metric="l2", key_type="int")
    points.multiset([1, -2], [[0, 1], [2, 3]])
    return hub


def contents(hub: ehub.Hub) -> dict[str, object]:
    """All that a hub shows."""
    found: dict[str, object] = {}
    for name in hub.spaces():
        space = hub.get_space(name)
        for version in space.versions():
            view = space.version(version)
            found[f"{name}/{version}"] = rows_of(view)
            found[f"{name}/{version}/partitions"] = view.partitions()
            for tag in view.tags():
                found[f"{name}/{version}@{tag.name}"] = (tag.message, rows_of(view.at(tag.name)))
        found[f"{name} aliases"] = {alias: one.version for alias, one in space.aliases().items()}
    return found


def rows_of(view) -> dict[object, bytes]:
    listed = list(view)
    return dict(zip(listed, map(bytes, view.multiget(listed)), strict=True)) if listed else {}


class FailingStore:
    """A store of obstore whose n-th call fails, and all later ones if it is to stay so.

    Args:
        store: What does the work.
        nth: Counted from 0; None: none fails.
        done: Whether the call that fails has had its effect all the same.
        stays: Whether the store is gone for good then.
    """

    def __init__(self, store, nth=None, *, done=False, stays=False):
        self.store = store
        self.nth = nth
        self.done = done
        self.stays = stays
        self.calls = 0
        self.failed = False
        self._lock = threading.Lock()

    def _call(self, name, *arguments, **options):
        with self._lock:
            number = self.calls
            self.calls += 1
        fails = self.nth is not None and (number == self.nth or (self.stays and number > self.nth))
        if fails:
            self.failed = True
            if self.done:
                getattr(self.store, name)(*arguments, **options)
            raise GenericError(f"call {number}, {name}, was to fail")
        return getattr(self.store, name)(*arguments, **options)

    def put(self, *arguments, **options):
        return self._call("put", *arguments, **options)

    def get(self, *arguments, **options):
        return self._call("get", *arguments, **options)

    def list(self, *arguments, **options):
        return self._call("list", *arguments, **options)

    def delete(self, *arguments, **options):
        return self._call("delete", *arguments, **options)
