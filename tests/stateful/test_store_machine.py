"""Whatever is done to a hub, with reopening and kills in between, it is a dict of dicts.

The model maps space names to plain dicts. The hub has limits so small that a few rows fill a log, a
segment or what a checkpoint carries over, so every boundary is met. A kill is a copy of the
directory, taken while the hub is open, that is opened in its place: what the copy lacks, a killed
process would have lost.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

import ehub
from ehub._native import _store

DIMS = 2

# What is tested needs no disk, and syncs take their time.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

Model = dict[Any, tuple[float, float]]

NAMES = st.sampled_from(["items", "users", "früchte"])
STRING_KEYS = st.sampled_from([*"abcdefgh", "ключ", "🍎", "x" * 1024, "\0"])
INTEGER_KEYS = st.sampled_from([*range(8), -1, (1 << 63) - 1, -(1 << 63)])
VECTORS = st.tuples(*[st.integers(-1000, 1000).map(float)] * DIMS)

# Each is a way to meet other boundaries sooner.
LIMITS = st.sampled_from(
    [
        {},
        {"log_bytes_max": 512},
        {"large_batch_bytes": 2 * DIMS * 4},
        {"fresh_rows_max": 5},
        {"segment_bytes_max": 3 * DIMS * 4, "carry_bytes_max": 0},
        {"carry_bytes_max": 0, "fresh_rows_max": 7, "log_bytes_max": 2048},
        {"carry_bytes_max": 64, "carry_total_bytes_max": 96, "log_bytes_max": 1024},
    ]
)


class StoreMachine(RuleBasedStateMachine):
    """A hub beside a dict; `key_type` and `keys` come from the subclasses."""

    key_type: str
    keys: st.SearchStrategy[Any]

    scans = Bundle("scans")

    @initialize(limits=LIMITS, durability=st.sampled_from(["full", "off"]))
    def begin(self, limits: dict[str, int], durability: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ehub-machine-", dir=MEMORY))
        self.life = 0
        self.options = {**limits, "durability": durability, "background": False}
        self.model: dict[str, Model] = {}
        self.hub = self.open()

    def open(self) -> ehub.Hub:
        return ehub.Hub(_store.Store(str(self.root / str(self.life)), **self.options))

    def teardown(self) -> None:
        if hasattr(self, "hub"):
            self.hub.close()
            shutil.rmtree(self.root)

    def space(self, name: str) -> ehub.Space:
        return self.hub.get_space(name)

    # --- spaces ---

    @rule(name=NAMES)
    def create_space(self, name: str) -> None:
        if name in self.model:
            with pytest.raises(ehub.ExistsError):
                self.hub.create_space(name, dims=DIMS)
            return
        self.hub.create_space(name, dims=DIMS, metric="l2", key_type=self.key_type)
        self.model[name] = {}

    @rule(name=NAMES)
    def delete_space(self, name: str) -> None:
        if name not in self.model:
            with pytest.raises(ehub.NotFoundError):
                self.hub.delete_space(name)
            return
        self.hub.delete_space(name)
        del self.model[name]

    # --- rows ---

    @precondition(lambda self: self.model)
    @rule(data=st.data(), vector=VECTORS)
    def set(self, data: st.DataObject, vector: tuple[float, float]) -> None:
        name, key = self.draw_space(data), data.draw(self.keys)
        self.space(name).set(key, vector)
        self.model[name][key] = vector

    @precondition(lambda self: self.model)
    @rule(data=st.data(), vectors=st.lists(VECTORS, max_size=20))
    def multiset(self, data: st.DataObject, vectors: list[tuple[float, float]]) -> None:
        name = self.draw_space(data)
        keys = [data.draw(self.keys) for _ in vectors]
        assert self.space(name).multiset(keys, vectors) == len(keys)
        self.model[name].update(zip(keys, vectors, strict=True))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name, key = self.draw_space(data), data.draw(self.keys)
        if key in self.model[name]:
            self.space(name).delete(key)
            del self.model[name][key]
        else:
            with pytest.raises(ehub.NotFoundError):
                self.space(name).delete(key)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def multidelete(self, data: st.DataObject) -> None:
        name, keys = self.draw_space(data), data.draw(st.lists(self.keys, max_size=8))
        there = set(keys) & self.model[name].keys()
        assert self.space(name).multidelete(keys) == len(there)
        for key in there:
            del self.model[name][key]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete_all(self, data: st.DataObject) -> None:
        name = self.draw_space(data)
        assert self.space(name).delete_all() == len(self.model[name])
        self.model[name].clear()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A batch with a flaw in its last row changes nothing."""
        space, key = self.space(self.draw_space(data)), data.draw(self.keys)
        with pytest.raises(ehub.InvalidVectorError):
            space.multiset([key, key], [[1, 2], [3, np.nan]])

    # --- upkeep ---

    @rule()
    def checkpoint(self) -> None:
        self.hub.checkpoint()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        self.space(self.draw_space(data)).compact()

    @rule()
    def verify(self) -> None:
        assert self.hub.verify().findings == ()

    @rule()
    def reopen(self) -> None:
        self.hub.close()
        self.hub = self.open()

    @rule()
    def kill(self) -> None:
        here = self.root / str(self.life)
        self.life += 1
        shutil.copytree(here, self.root / str(self.life))
        self.hub.close()
        shutil.rmtree(here)
        self.hub = self.open()

    # --- looking ---

    @rule()
    def look_as_a_reader(self) -> None:
        with ehub.open(self.hub.path, read_only=True) as reader:
            self.require_same(reader)

    @precondition(lambda self: self.model)
    @rule(target=scans, data=st.data(), batch_rows=st.integers(1, 5))
    def begin_scan(self, data: st.DataObject, batch_rows: int) -> tuple[ehub.Hub, Iterator, Model]:
        name = self.draw_space(data)
        return self.hub, self.space(name).scan(batch_rows), dict(self.model[name])

    @rule(scan=consumes(scans))
    def end_scan(self, scan: tuple[ehub.Hub, Iterator, Model]) -> None:
        """It gives what was there when it began."""
        hub, batches, expected = scan
        if hub is not self.hub:
            with pytest.raises(ehub.ClosedError):
                next(batches)
            return
        rows = [row for keys, vectors in batches for row in pairs(keys, vectors)]
        assert len(rows) == len(expected)
        assert dict(rows) == expected

    @precondition(lambda self: self.model)
    @rule(data=st.data(), query=VECTORS, k=st.integers(1, 8))
    def search(self, data: st.DataObject, query: tuple[float, float], k: int) -> None:
        name = self.draw_space(data)
        found = self.space(name).nearest_neighbors(k, vector=query)
        expected = sorted(distance(query, vector) for vector in self.model[name].values())[:k]
        assert found.distances.tolist() == expected
        assert [distance(query, self.model[name][key]) for key, _ in found] == expected

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        name, keys = self.draw_space(data), data.draw(st.lists(self.keys, max_size=8))
        vectors, found = self.space(name).multiget(keys, default=None)
        assert found.tolist() == [key in self.model[name] for key in keys]
        expected = [self.model[name].get(key, (0.0, 0.0)) for key in keys]
        assert list(map(tuple, vectors.tolist())) == expected
        for key in keys:
            assert (key in self.space(name)) == (key in self.model[name])

    @invariant()
    def it_is_what_the_model_is(self) -> None:
        if hasattr(self, "hub"):
            self.require_same(self.hub)

    # --- how ---

    def draw_space(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.model)))

    def require_same(self, hub: ehub.Hub) -> None:
        assert sorted(hub.spaces()) == sorted(self.model)
        for name, expected in self.model.items():
            space = hub.get_space(name)
            rows = pairs(*space.to_numpy())
            assert len(rows) == len(space) == len(expected)
            assert dict(rows) == expected


def pairs(keys: np.ndarray, vectors: np.ndarray) -> list[tuple[Any, tuple[float, float]]]:
    return list(zip(keys.tolist(), map(tuple, vectors.tolist()), strict=True))


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Exact in float32, too: whole numbers below 2^24."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


class StringMachine(StoreMachine):
    key_type = "str"
    keys = STRING_KEYS


class IntegerMachine(StoreMachine):
    key_type = "int"
    keys = INTEGER_KEYS


SETTINGS = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=40)

TestStringKeys = StringMachine.TestCase
TestStringKeys.settings = SETTINGS
TestIntegerKeys = IntegerMachine.TestCase
TestIntegerKeys.settings = SETTINGS
