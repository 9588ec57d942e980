"""What the writer of names does until it is killed, and what must be left: known to both sides.

Operation `n` of a seed follows from (seed, n) and from the state that the writer began with, so a
journal need only say which operation began and which was acknowledged. The state is plain: a
version is a dict of rows, a tag or a fork is a copy of one.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

DIMS = 8
KEYS = [f"key {i}" for i in range(40)]
TAGS = [f"tag {i}" for i in range(4)]
FORKS = [f"fork {i}" for i in range(3)]
ALIASES = ["blue", "green"]
GROUPS = ["g0", "g1", "g2"]
FIRST = "initial"

KINDS = {
    "set": 8,
    "large": 2,
    "delete": 3,
    "delete_all": 1,
    "tag": 5,
    "untag": 2,
    "restore": 4,
    "fork": 2,
    "drop": 1,
    "freeze": 1,
    "alias": 3,
    "promote": 2,
    "rollback": 1,
    "group": 4,
    "ungroup": 1,
    "join": 3,
    "leave": 2,
    "erase": 1,
    "checkpoint": 2,
    "compact": 1,
}


@dataclass
class Version:
    """What a version holds: vectors as bytes by key, the same by tag."""

    rows: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, dict[str, bytes]] = field(default_factory=dict)
    frozen: bool = False


@dataclass
class State:
    """What the hub holds."""

    versions: dict[str, Version] = field(default_factory=lambda: {FIRST: Version()})
    aliases: dict[str, str] = field(default_factory=lambda: {"default": FIRST})
    previous: list[str] = field(default_factory=list)  # where "default" led before; the last last
    groups: dict[str, dict[str, float]] = field(default_factory=dict)  # of the first version
    members: set[str] = field(default_factory=set)  # of the sub-index of the first version

    def open_versions(self) -> list[str]:
        """Those that can be written."""
        return [name for name, one in self.versions.items() if not one.frozen]

    def droppable(self) -> list[str]:
        """Forks to which nothing leads and that no tag keeps."""
        led_to = {FIRST, *self.aliases.values(), *self.previous}
        return [name for name, one in self.versions.items() if name not in led_to and not one.tags]


@dataclass(frozen=True)
class Operation:
    """One call; `version` is the one it is about."""

    kind: str
    version: str = FIRST
    name: str = ""
    keys: tuple[str, ...] = ()
    seed: int = 0

    def vectors(self) -> np.ndarray:
        """float32[keys, DIMS] of a write."""
        random = np.random.default_rng(self.seed)
        return random.standard_normal((len(self.keys), DIMS)).astype(np.float32)


def operation(seed: int, n: int, state: State) -> Operation:
    """The operation of this number; one that is impossible in this state becomes a write."""
    random = Random(seed * 1_000_003 + n)
    kind = random.choices(list(KINDS), list(KINDS.values()))[0]
    made = candidate(kind, random, state)
    return made or write("set", random, state)


def write(kind: str, random: Random, state: State) -> Operation:
    """A write or a delete of some keys."""
    count = len(KEYS) if kind == "large" else random.randint(1, 5)
    keys = tuple(random.sample(KEYS, count))
    return Operation(kind, random.choice(state.open_versions()), "", keys, random.getrandbits(30))


def candidate(kind: str, random: Random, state: State) -> Operation | None:
    """An operation of this kind, if one is possible."""
    if kind in ("set", "large", "delete"):
        return write(kind, random, state)
    if kind in ("tag", "untag", "restore", "fork"):
        return of_the_past(kind, random, state)
    if kind in ("alias", "promote", "rollback"):
        return of_aliases(kind, random, state)
    if kind in ("group", "ungroup"):
        return of_groups(kind, random, state)
    if kind in ("join", "leave", "erase"):
        return Operation(kind, FIRST, "", tuple(random.sample(KEYS, random.randint(1, 4))))
    if kind == "delete_all":
        return Operation(kind, random.choice(state.open_versions()))
    if kind in ("drop", "freeze"):
        some = state.droppable()
        return Operation(kind, random.choice(some)) if some else None
    return Operation(kind)


def of_the_past(kind: str, random: Random, state: State) -> Operation | None:
    """A tag, its end, a restore or a fork."""
    if kind == "fork":
        free = [name for name in FORKS if name not in state.versions]
        version = random.choice(list(state.versions))
        at = random.choice(["", *state.versions[version].tags])
        return Operation(kind, version, random.choice(free), (at,)) if free else None
    version = random.choice(state.open_versions() if kind == "restore" else list(state.versions))
    taken = state.versions[version].tags
    some = [tag for tag in TAGS if (tag in taken) == (kind != "tag")]
    return Operation(kind, version, random.choice(some)) if some else None


def of_aliases(kind: str, random: Random, state: State) -> Operation | None:
    """A move of an alias."""
    if kind == "rollback":
        return Operation(kind, state.previous[-1], "default") if state.previous else None
    name = "default" if kind == "promote" else random.choice(ALIASES)
    others = [version for version in state.versions if version != state.aliases.get(name)]
    return Operation(kind, random.choice(others), name) if others else None


def of_groups(kind: str, random: Random, state: State) -> Operation | None:
    """A change of a group of the named average."""
    if kind == "group":
        keys = tuple(random.sample(KEYS, random.randint(1, 4)))
        return Operation(kind, FIRST, random.choice(GROUPS), keys, random.randint(1, 5))
    return Operation(kind, FIRST, random.choice(list(state.groups))) if state.groups else None


def after(state: State, done: Operation) -> State:
    """What the hub holds after an operation; the state that is given stays as it is."""
    state = copy.deepcopy(state)
    version = state.versions[done.version]
    if done.kind in ("set", "large"):
        vectors = done.vectors()
        version.rows |= {
            key: vector.tobytes() for key, vector in zip(done.keys, vectors, strict=True)
        }
    elif done.kind == "delete":
        version.rows = {key: row for key, row in version.rows.items() if key not in done.keys}
    elif done.kind == "delete_all":
        version.rows = {}
    elif done.kind == "tag":
        version.tags[done.name] = dict(version.rows)
    elif done.kind == "untag":
        del version.tags[done.name]
    elif done.kind == "restore":
        version.rows = dict(version.tags[done.name])
    else:
        change_names(state, done)
    return state


def change_names(state: State, done: Operation) -> None:
    """More of `after`: versions and aliases."""
    version = state.versions[done.version]
    if done.kind == "fork":
        rows = version.tags[done.keys[0]] if done.keys[0] else version.rows
        state.versions[done.name] = Version(dict(rows))
    elif done.kind == "drop":
        del state.versions[done.version]
    elif done.kind == "freeze":
        version.frozen = True
    elif done.kind == "alias":
        state.aliases[done.name] = done.version
    elif done.kind == "promote":
        state.previous.append(state.aliases["default"])
        state.aliases["default"] = done.version
    elif done.kind == "rollback":
        state.aliases["default"] = state.previous.pop()
    else:
        change_sets(state, done)


def change_sets(state: State, done: Operation) -> None:
    """The rest of `after`: groups, the sub-index, and keys that are erased."""
    if done.kind == "group":
        weight = float(done.seed)
        state.groups.setdefault(done.name, {}).update(dict.fromkeys(done.keys, weight))
    elif done.kind == "ungroup":
        del state.groups[done.name]
    elif done.kind == "join":
        state.members |= set(done.keys)
    elif done.kind == "leave":
        state.members -= set(done.keys)
    elif done.kind == "erase":
        erase(state, done.keys)


def erase(state: State, keys: tuple[str, ...]) -> None:
    """Take keys out of all that the hub holds."""
    for version in state.versions.values():
        for rows in (version.rows, *version.tags.values()):
            for key in keys:
                rows.pop(key, None)
    for members in state.groups.values():
        for key in keys:
            members.pop(key, None)
    state.groups = {name: members for name, members in state.groups.items() if members}
    state.members -= set(keys)


def means(state: State) -> dict[str, Any]:
    """float64[DIMS] by group, of those that have a member in the first version."""
    rows = state.versions[FIRST].rows
    found = {}
    for group, members in state.groups.items():
        there = [
            (np.frombuffer(rows[key], np.float32), w) for key, w in members.items() if key in rows
        ]
        if there:
            total = sum(vector.astype(np.float64) * weight for vector, weight in there)
            found[group] = total / sum(weight for _, weight in there)
    return found
