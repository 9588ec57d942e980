"""What can be done to the sub-indices and named averages of a version, and to keys in all of them.

Sub-indices and averages are read by rules of their own and after every fifth step, not after each:
what they make of several changes at once is what may go wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from versions_model import KEYS, AverageModel, SpaceModel, VersionModel, check_means, check_rows

import ehub

SETS = ["s0", "s1"]
# One is called like a key: it is erased with that.
GROUPS = ["g0", KEYS[0]]
some_keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True)
groups, weights = st.sampled_from(GROUPS), st.sampled_from([1.0, 0.1, 3.0])


class OfKeySets:
    """The rules; the machine has what they are about."""

    directory: str
    hub: ehub.Hub
    space: ehub.Space
    model: SpaceModel
    held: list[Any]
    reader: ehub.Hub | None

    def any_version(self, data: st.DataObject) -> tuple[ehub.Version, VersionModel]:
        raise NotImplementedError

    def let_all_go(self) -> None:
        raise NotImplementedError

    def any_set(self, data: st.DataObject, what: str) -> tuple[ehub.Version, VersionModel, str]:
        """A version that has sub-indices or averages, its model, and the name of one."""
        every = [(v, name) for v, one in self.model.versions.items() for name in getattr(one, what)]
        version, name = data.draw(st.sampled_from(every))
        return self.space.version(version), self.model.versions[version], name

    def has_subindices(self):
        return any(one.subindices for one in self.model.versions.values())

    def has_averages(self):
        return any(one.averages for one in self.model.versions.values())

    # --- sub-indices ---

    @rule(data=st.data(), name=st.sampled_from(SETS), keys=some_keys)
    def create_subindex(self, data, name, keys):
        version, model = self.any_version(data)
        if name in model.subindices:
            with pytest.raises(ehub.ExistsError):
                version.create_subindex(name, keys=keys)
            return
        version.create_subindex(name, keys=keys)
        model.subindices[name] = set(keys)

    @rule(data=st.data(), add=some_keys, remove=some_keys)
    @precondition(has_subindices)
    def change_a_subindex(self, data, add, remove):
        version, model, name = self.any_set(data, "subindices")
        members = model.subindices[name]
        assert version.subindex(name).remove(remove) == len(members & set(remove))
        members -= set(remove)
        assert version.subindex(name).add(add) == len(set(add) - members)
        members |= set(add)

    @rule(data=st.data(), keys=some_keys)
    @precondition(has_subindices)
    def refresh_a_subindex(self, data, keys):
        version, model, name = self.any_set(data, "subindices")
        version.subindex(name).refresh(where=lambda key: key in keys)
        model.subindices[name] = set(keys) & model.rows.keys()

    @rule(data=st.data())
    @precondition(has_subindices)
    def drop_a_subindex(self, data):
        version, model, name = self.any_set(data, "subindices")
        version.drop_subindex(name)
        del model.subindices[name]

    @rule()
    def read_subindices(self):
        self.check_subindices(self.model, self.space)

    @rule()
    @precondition(lambda self: self.reader is not None)
    def read_subindices_beside_the_writer(self):
        self.check_subindices(self.seen, self.reader.get_space("s"))

    @staticmethod
    def check_subindices(model, space):
        for name, one in model.versions.items():
            version = space.version(name)
            found = version.subindices()
            assert found.keys() == one.subindices.keys()
            for subindex, keys in one.subindices.items():
                rows = {key: row for key, row in one.rows.items() if key in keys}
                assert found[subindex] == len(rows)
                check_rows(version.subindex(subindex), rows)

    # --- named averages ---

    @rule(data=st.data(), name=st.sampled_from(SETS), group=groups, keys=some_keys)
    def create_average(self, data, name, group, keys):
        version, model = self.any_version(data)
        if name in model.averages:
            with pytest.raises(ehub.ExistsError):
                version.create_average(name)
            return
        version.create_average(name, {group: keys})
        model.averages[name] = AverageModel({group: dict.fromkeys(keys, 1.0)})

    @rule(data=st.data(), group=groups, add=some_keys, remove=some_keys, weight=weights)
    @precondition(has_averages)
    def change_a_group(self, data, group, add, remove, weight):
        version, model, name = self.any_set(data, "averages")
        remove = [key for key in remove if key not in add]
        version.averages(name).update(group, add, remove, [weight] * len(add))
        average = model.averages[name]
        average.groups.setdefault(group, {}).update(dict.fromkeys(add, weight))
        average.remove(group, remove)

    @rule(data=st.data(), group=groups)
    @precondition(has_averages)
    def delete_a_group(self, data, group):
        version, model, name = self.any_set(data, "averages")
        average = model.averages[name]
        assert version.averages(name).multidelete([group]) == (group in average.groups)
        average.remove(group, KEYS)

    @rule(data=st.data())
    @precondition(has_averages)
    def delete_an_average(self, data):
        version, model, name = self.any_set(data, "averages")
        version.delete_average(name)
        del model.averages[name]

    @rule()
    def read_averages(self):
        for name, model in self.model.versions.items():
            for average, kept in model.averages.items():
                kept.stored = kept.means(model.rows)
                check_means(self.space.version(name).averages(average), kept.stored)
                assert self.space.version(name).averages(average).stale() == 0

    # --- keys in all of them ---

    @rule(keys=some_keys, let_go=st.booleans())
    def erase(self, keys, let_go):
        if let_go:
            self.let_all_go()
        plan = self.space.erasure_plan(keys)
        if self.held:
            assert plan.blockers
            with pytest.raises(ehub.ConflictError, match="open snapshot"):
                self.space.erase(keys)
            return
        assert plan.blockers == ()
        receipt = self.space.erase(keys)
        for model in self.model.versions.values():
            model.erase(set(keys))
        assert all(receipt.covers(key) == (key in keys) for key in KEYS)
        assert receipt.complete or self.reader is not None
        if receipt.complete:
            assert self.files_with(keys) == []

    def files_with(self, keys: list[str]) -> list[Path]:
        """The hub's files that have one of these keys anywhere."""
        files = [path for path in Path(self.directory).rglob("*") if path.is_file()]
        return [path for path in files if any(key.encode() in path.read_bytes() for key in keys)]
