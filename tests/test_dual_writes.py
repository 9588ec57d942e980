"""One batch over several versions: all of it or nothing, whatever happens."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import ehub

KEYS = [f"k{i}" for i in range(50)]


def rows(dims: int, seed: int = 0, count: int = len(KEYS)):
    return np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=4, metric="l2")
        items.create_version("wide", dims=6, metric="ip")
        yield hub


def test_rows_of_all_versions_are_one_batch(hub):
    items = hub.get_space("items")
    before = hub.info().seq
    narrow, wide = rows(4), rows(6)
    assert items.multiset(KEYS, {"initial": narrow, "wide": wide}) == len(KEYS)
    assert hub.info().seq == before + 1
    np.testing.assert_array_equal(items.multiget(KEYS), narrow)
    np.testing.assert_array_equal(items.version("wide").multiget(KEYS), wide)


def test_an_alias_names_its_version(hub):
    items = hub.get_space("items")
    items.alias("next", "wide")
    items.multiset(KEYS[:1], {"default": rows(4, count=1), "next": rows(6, count=1)})
    assert (len(items), len(items.version("wide"))) == (1, 1)


def test_of_a_repeated_key_the_last_row_wins_in_each_version(hub):
    items = hub.get_space("items")
    narrow, wide = rows(4, count=2), rows(6, count=2)
    items.multiset(["a", "a"], {"initial": narrow, "wide": wide})
    np.testing.assert_array_equal(items.get("a"), narrow[1])
    np.testing.assert_array_equal(items.version("wide").get("a"), wide[1])


def test_partitions_are_those_of_each_version(hub):
    items = hub.get_space("items")
    labels = ["us" if i % 2 else "eu" for i in range(len(KEYS))]
    items.multiset(KEYS, {"initial": rows(4), "wide": rows(6)}, partition=labels)
    assert items.partitions() == items.version("wide").partitions() == {"eu": 25, "us": 25}


def test_partitions_of_each_version_are_there_after_a_kill(hub, tmp_path):
    labels = ["us" if i % 2 else "eu" for i in range(len(KEYS))]
    hub.get_space("items").multiset(KEYS, {"initial": rows(4), "wide": rows(6)}, partition=labels)
    shutil.copytree(tmp_path / "hub", tmp_path / "killed")
    with ehub.open(tmp_path / "killed") as again:
        items = again.get_space("items")
        for version in (items, items.version("wide")):
            assert version.partitions() == {"eu": 25, "us": 25}
            assert sorted(version.partition("us").keys()) == sorted(KEYS[1::2])


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ({"initial": rows(4), "wide": rows(4)}, ehub.DimensionError),
        ({"initial": rows(4), "wide": rows(6, count=3)}, ehub.InvalidArgumentError),
        ({"initial": rows(4), "wide": np.full((50, 6), np.nan)}, ehub.InvalidVectorError),
        ({"initial": rows(4), "none": rows(6)}, ehub.NotFoundError),
        ({"initial": rows(4), "default": rows(4)}, ehub.InvalidArgumentError),
        ({}, ehub.InvalidArgumentError),
    ],
)
def test_a_refused_batch_changes_no_version(hub, vectors, error):
    items = hub.get_space("items")
    with pytest.raises(error):
        items.multiset(KEYS, vectors)
    assert (len(items), len(items.version("wide"))) == (0, 0)


def test_which_version_is_named_twice_is_said(hub):
    items = hub.get_space("items")
    items.alias("next", "wide")
    with pytest.raises(ehub.InvalidArgumentError, match="version 'wide' of space 'items'"):
        items.multiset(KEYS, {"initial": rows(4), "wide": rows(6), "next": rows(6)})


def test_a_frozen_version_keeps_the_others_from_the_batch(hub):
    items = hub.get_space("items")
    items.version("wide").freeze()
    with pytest.raises(ehub.FrozenError, match="wide"):
        items.multiset(KEYS, {"initial": rows(4), "wide": rows(6)})
    assert len(items) == 0


@pytest.mark.parametrize("count", [50, 20_000])
def test_after_a_crash_all_versions_have_it_or_none(hub, tmp_path, count):
    """However the log is cut short. 20,000 rows would go past the log if they were alone."""
    items = hub.get_space("items")
    keys = [str(i) for i in range(count)]
    items.multiset(keys, {"initial": rows(4, 1, count), "wide": rows(6, 2, count)})
    [log] = (tmp_path / "hub" / "wal").glob("*.log")
    size = log.stat().st_size
    for cut in [size, *np.random.default_rng(3).integers(0, size, 12).tolist()]:
        crashed = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "hub", crashed)
        (crashed / "LOCK").unlink()
        with (crashed / "wal" / log.name).open("r+b") as file:
            file.truncate(cut)
        try:
            opened = ehub.open(crashed)
        except ehub.CorruptionError:  # what was acknowledged is missing, and that is known
            continue
        with opened:
            if "items" not in opened or "wide" not in opened.get_space("items").versions():
                continue
            found = opened.get_space("items")
            assert len(found) == len(found.version("wide"))
            assert len(found) in (0, count)
            assert opened.verify().ok
