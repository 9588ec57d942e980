"""Versions, tags, snapshots, forks, aliases and partitions against a plain model of them.

And sub-indices, named averages and erasures, whose rules are in versions_rules.py. After every step
all that can be read is compared: each version, each of its tags, each snapshot that is held, and
what a reader process sees that has not moved on. A kill is a copy of the directory, taken while the
hub is open, that is opened in its place.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from versions_model import KEYS, SpaceModel, VersionModel, check_rows
from versions_rules import OfKeySets, some_keys

import ehub
from ehub._native import _store

NAMES = ["initial", "v1", "v2", "v3"]
TAGS = ["t0", "t1", "t2"]
PARTITIONS = [None, "us", "eu"]
tags, seeds = st.sampled_from(TAGS), st.integers(0, 1000)


def rows_of(keys, seed):
    return np.random.default_rng(seed).standard_normal((len(keys), 2)).astype(np.float32)


@settings(
    max_examples=150 if os.environ.get("CI") else 40, stateful_step_count=50, deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
class AgainstAModel(OfKeySets, RuleBasedStateMachine):
    """Everything that can be done to versions, in any order."""

    @initialize(large=st.booleans())
    def begin(self, large):
        self.directory = tempfile.mkdtemp()
        self.large = large
        self.model = SpaceModel()
        self.held = []
        self.reader = None
        self.steps = 0
        self.open(create=True)

    def open(self, create=False):
        store = _store.Store(
            self.directory, durability="off", background=False,
            large_batch_bytes=16 if self.large else 1 << 20,
            carry_bytes_max=0 if self.large else 256, log_bytes_max=2048,
            graph_rows_min=4, old_searches_min=2,
        )  # fmt: skip
        self.hub = ehub.Hub(store)
        if create:
            self.hub.create_space("s", 2, metric="l2")
        self.space = self.hub.get_space("s")

    def any_version(self, data):
        """A version of the space, by name, and its model."""
        name = data.draw(st.sampled_from(list(self.model.versions)))
        return self.space.version(name), self.model.versions[name]

    def any_tag(self, data):
        """A tag of the space: version, its model, and the tag's name."""
        every = [(name, tag) for name, one in self.model.versions.items() for tag in one.tags]
        name, tag = data.draw(st.sampled_from(every))
        return self.space.version(name), self.model.versions[name], tag

    def refused(self, version, model):
        """Whether the version is frozen, and refuses to be written."""
        if model.frozen:
            with pytest.raises(ehub.FrozenError):
                version.multiset(KEYS[:1], rows_of(KEYS[:1], 0))
        return model.frozen

    def has_tags(self):
        return any(one.tags for one in self.model.versions.values())

    def has_room(self):
        return len(self.model.versions) < len(NAMES)

    # --- rows ---

    @rule(data=st.data(), keys=some_keys, seed=seeds, label=st.sampled_from(PARTITIONS))
    def write(self, data, keys, seed, label):
        version, model = self.any_version(data)
        if self.refused(version, model):
            return
        vectors = rows_of(keys, seed)
        version.multiset(keys, vectors, partition=label)
        model.rows |= {k: (v.tobytes(), label) for k, v in zip(keys, vectors, strict=True)}

    @rule(keys=some_keys, seed=seeds)
    def write_through_the_default(self, keys, seed):
        model = self.model.versions[self.model.aliases["default"][0]]
        if self.refused(self.space, model):
            return
        vectors = rows_of(keys, seed)
        self.space.multiset(keys, vectors)
        model.rows |= {k: (v.tobytes(), None) for k, v in zip(keys, vectors, strict=True)}

    @rule(keys=some_keys, seed=seeds)
    def write_to_all_versions(self, keys, seed):
        models = self.model.versions
        parts = {name: rows_of(keys, seed + place) for place, name in enumerate(models)}
        if any(model.frozen for model in models.values()):
            with pytest.raises(ehub.FrozenError):
                self.space.multiset(keys, parts)
            return
        self.space.multiset(keys, parts)
        for name, model in models.items():
            rows = zip(keys, parts[name], strict=True)
            model.rows |= {key: (vector.tobytes(), None) for key, vector in rows}

    @rule(data=st.data(), keys=some_keys)
    def delete(self, data, keys):
        version, model = self.any_version(data)
        if self.refused(version, model):
            return
        assert version.multidelete(keys) == len(set(keys) & set(model.rows))
        for key in keys:
            model.rows.pop(key, None)

    @rule(data=st.data())
    def delete_all(self, data):
        version, model = self.any_version(data)
        if self.refused(version, model):
            return
        assert version.delete_all() == len(model.rows)
        model.rows.clear()

    @rule(data=st.data(), keys=some_keys, label=st.sampled_from(PARTITIONS[1:]))
    def delete_in_a_partition(self, data, keys, label):
        version, model = self.any_version(data)
        if self.refused(version, model):
            return
        inside = [key for key in keys if model.rows.get(key, (b"", None))[1] == label]
        try:
            assert version.partition(label).multidelete(keys) == len(inside)
        except ehub.NotFoundError:  # nothing was ever in it
            assert not inside
        for key in inside:
            del model.rows[key]

    # --- points in time ---

    @rule(data=st.data(), tag=tags)
    def tag(self, data, tag):
        version, model = self.any_version(data)
        if tag in model.tags:
            with pytest.raises(ehub.ExistsError):
                version.tag(tag)
            return
        version.tag(tag)
        model.tags[tag] = dict(model.rows)

    @rule(data=st.data())
    @precondition(has_tags)
    def untag(self, data):
        version, model, tag = self.any_tag(data)
        version.untag(tag)
        del model.tags[tag]

    @rule(data=st.data())
    @precondition(has_tags)
    def restore_a_tag(self, data):
        version, model, tag = self.any_tag(data)
        if not self.refused(version, model):
            version.restore(tag)
            model.rows = dict(model.tags[tag])

    @rule(data=st.data())
    @precondition(has_tags)
    def diff(self, data):
        version, model, tag = self.any_tag(data)
        found, then, now = version.diff(tag), model.tags[tag], model.rows
        assert set(found.added.tolist()) == now.keys() - then.keys()
        assert set(found.removed.tolist()) == then.keys() - now.keys()
        changed = {key for key in now.keys() & then.keys() if now[key][0] != then[key][0]}
        assert set(found.changed.tolist()) == changed

    @rule(data=st.data())
    @precondition(lambda self: len(self.held) < 3)
    def hold(self, data):
        version, model = self.any_version(data)
        self.held.append((version.name, version.snapshot(), dict(model.rows)))

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def let_go(self, data):
        place = data.draw(st.integers(0, len(self.held) - 1))
        self.held.pop(place)[1].close()

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def restore_a_snapshot(self, data):
        place = data.draw(st.integers(0, len(self.held) - 1))
        name, snapshot, rows = self.held[place]
        version, model = self.space.version(name), self.model.versions[name]
        if not self.refused(version, model):
            version.restore(snapshot)
            model.rows = dict(rows)

    # --- versions and aliases ---

    @rule(data=st.data())
    @precondition(has_room)
    def fork(self, data):
        version, model = self.any_version(data)
        name = next(name for name in NAMES if name not in self.model.versions)
        tag = data.draw(st.sampled_from([None, *model.tags]))
        version.fork(name, at=tag)
        self.model.versions[name] = VersionModel(dict(model.tags.get(tag, model.rows)))

    @rule()
    @precondition(has_room)
    def create_version(self):
        taken, *_ = self.model.versions
        with pytest.raises(ehub.ExistsError):
            self.space.create_version(taken)
        name = next(name for name in NAMES if name not in self.model.versions)
        self.space.create_version(name)
        self.model.versions[name] = VersionModel()

    @rule(data=st.data())
    def delete_version(self, data):
        version, model = self.any_version(data)
        name = version.name
        if any(held == name for held, _, _ in self.held):
            return
        if model.tags or any(leads[0] == name for leads in self.model.aliases.values()):
            with pytest.raises(ehub.ConflictError):
                self.space.delete_version(name)
            return
        self.space.delete_version(name)
        del self.model.versions[name]
        for leads in self.model.aliases.values():
            if name in leads:
                del leads[leads.index(name) :]

    @rule(data=st.data())
    @precondition(lambda self: not any(one.frozen for one in self.model.versions.values()))
    def freeze(self, data):
        version, model = self.any_version(data)
        version.freeze()
        model.frozen = True

    @rule(alias=st.sampled_from(["default", "prod"]), data=st.data(), wrong=st.booleans())
    def move_an_alias(self, alias, data, wrong):
        name = self.any_version(data)[0].name
        leads = self.model.aliases.get(alias)
        if wrong:
            with pytest.raises(ehub.ConflictError):
                self.space.alias(alias, name, expect="another")
            return
        self.space.alias(alias, name, expect=None if leads is None else leads[0])
        if leads is None:
            self.model.aliases[alias] = [name]
        elif leads[0] != name:
            leads.insert(0, name)

    @rule(data=st.data())
    def promote(self, data):
        name = self.any_version(data)[0].name
        self.space.promote(name)
        leads = self.model.aliases["default"]
        if leads[0] != name:
            leads.insert(0, name)

    @rule()
    def rollback(self):
        leads = self.model.aliases["default"]
        if len(leads) == 1:
            with pytest.raises(ehub.NotFoundError):
                self.space.rollback()
            return
        self.space.rollback()
        leads.pop(0)

    # --- upkeep, and other processes ---

    @rule()
    def checkpoint(self):
        self.hub.checkpoint()

    @rule(data=st.data())
    def compact(self, data):
        self.any_version(data)[0].compact()

    @rule()
    def close_and_open(self):
        self.let_all_go()
        self.hub.close()
        self.open()

    @rule()
    def kill(self):
        copy = tempfile.mkdtemp()
        shutil.copytree(self.directory, copy, dirs_exist_ok=True)
        self.let_all_go()
        self.stop_reading()
        self.hub.close()
        shutil.rmtree(self.directory)
        self.directory = copy
        self.open()

    @rule()
    def read_beside_the_writer(self):
        if self.reader is None:
            self.reader = ehub.open(self.directory, read_only=True)
        else:
            self.reader.refresh()
        self.seen = self.model.frozen_copy()

    @rule()
    def stop_reading(self):
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    @rule()
    def verify(self):
        assert self.hub.verify().findings == ()

    def let_all_go(self):
        for _, snapshot, _ in self.held:
            snapshot.close()
        self.held.clear()

    # --- what must hold after each step ---

    @invariant()
    def everything_is_as_in_the_model(self):
        if not hasattr(self, "hub"):
            return
        self.model.check(self.space)
        self.steps += 1
        if self.steps % 5 == 0:
            self.read_subindices()
            self.read_averages()
        for _, snapshot, rows in self.held:
            check_rows(snapshot, rows)
        if self.reader is not None:
            self.seen.check(self.reader.get_space("s"))
            self.seen.check_stored_means(self.reader.get_space("s"))

    def teardown(self):
        if hasattr(self, "hub"):
            assert self.hub.verify().findings == ()
            self.let_all_go()
            self.read_subindices()
            self.read_averages()
            self.stop_reading()
            self.hub.close()
            shutil.rmtree(self.directory)


class OfKeySetsAlone(AgainstAModel):
    """The same without what is about names alone, so that sets of keys are changed more often."""

    write_through_the_default = write_to_all_versions = diff = freeze = None
    create_version = move_an_alias = promote = rollback = None


TestAgainstAModel = AgainstAModel.TestCase
TestOfKeySetsAlone = OfKeySetsAlone.TestCase
TestOfKeySetsAlone.settings = settings(TestAgainstAModel.settings, stateful_step_count=80)
