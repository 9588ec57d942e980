"""Named averages against dicts: writes, deletes, changes of groups, ways back, reopenings, kills.

A kill is a copy of the directory, taken while the hub is open, that is opened in its place.
"""

from __future__ import annotations

import shutil
import tempfile

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import ehub
from ehub._native import _store

KEYS = [f"k{i}" for i in range(8)]
GROUPS = [f"g{i}" for i in range(5)]
some_keys = st.lists(st.sampled_from(KEYS), max_size=4, unique=True)


@settings(
    max_examples=25, stateful_step_count=40, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
class AgainstADict(RuleBasedStateMachine):
    """Writes, deletes, changes of groups, restores, compactions and reopenings, in any order."""

    @initialize()
    def begin(self):
        self.directory = tempfile.mkdtemp()
        self.rows, self.members, self.tags = {}, {}, {}
        self.open(create=True)

    def open(self, create=False):
        store = _store.Store(
            self.directory, durability="off", background=False, large_batch_bytes=64,
            carry_bytes_max=0, log_bytes_max=4096,
        )  # fmt: skip
        self.hub = ehub.Hub(store)
        if create:
            self.hub.create_space("s", 2, metric="l2")
            self.space = self.hub.get_space("s")
            self.space.create_average("p")
        self.space = self.hub.get_space("s")
        self.average = self.space.averages("p")

    @rule(keys=some_keys, seed=st.integers(0, 1000))
    def write(self, keys, seed):
        if keys:
            values = np.random.default_rng(seed).standard_normal((len(keys), 2)).astype(np.float32)
            self.space.multiset(keys, values)
            self.rows |= dict(zip(keys, values, strict=True))

    @rule(keys=some_keys)
    def delete(self, keys):
        self.space.multidelete(keys)
        for key in keys:
            self.rows.pop(key, None)

    @rule(
        group=st.sampled_from(GROUPS),
        add=some_keys,
        remove=some_keys,
        weight=st.sampled_from([1, 0.1, 3]),
    )  # fmt: skip
    def update(self, group, add, remove, weight):
        remove = [key for key in remove if key not in add]
        self.average.update(group, add, remove, [weight] * len(add))
        members = self.members.setdefault(group, {})
        members |= dict.fromkeys(add, weight)
        for key in remove:
            members.pop(key, None)
        if not members:
            del self.members[group]

    @rule(group=st.sampled_from(GROUPS))
    def delete_group(self, group):
        assert self.average.multidelete([group]) == (group in self.members)
        self.members.pop(group, None)

    @rule()
    def tag(self):
        name = f"t{len(self.tags)}"
        self.space.tag(name)
        self.tags[name] = dict(self.rows)

    @rule(data=st.data())
    def restore(self, data):
        if self.tags:
            name = data.draw(st.sampled_from(sorted(self.tags)))
            self.space.restore(name)
            self.rows = dict(self.tags[name])

    @rule()
    def checkpoint(self):
        self.hub.checkpoint()

    @rule()
    def compact(self):
        self.hub.checkpoint()
        self.space.compact()

    @rule()
    def reopen(self):
        self.hub.close()
        self.open()

    @rule()
    def kill(self):
        copy = tempfile.mkdtemp()
        shutil.copytree(self.directory, copy, dirs_exist_ok=True)
        self.hub.close()
        shutil.rmtree(self.directory)
        self.directory = copy
        self.open()

    @rule()
    def read(self):
        keys, rows = self.average.to_numpy()
        expected = {}
        for group, members in self.members.items():
            there = {key: weight for key, weight in members.items() if key in self.rows}
            if there:
                weights = np.array(list(there.values()), np.float64)
                values = np.array([self.rows[key] for key in there], np.float64)
                expected[group] = weights @ values / weights.sum()
        assert sorted(keys.tolist()) == sorted(expected)
        for group, row in zip(keys.tolist(), rows, strict=True):
            assert np.allclose(row, expected[group], rtol=1e-6, atol=1e-7)
        assert self.average.stale() == 0

    @rule()
    def verify(self):
        assert self.hub.verify().findings == ()

    @invariant()
    def groups_are_those_of_the_model(self):
        if hasattr(self, "average"):
            assert sorted(self.average.groups().tolist()) == sorted(self.members)

    def teardown(self):
        if hasattr(self, "hub"):
            self.read()
            self.hub.close()
            shutil.rmtree(self.directory)


TestAgainstADict = AgainstADict.TestCase
