"""A snapshot shows one moment for ever, whoever does what; a restore loses nothing; a fork is free.

`model` is a plain dict in all of this: what the rows should be.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ehub
from ehub._native import _store

DIMS = 3


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    space = hub.create_space("items", DIMS, metric="l2")
    space.multiset({"a": [1, 0, 0], "b": [0, 1, 0]})
    return space


ROWS = {"a": (1, 0, 0), "b": (0, 1, 0)}


def rows(view) -> dict:
    keys, vectors = view.to_numpy()
    assert len(set(keys.tolist())) == len(keys) == len(view)
    return dict(zip(keys.tolist(), map(tuple, vectors.tolist()), strict=True))


# --- snapshots ---


def test_a_snapshot_shows_every_write_before_it_and_none_after(items):
    with items.snapshot() as then:
        items.set("a", [9, 9, 9])
        items.delete("b")
        items.set("c", [1, 1, 1])
        assert rows(then) == ROWS
        assert "c" not in then
        assert "b" in then
        assert then.get("a").tolist() == [1, 0, 0]
        assert then.nearest_neighbors(1, vector=[0, 1, 0]).keys.tolist() == ["b"]
        assert then.nearest_neighbors(5, key="a").keys.tolist() == ["b"]
        assert then.average(["a", "b"]).tolist() == [0.5, 0.5, 0]
    assert rows(items) == {"a": (9, 9, 9), "c": (1, 1, 1)}


@pytest.mark.parametrize("upkeep", ["checkpoint", "compact", "optimize"])
def test_a_snapshot_outlives_upkeep(hub, items, upkeep):
    vectors = np.random.default_rng(1).standard_normal((3_000, DIMS)).astype(np.float32)
    items.multiset([f"k{i}" for i in range(3_000)], vectors)
    with items.snapshot() as then:
        expected = rows(then)
        nearest = then.nearest_neighbors(10, vector=vectors[5], exact=True).keys.tolist()
        items.delete_all()
        items.multiset([f"k{i}" for i in range(2_000)], vectors[1_000:])
        getattr(hub if upkeep == "checkpoint" else items, upkeep)()
        items.delete_all()
        items.compact()
        assert rows(then) == expected
        assert then.nearest_neighbors(10, vector=vectors[5], exact=True).keys.tolist() == nearest
        # Of the hub's own files, too, which have only what somebody needs.
        items.tag("then", then)
        assert rows(items.at("then")) == expected
        items.restore(then)
        assert rows(items) == expected
        assert hub.verify().ok


def test_a_closed_snapshot_is_an_error_and_closing_twice_is_fine(items):
    then = items.snapshot()
    then.close()
    then.close()
    assert then.closed
    for read in (lambda: then.get("a"), lambda: len(then), lambda: items.tag("late", then)):
        with pytest.raises(ehub.ClosedError):
            read()
    assert items.tags() == []
    assert "closed" in repr(then)


def test_a_key_that_a_snapshot_lacks_is_an_error_that_names_the_space(items):
    with items.snapshot() as snapshot:
        with pytest.raises(ehub.NotFoundError, match=r"^space 'items' has no key 'x'$"):
            snapshot.get("x")
        with pytest.raises(
            ehub.NotFoundError, match=r"^space 'items' has no key 'x' \(key 1 of 2\)$"
        ):
            snapshot.multiget(["a", "x"])


def test_a_snapshot_cannot_be_written_nor_pickled_without_a_tag(items):
    with items.snapshot() as then:
        assert not hasattr(then, "set")
        assert not hasattr(then, "multiset")
        with pytest.raises(TypeError, match="tag it"):
            then.__reduce__()


def test_a_partition_of_a_snapshot_is_searched_as_it_was(items):
    items.multiset({"x": [5, 0, 0], "y": [6, 0, 0]}, partition="us")
    with items.snapshot() as then:
        items.multiset({"x": [5, 0, 0]}, partition="eu")
        found = then.nearest_neighbors(5, vector=[5, 0, 0], partition="us")
        assert found.keys.tolist() == ["x", "y"]
        assert then.partitions() == {"us": 2}
        assert items.partitions() == {"us": 1, "eu": 1}


def test_a_recorded_snapshot_is_listed_and_survives(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(ROWS)
        with items.snapshot("before the night") as first:
            assert first.tag is not None
            assert not first.tag.is_named
        items.delete("a")
        items.snapshot("second").close()
        items.delete_all()
        items.compact()
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        assert [tag.message for tag in items.snapshots()] == ["before the night", "second"]
        assert items.tags() == []
        with items.at(items.snapshots()[0]) as then:
            assert rows(then) == ROWS
        with items.at("@2") as then:
            assert rows(then) == {"b": (0, 1, 0)}


def test_a_snapshot_that_cannot_be_recorded_is_an_error_and_leaves_nothing(items):
    for message, error in ((7, TypeError), ("\ud800", ehub.InvalidArgumentError)):
        with pytest.raises(error, match="message"):
            items.snapshot(message)
    assert items.snapshots() == []


def test_expiry_keeps_the_youngest_and_every_tag(items):
    items.tag("keep")
    for number in range(5):
        items.snapshot(f"n{number}").close()
    assert [tag.message for tag in items.expire_snapshots(keep_last=2)] == ["n0", "n1", "n2"]
    assert [tag.message for tag in items.snapshots()] == ["n3", "n4"]
    assert items.expire_snapshots(keep_for=timedelta(hours=1)) == []
    # Either rule keeps.
    assert [t.message for t in items.expire_snapshots(keep_last=1, keep_for=timedelta(0))] == ["n3"]
    assert len(items.expire_snapshots(keep_last=0)) == 1
    assert items.snapshots() == []
    assert [tag.name for tag in items.tags()] == ["keep"]


def test_a_number_of_a_snapshot_is_not_given_twice_while_one_lives(items):
    made = []
    for _ in range(3):
        with items.snapshot("x") as one:
            made.append(one.tag.name)
        items.expire_snapshots(keep_last=1)
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    "rule",
    [{}, {"keep_last": -1}, {"keep_last": True}, {"keep_last": 1.5}, {"keep_for": 60}],
)
def test_an_expiry_without_a_sound_rule_lets_nothing_go(items, rule):
    items.snapshot("one").close()
    has_types = rule in ({}, {"keep_last": -1})
    with pytest.raises(ehub.InvalidArgumentError if has_types else TypeError):
        items.expire_snapshots(**rule)
    assert len(items.snapshots()) == 1


# --- restore ---


def test_a_restore_makes_the_rows_what_they_were_and_loses_nothing(items):
    items.tag("good")
    items.multiset({"a": [7, 7, 7], "c": [1, 2, 3]})
    items.delete("b")
    bad = rows(items)
    items.tag("bad")
    items.restore("good")
    assert rows(items) == ROWS
    with items.at("bad") as then:
        assert rows(then) == bad
    items.restore("bad")
    assert rows(items) == bad
    items.restore(items.tags()[0])
    assert rows(items) == ROWS


def test_what_was_gone_before_a_restore_is_gone_at_that_time_for_ever(items, hub):
    """The time in between is in the manifest, too: a reopened hub shows it as it was."""
    items.tag("both")
    items.delete("a")
    items.tag("without")
    items.restore("both")
    hub.close()
    for _ in range(2):
        with ehub.open(hub.path) as again:
            found = again.get_space("items")
            assert rows(found) == rows(found.at("both")) == ROWS
            assert rows(found.at("without")) == {"b": (0, 1, 0)}
            found.compact()


def test_a_restore_is_one_batch_that_a_held_snapshot_does_not_see(items):
    with items.snapshot() as first:
        items.delete_all()
        with items.snapshot() as empty:
            items.restore(first)
            assert rows(empty) == {}
            assert rows(items) == ROWS
            assert rows(first) == ROWS


def test_restored_rows_are_found_overwritten_and_deleted_like_any(items):
    with items.snapshot() as then:
        items.delete_all()
        items.restore(then)
    assert items.nearest_neighbors(1, vector=[0, 1, 0]).keys.tolist() == ["b"]
    items.set("a", [3, 3, 3])
    items.delete("b")
    items.compact()
    assert rows(items) == {"a": (3, 3, 3)}


@pytest.mark.parametrize("sealed", [False, True])
def test_a_row_that_lives_again_below_a_younger_one_is_overwritten_and_deleted(tmp_path, sealed):
    store = _store.Store(str(tmp_path), carry_bytes_max=0, background=False)
    with ehub.Hub(store) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(ROWS)
        items.tag("then")
        items.multiset({"a": [2, 2, 2], "b": [4, 4, 4]})
        if sealed:
            hub.checkpoint()
        assert len(items.stats().segments) == 1  # which has both rows of each key
        items.restore("then")
        items.set("a", [3, 3, 3])
        items.delete("b")
        assert rows(items) == {"a": (3, 3, 3)}
        assert rows(items.at("then")) == ROWS


def test_what_cannot_be_restored_changes_nothing(hub, items):
    other = hub.create_space("other", DIMS, metric="l2")
    closed = items.snapshot()
    closed.close()
    with other.snapshot() as foreign:
        for at, error in (
            ("missing", ehub.NotFoundError),
            ("", ehub.InvalidArgumentError),
            (foreign, ehub.InvalidArgumentError),
            (closed, ehub.ClosedError),
            (5, TypeError),
        ):
            with pytest.raises(error):
                items.restore(at)
    assert rows(items) == ROWS


# --- forks ---


def test_a_fork_begins_with_the_rows_and_goes_its_own_way(items):
    fork = items.fork("try")
    assert rows(fork) == ROWS
    fork.set("a", [8, 8, 8])
    items.set("c", [4, 4, 4])
    grandchild = fork.fork("again")
    grandchild.delete("b")
    fork.delete_all()
    items.compact()
    fork.compact()
    assert rows(items) == ROWS | {"c": (4, 4, 4)}
    assert rows(fork) == {}
    assert rows(grandchild) == {"a": (8, 8, 8)}


def test_a_fork_of_a_tag_begins_there_and_says_so(items):
    items.tag("then")
    items.delete_all()
    fork = items.fork("old", at="then", created_by="me", labels={"why": "test"})
    assert rows(fork) == ROWS
    assert fork.lineage.parent == "initial@then"
    assert (fork.lineage.created_by, fork.lineage.labels) == ("me", {"why": "test"})


def test_a_fork_copies_no_vector(hub, items):
    items.multiset([f"k{i}" for i in range(20_000)], np.ones((20_000, DIMS), np.float32))
    hub.checkpoint()
    before = vector_files(hub)
    fork = items.fork("try").fork("again")
    hub.checkpoint()
    assert vector_files(hub) == before
    assert len(fork) == 20_002


def vector_files(hub) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in Path(hub.path).rglob("*.f32")}


def test_a_fork_outlives_what_it_began_from(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        items.multiset(ROWS)
        items.multiset([f"k{i}" for i in range(5_000)], np.ones((5_000, DIMS), np.float32))
        hub.checkpoint()
        items.fork("kept")
        items.promote("kept")
        hub.get_space("items").delete_version("initial")
        hub.checkpoint()
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        assert items.versions() == ["kept"]
        assert len(items) == 5_002
        assert items.get("b").tolist() == [0, 1, 0]
        items.compact()
        assert hub.verify().ok


@pytest.mark.parametrize("name", ["initial", "default", "prod"])
def test_a_fork_takes_no_name_that_is_taken(items, name):
    items.alias("prod", "initial")
    with pytest.raises(ehub.ExistsError):
        items.fork(name)
    assert items.versions() == ["initial"]


# --- differences ---


def test_a_diff_says_how_far_vectors_moved(items):
    items.tag("then")
    items.multiset({"a": [0, 2, 0], "c": [1, 1, 1]})
    items.set("b", [0, 1, 0])  # the same again
    diff = items.diff("then")
    assert (diff.added.tolist(), diff.removed.tolist()) == (["c"], [])
    assert diff.changed.tolist() == ["a"]
    assert diff.cosine.tolist() == pytest.approx([1.0])
    assert diff.l2.tolist() == pytest.approx([5**0.5])
    assert diff.quantiles()["l2"]["0.5"] == pytest.approx(5**0.5)
    assert not items.diff("then", "then")
    assert diff.to_dict()["changed"] == ["a"]


def test_a_diff_across_versions_needs_the_same_kind_of_keys_and_dims(items):
    wide = items.create_version("wide", dims=5)
    numbered = items.create_version("numbered", key_type="int")
    with pytest.raises(ehub.DimensionError):
        items.diff(wide)
    with pytest.raises(ehub.InvalidArgumentError):
        items.diff(numbered)
    fork = items.fork("fork")
    fork.set("a", [0, 0, 1])
    assert items.diff(fork).changed.tolist() == ["a"]


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 12), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 12)),
        st.tuples(st.just("tag")),
        st.tuples(st.sampled_from(["compact", "optimize", "checkpoint", "reopen"])),
        st.tuples(st.just("restore"), st.integers(0, 20)),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(edits=EDITS)
def test_a_diff_is_that_of_the_dicts_for_any_two_times(tmp_path_factory, edits):
    path = tmp_path_factory.mktemp("diff")
    hub = ehub.open(path, durability="off")
    hub.create_space("items", 2, metric="l2", key_type="int")
    model: dict[int, tuple[float, float]] = {}
    times = [("start", dict(model))]
    hub.get_space("items").tag("start")
    for edit in edits:
        items = hub.get_space("items")
        match edit:
            case ("set", key, value):
                items.set(key, [1, value])
                model[key] = (1, value)
            case ("delete", key):
                assert items.multidelete([key]) == (model.pop(key, None) is not None)
            case ("tag",):
                times.append((f"t{len(times)}", dict(model)))
                items.tag(times[-1][0])
            case ("restore", number):
                name, rows_then = times[number % len(times)]
                items.restore(name)
                model = dict(rows_then)
            case ("reopen",):
                hub.close()
                hub = ehub.open(path, durability="off")
            case (upkeep,):
                getattr(hub if upkeep == "checkpoint" else items, upkeep)()
    items = hub.get_space("items")
    assert rows(items) == model
    for name, then in times:
        with items.at(name) as view:
            assert rows(view) == then
        require_diff(items.diff(name), then, model)
        require_diff(items.diff(times[-1][0], name), times[-1][1], then)
    hub.close()


def require_diff(diff, old: dict, new: dict) -> None:
    assert sorted(diff.added.tolist()) == sorted(new.keys() - old.keys())
    assert sorted(diff.removed.tolist()) == sorted(old.keys() - new.keys())
    changed = {key for key in new.keys() & old.keys() if new[key] != old[key]}
    assert sorted(diff.changed.tolist()) == sorted(changed)
    expected = [abs(new[key][1] - old[key][1]) for key in diff.changed.tolist()]
    assert diff.l2.tolist() == pytest.approx(expected)


# --- another process ---

READER = """
import sys, ehub
hub = ehub.open(sys.argv[1], read_only=True)
items = hub.get_space("items")
then, tagged = items.snapshot(), items.at("then")

def digest(view):
    keys, vectors = view.to_numpy()
    return sorted(zip(keys.tolist(), vectors.sum(axis=1).tolist()))

first = digest(then)
for line in sys.stdin:
    hub.refresh()
    assert digest(then) == first, "the snapshot changed"
    assert digest(tagged) == first, "the tagged view changed"
    found = then.nearest_neighbors(3, vector=[1, 0, 0], exact=True).keys.tolist()
    print(len(items), len(first), ",".join(found), flush=True)
"""


def test_a_reader_process_keeps_its_snapshot_whatever_the_writer_does(hub, items):
    random = np.random.default_rng(3)
    keys = [f"k{i}" for i in range(4_000)]
    items.multiset(keys, random.standard_normal((4_000, DIMS)))
    items.tag("then")
    reader = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", READER, hub.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        answers = [ask(reader)]
        for change in (
            lambda: items.multiset(keys, random.standard_normal((4_000, DIMS))),
            lambda: items.compact(),
            lambda: items.delete_all(),
            lambda: items.compact(),
            lambda: items.restore("then"),
            lambda: items.optimize(),
            lambda: items.untag("then"),
            lambda: (items.delete_all(), items.compact(), hub.checkpoint()),
        ):
            change()
            answers.append(ask(reader))
        assert reader.stdin is not None
        reader.stdin.close()
    assert reader.returncode == 0
    assert [int(answer[0]) for answer in answers] == [4002] * 3 + [0] * 2 + [4002] * 3 + [0]
    assert {tuple(answer[1:]) for answer in answers} == {tuple(answers[0][1:])}


def ask(reader) -> list[str]:
    reader.stdin.write("\n")
    reader.stdin.flush()
    return reader.stdout.readline().split()
