"""A migration knows what is still to do, wherever it was broken off, whatever is written."""

from __future__ import annotations

import numpy as np
import pytest

import ehub


@pytest.fixture
def items(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("items", 2, metric="l2", key_type="int")
        space.multiset(np.arange(1_000), np.ones((1_000, 2)))
        space.create_version("new", dims=3)
        yield space


def embed(keys) -> np.ndarray:
    return np.ones((len(keys), 3), np.float32)


def test_a_migration_goes_on_where_it_was_broken_off(items):
    way = items.migrate("initial", "new")
    assert way.coverage() == 0
    for number, keys in enumerate(way.missing(100)):
        assert len(keys) <= 100
        way.target.multiset(keys, embed(keys))
        if number == 3:
            break
    again = items.migrate("initial", "new")
    assert again.coverage() == pytest.approx(0.4)
    done = 0
    for keys in again.missing(100):
        again.target.multiset(keys, embed(keys))
        done += len(keys)
    assert (done, again.coverage(), list(again.missing())) == (600, 1.0, [])


def test_what_was_written_since_is_stale(items):
    way = items.migrate("initial", "new")
    way.target.multiset(np.arange(1_000), embed(range(1_000)))
    items.multiset([3, 5], [[2, 2], [2, 2]])
    assert sorted(np.concatenate(list(way.missing())).tolist()) == [3, 5]
    assert way.coverage() == pytest.approx(0.998)
    assert (way.coverage(stale=False), list(way.missing(stale=False))) == (1.0, [])


def test_what_the_target_gets_meanwhile_is_not_asked_for(items):
    way = items.migrate("initial", "new")
    arrays = way.missing(500)
    next(arrays)
    way.target.multiset(np.arange(1_000), embed(range(1_000)))
    assert list(arrays) == []


def test_nothing_to_migrate_is_covered_and_kinds_of_keys_must_agree(items):
    items.create_version("empty")
    assert items.migrate("empty", "new").coverage() == 1.0
    items.create_version("named", key_type="str")
    with pytest.raises(ehub.InvalidArgumentError, match="int"):
        items.migrate("initial", "named")
    with pytest.raises(ehub.InvalidArgumentError, match="batch"):
        items.migrate("initial", "new").missing(0)
