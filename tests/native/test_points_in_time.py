"""What calls on versions, tags and notes promise, where no crash is needed to break it."""

from __future__ import annotations

import numpy as np
import pytest

from ehub._native import _store

DIMS = 1024  # so that a few rows make a segment


def vector(value: float) -> np.ndarray:
    return np.full(DIMS, value, np.float32)


@pytest.fixture
def store(tmp_path):
    store = _store.Store(str(tmp_path / "hub"), background=False, carry_bytes_max=0)
    yield store
    store.close()


def space_of(store) -> _store.Table:
    return store.create_version("items", "initial", DIMS, "l2", "str")


def test_notes_of_a_freeze_count_though_the_version_is_frozen_already(store):
    items = space_of(store)
    items.freeze()
    items.freeze({"why": "again"})
    assert store.note("why") == "again"


def test_a_snapshot_of_another_hub_is_refused(store, tmp_path):
    items = space_of(store)
    items.set("a", vector(1))
    other = _store.Store(str(tmp_path / "other"), background=False)
    foreign = space_of(other).snapshot()
    for call in (
        lambda: items.restore(foreign),
        lambda: items.fork(foreign, "fork"),
        lambda: items.set_tag("tag", foreign),
    ):
        with pytest.raises(ValueError, match="of this version"):
            call()
    foreign.close()
    other.close()


def test_a_repair_keeps_tags_notes_versions_and_what_is_frozen(store, tmp_path):
    items = space_of(store)
    for i in range(40):
        items.set(f"key {i}", vector(i))
    items.set_tag("first", notes={"note": "text"})
    store.checkpoint()
    items.set("key 0", vector(100))
    items.delete("key 1")
    fork = items.fork(items.at("first"), "fork")
    fork.freeze()
    items.restore(items.at("first"))
    items.set_tag("last")
    store.close()
    files = [path for path in (tmp_path / "hub" / "segments").iterdir() if path.suffix == ".f32"]
    damaged = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[70_000] ^= 1  # the rows of the second block of 64 KiB
    damaged.write_bytes(content)
    kept, dropped, _, _ = _store.repair(str(tmp_path / "hub"))
    assert dropped > 0
    assert kept > 0
    again = _store.Store(str(tmp_path / "hub"), background=False)
    assert [table.version for table in again.versions("items")] == ["initial", "fork"]
    items, fork = again.versions("items")
    assert sorted(items.tags()) == ["first", "last"]
    assert (items.frozen, fork.frozen) == (False, True)
    assert again.notes("") == {"note": "text"}
    items.restore(items.at("first"))
    for table in (items, fork):
        left = [i for i in range(40) if table.contains(f"key {i}")]
        assert {0, 1} <= set(left)
        assert 0 < 40 - len(left) <= 17
        assert all((table.get(f"key {i}") == i).all() for i in left)
    assert not again.verify()[-1]
    again.close()
