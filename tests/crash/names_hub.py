"""names_plan.py on a real hub: how operations are done, what a hub shows, who works on it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path

import names_plan
import numpy as np
from names_plan import Operation, State, Version

import ehub

Say = Callable[[str], None]


def create(path: Path) -> None:
    """The hub that the plan begins with."""
    with ehub.open(path) as hub:
        items = hub.create_space("items", names_plan.DIMS, metric="l2")
        items.create_average("means", key_type="str")
        items.create_subindex("some")


def perform(hub: ehub.Hub, done: Operation) -> None:
    """One operation, with the call that a user would make."""
    items = hub.get_space("items")
    version = items.version(done.version)
    calls: dict[str, Callable[[], object]] = {
        "set": lambda: version.multiset(done.keys, done.vectors()),
        "large": lambda: version.multiset(done.keys, done.vectors()),
        "delete": lambda: version.multidelete(done.keys),
        "delete_all": version.delete_all,
        "tag": lambda: version.tag(done.name, message=done.name),
        "untag": lambda: version.untag(done.name),
        "restore": lambda: version.restore(done.name),
        "fork": lambda: version.fork(done.name, at=done.keys[0] or None),
        "drop": lambda: items.delete_version(done.version),
        "freeze": version.freeze,
        "alias": lambda: items.alias(done.name, done.version),
        "promote": lambda: items.promote(done.version),
        "rollback": items.rollback,
        "group": lambda: change_group(version, done),
        "ungroup": lambda: version.averages("means").delete(done.name),
        "join": lambda: version.subindex("some").add(done.keys),
        "leave": lambda: version.subindex("some").remove(done.keys),
        "erase": lambda: items.erase(done.keys),
        "checkpoint": hub.checkpoint,
        "compact": version.compact,
    }
    calls[done.kind]()


def change_group(version: ehub.Version, done: Operation) -> None:
    """More members; the means are made now, so that a kill comes between them and their stamps."""
    averages = version.averages("means")
    averages.update(done.name, done.keys, weights=[float(done.seed)] * len(done.keys))
    averages.refresh()


def rows_of(view: ehub.Version | ehub.Snapshot | ehub.SubIndex) -> dict[str, bytes]:
    """All rows by key."""
    keys, vectors = view.to_numpy()
    assert len(set(keys.tolist())) == len(keys) == len(view)
    return {key: row.tobytes() for key, row in zip(keys.tolist(), vectors, strict=True)}


def version_of(version: ehub.Version) -> Version:
    """What a version and its tags show."""
    tags = {}
    for tag in version.tags():
        assert tag.message == tag.name, f"the tag {tag.name!r} lost its message"
        with version.at(tag) as then:
            tags[tag.name] = rows_of(then)
    return Version(rows_of(version), tags, version.frozen)


def look(hub: ehub.Hub) -> State:
    """What the hub holds."""
    items = hub.get_space("items")
    averages = items.version(names_plan.FIRST).averages("means")
    groups = {}
    for group in averages.groups().tolist():
        members, weights = averages.members(group)
        groups[group] = dict(zip(members.tolist(), weights.tolist(), strict=True))
    aliases = items.aliases()
    return State(
        {name: version_of(items.version(name)) for name in items.versions()},
        {name: alias.version for name, alias in aliases.items()},
        list(reversed(aliases["default"].previous)),
        groups,
        set(items.version(names_plan.FIRST).subindex("some").members().tolist()),
    )


def check_sets(hub: ehub.Hub, state: State) -> None:
    """The sub-index has the rows of its keys, and the average the means of those that are there."""
    first = hub.get_space("items").version(names_plan.FIRST)
    rows = state.versions[names_plan.FIRST].rows
    inside = {key: row for key, row in rows.items() if key in state.members}
    assert rows_of(first.subindex("some")) == inside
    averages = first.averages("means")
    expected = names_plan.means(state)
    assert sorted(averages.keys().tolist()) == sorted(expected)
    for group, mean in expected.items():
        np.testing.assert_allclose(averages.get(group), mean, rtol=1e-5, atol=1e-6)


def write(say: Say, path: str, number: str, file: str) -> None:
    """Work for ever, beginning with the state that is in the file."""
    state = pickle.loads(Path(file).read_bytes())
    hub = ehub.open(path)
    for n in range(1_000_000):
        done = names_plan.operation(int(number), n, state)
        say(f"begin {n}")
        perform(hub, done)
        say(f"done {n}")
        state = names_plan.after(state, done)


def hold(say: Say, path: str) -> None:
    """Hold snapshots of all versions and tags while the writer goes on; they never change.

    Every look is at what was opened some refreshes ago, when the writer has compacted, restored and
    dropped meanwhile; then new ones are taken.
    """
    hub = ehub.open(path, read_only=True)
    for round_number in range(1_000_000):
        hub.refresh()
        held = []
        for name in hub.get_space("items").versions():
            version = hub.get_space("items").version(name)
            views = [version.snapshot(), *(version.at(tag) for tag in version.tags())]
            held += [(f"{name} {view.tag}", view, rows_of(view)) for view in views]
        for _ in range(3):
            time.sleep(0.02)
            for name, view, rows in held:
                if rows_of(view) != rows:
                    say(f"changed {name}")
            hub.refresh()
        for _, view, _ in held:
            view.close()
        say(f"held {round_number} {len(held)}")
