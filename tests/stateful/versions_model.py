"""What a space with versions, tags, aliases, sub-indices and named averages is, in plain Python."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

import ehub

KEYS = [f"key {i}" for i in range(7)]

# A key's vector, as its bytes, and its partition.
Rows: TypeAlias = "dict[str, tuple[bytes, str | None]]"


@dataclass
class AverageModel:
    """The weights of members by group; and the means as they were last made, float64[2] each."""

    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    stored: dict[str, np.ndarray] = field(default_factory=dict)

    def means(self, rows: Rows) -> dict[str, np.ndarray]:
        """What the means are of these rows; groups none of whose members has one have no mean."""
        found = {}
        for group, members in self.groups.items():
            there = {key: weight for key, weight in members.items() if key in rows}
            if there:
                vectors = [np.frombuffer(rows[key][0], np.float32) for key in there]
                weights = np.array(list(there.values()))
                found[group] = weights @ np.array(vectors, np.float64) / weights.sum()
        return found

    def remove(self, group: str, keys: Iterable[str]) -> None:
        """Take members out of a group, which goes with its last one."""
        members = self.groups.get(group, {})
        for key in keys:
            members.pop(key, None)
        if not members:
            self.groups.pop(group, None)


@dataclass
class VersionModel:
    rows: Rows = field(default_factory=dict)
    tags: dict[str, Rows] = field(default_factory=dict)
    frozen: bool = False
    subindices: dict[str, set[str]] = field(default_factory=dict)
    averages: dict[str, AverageModel] = field(default_factory=dict)

    def erase(self, keys: set[str]) -> None:
        """Forget keys, wherever they are: as members and as names of groups, too."""
        for rows in (self.rows, *self.tags.values()):
            for key in keys & rows.keys():
                del rows[key]
        for members in self.subindices.values():
            members -= keys
        for average in self.averages.values():
            for group in list(average.groups):
                average.remove(group, KEYS if group in keys else keys)
            average.stored = average.means(self.rows)


@dataclass
class SpaceModel:
    """Versions by name, oldest first, and where each alias leads and led before, last one first."""

    versions: dict[str, VersionModel] = field(default_factory=lambda: {"initial": VersionModel()})
    aliases: dict[str, list[str]] = field(default_factory=lambda: {"default": ["initial"]})

    def frozen_copy(self) -> SpaceModel:
        return copy.deepcopy(self)

    def check(self, space: ehub.Space) -> None:
        """All that there is to be read of the space is as here."""
        assert space.versions() == list(self.versions)
        leads = {name: [alias.version, *alias.previous] for name, alias in space.aliases().items()}
        assert leads == self.aliases
        assert space.current.name == self.aliases["default"][0]
        for name, model in self.versions.items():
            version = space.version(name)
            assert version.frozen == model.frozen
            check_rows(version, model.rows)
            assert sorted(tag.name for tag in version.tags()) == sorted(model.tags)
            for tag, rows in model.tags.items():
                with version.at(tag) as snapshot:
                    check_rows(snapshot, rows)
            check_members(version, model)

    def check_stored_means(self, space: ehub.Space) -> None:
        """What a process that only reads sees of the averages."""
        for name, model in self.versions.items():
            for average, kept in model.averages.items():
                check_means(space.version(name).averages(average), kept.stored)


def check_members(version: ehub.Version, model: VersionModel) -> None:
    """The sub-indices and averages have these members; their rows are not looked at."""
    assert version.averages() == sorted(model.averages)
    for name, kept in model.averages.items():
        average = version.averages(name)
        assert sorted(average.groups().tolist()) == sorted(kept.groups)
        for group, members in kept.groups.items():
            keys, weights = average.members(group)
            assert dict(zip(keys.tolist(), weights.tolist(), strict=True)) == members
    for name, keys in model.subindices.items():
        assert set(version.subindex(name).members().tolist()) == keys


def check_means(average: ehub.Averages, means: dict[str, np.ndarray]) -> None:
    """An average shows these means and no others."""
    groups, vectors = average.to_numpy()
    assert sorted(groups.tolist()) == sorted(means)
    for group, vector in zip(groups.tolist(), vectors, strict=True):
        np.testing.assert_allclose(vector, means[group], rtol=1e-6, atol=1e-7)


def check_rows(view: ehub.View, rows: Rows) -> None:
    """A view has these rows and no others, whichever way it is asked."""
    assert len(view) == len(rows)
    keys, vectors = view.to_numpy()
    assert {key: row.tobytes() for key, row in zip(keys.tolist(), vectors, strict=True)} == {
        key: vector for key, (vector, _) in rows.items()
    }
    counts: dict[str, int] = {}
    for _, label in rows.values():
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    assert {name: n for name, n in view.partitions().items() if n} == counts
    if not rows:
        return
    query = np.array([0.25, -0.5], np.float32)
    found = view.nearest_neighbors(3, vector=query)
    squares = sorted(
        float(((np.frombuffer(vector, np.float32) - query) ** 2).sum())
        for vector, _ in rows.values()
    )
    assert np.allclose(found.distances, squares[:3], rtol=1e-5, atol=1e-6)
    assert {neighbor.key for neighbor in found} <= set(rows)
