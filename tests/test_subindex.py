"""A sub-index is a saved set of keys: read like a space of their rows, whatever became of these."""

from __future__ import annotations

import pickle
import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ehub

DIMS = 4


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def items(hub):
    items = hub.create_space("items", dims=DIMS, metric="l2")
    items.multiset(list("abcde"), [[i, 0, 0, 0] for i in range(1, 6)])
    return items


# --- reading ---


@pytest.mark.parametrize("sealed", [False, True])
def test_a_subindex_has_the_whole_reading_of_a_space(items, sealed):
    if sealed:
        items.compact()
    few = items.create_subindex("few", keys=["a", "b", "nobody"])
    assert (few.name, few.space, few.dims, few.metric, few.key_type) == (
        "few",
        "items",
        4,
        "l2",
        "str",
    )
    assert few.get("a").tolist() == few["a"].tolist() == [1, 0, 0, 0]
    assert few.multiget(["b", "a"])[:, 0].tolist() == [2, 1]
    vectors, found = few.multiget(["a", "c", "nobody"], default=None)
    assert (vectors[:, 0].tolist(), found.tolist()) == ([1, 0, 0], [True, False, False])
    assert ("a" in few, "c" in few, "nobody" in few, 5 in few) == (True, False, False, False)
    assert (len(few), sorted(few), sorted(few.keys())) == (2, ["a", "b"], ["a", "b"])
    assert [key for keys, _ in few.scan(1) for key in keys] == ["a", "b"]
    assert few.to_numpy()[1][:, 0].tolist() == [1, 2]
    assert few.to_arrow().num_rows == 2
    assert few.average(["a", "b"])[0] == 1.5
    assert few.partitions() == {}
    assert few.kmeans(1).centroids[0, 0] == 1.5
    assert few.nearest_neighbors(5, vector=[3, 0, 0, 0]).keys.tolist() == ["b", "a"]
    assert few.nearest_neighbors(5, key="a").keys.tolist() == ["b"]
    assert few.nearest_neighbors(5, vector=[0] * 4, filter=["b", "c"]).keys.tolist() == ["b"]
    assert few.multi_nearest_neighbors(1, keys=["a", "b"])[1].keys.tolist() == ["a"]
    assert few.recommend(5, positive=["a"]).keys.tolist() == ["b"]
    assert sorted(few.members()) == ["a", "b", "nobody"]
    assert "few" in repr(few)
    with pytest.raises(ehub.NotFoundError, match=r"sub-index 'few' of space 'items' .*'c'"):
        few.multiget(["c"])
    with pytest.raises(ehub.NotFoundError, match="sub-index 'few'"):
        few.nearest_neighbors(1, key="c")


def test_a_subindex_is_copied_but_not_pickled(items):
    few = items.create_subindex("few", keys=["a", "b", "nobody"])
    with few.download_snapshot() as copy:
        assert sorted(copy.keys()) == ["a", "b"]
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(few)


def test_a_subindex_and_a_partition_together_show_what_is_in_both(items):
    items.set("a", [1, 0, 0, 0], partition="us")
    items.set("c", [3, 0, 0, 0], partition="us")
    few = items.create_subindex("few", keys=["a", "b"])
    assert few.nearest_neighbors(9, vector=[0] * 4, partition="us").keys.tolist() == ["a"]
    assert few.partitions() == {"us": 1}


# --- what happens to its keys ---


def test_it_follows_what_becomes_of_the_rows_of_its_keys(items):
    few = items.create_subindex("few", keys=["a", "b", "new"])
    items.set("a", [9] * 4)
    assert few["a"].tolist() == [9] * 4
    items.delete("a")
    assert ("a" in few, len(few), sorted(few.members())) == (False, 1, ["a", "b", "new"])
    items.set("a", [7] * 4)  # a key that is set again is back
    assert few["a"].tolist() == [7] * 4
    items.set("new", [8] * 4)
    assert sorted(few) == ["a", "b", "new"]
    items.compact()
    assert sorted(few) == ["a", "b", "new"]
    assert few.nearest_neighbors(3, vector=[8] * 4).keys.tolist() == ["new", "a", "b"]


def test_adding_and_removing_keys_shows_in_the_next_read(items):
    items.compact()
    few = items.create_subindex("few", keys=["a"])
    again = items.subindex("few")
    assert sorted(few) == ["a"]
    assert few.add(["b", "a", "nobody"]) == 2
    assert sorted(few) == sorted(again) == ["a", "b"]
    assert few.remove(["a", "e"]) == 1
    assert sorted(few) == sorted(again) == ["b"]
    assert few.add([]) == few.remove([]) == 0
    assert "a" in items


def test_refresh_asks_the_function_again(items, tmp_path):
    late = items.create_subindex("late", where=lambda key: key >= "c")
    assert sorted(late) == ["c", "d", "e"]
    items.set("z", [1] * 4)
    items.delete("e")
    assert sorted(late) == ["c", "d"]
    items.subindex("late").refresh()
    assert sorted(late) == ["c", "d", "z"]
    late.refresh(where=lambda key: key < "b")
    assert sorted(late) == sorted(late.members()) == ["a"]
    fixed = items.create_subindex("fixed", keys=["a"])
    with pytest.raises(ehub.InvalidArgumentError, match=r"'fixed' .* give where="):
        fixed.refresh()
    with pytest.raises(TypeError, match="function"):
        late.refresh(where="a")


async def later(key):
    return True


class Later:
    async def __call__(self, key):
        return True


@pytest.mark.parametrize(
    "where",
    [later, partial(later), Later(), lambda key: later(key)],
    ids=["function", "partial", "object", "answer"],
)
def test_a_function_that_is_awaited_chooses_nothing_and_is_refused(items, where):
    few = items.create_subindex("few", keys=["a"])
    query = [0] * DIMS
    for call in (
        lambda: items.create_subindex("new", where=where),
        lambda: few.refresh(where=where),
        lambda: items.nearest_neighbors(1, vector=query, filter=where),
        lambda: items.multi_nearest_neighbors(1, vectors=[query], filter=where),
    ):
        with pytest.raises(TypeError, match="is to be awaited"):
            call()
    assert items.subindices() == {"few": 1}


# --- names and life ---


def test_a_name_that_is_taken_is_said_before_keys_are_looked_at(items):
    items.create_subindex("few", keys=["a"])
    asked = []
    with pytest.raises(ehub.ExistsError):
        items.create_subindex("few", where=asked.append)
    with pytest.raises(ehub.ExistsError):
        items.create_subindex("few", keys=[5])
    with pytest.raises(ehub.InvalidArgumentError):
        items.create_subindex("", where=5)
    with pytest.raises(TypeError):
        items.create_subindex("few", where=5)
    assert asked == []


def test_names_are_those_of_one_version(items):
    items.create_subindex("few", keys=["a"])
    with pytest.raises(ehub.ExistsError, match="'few' already"):
        items.create_subindex("few")
    for name in ("", "x" * 256, "\0x"):
        with pytest.raises(ehub.InvalidArgumentError):
            items.create_subindex(name)
    with pytest.raises(TypeError):
        items.create_subindex(5)
    with pytest.raises(ehub.InvalidArgumentError, match="either"):
        items.create_subindex("both", keys=["a"], where=bool)
    with pytest.raises(ehub.InvalidKeyError):
        items.create_subindex("bad", keys=[5])
    with pytest.raises(ehub.NotFoundError, match="no sub-index 'bad'"):
        items.subindex("bad")
    assert items.subindices() == {"few": 1}
    assert items.versions() == ["initial"]


def test_dropping_a_subindex_leaves_its_rows(items):
    few = items.create_subindex("few", keys=["a"])
    items.drop_subindex("few")
    assert items.subindices() == {}
    assert len(items) == 5
    for call in (few.keys, lambda: len(few), lambda: few.add(["b"]), few.members):
        with pytest.raises(ehub.NotFoundError):
            call()
    with pytest.raises(ehub.NotFoundError):
        items.drop_subindex("few")
    assert items.create_subindex("few", keys=["b"]).keys().tolist() == ["b"]
    with pytest.raises(ehub.NotFoundError):  # it is another one
        few.keys()


def test_a_subindex_of_a_space_stays_with_the_version_that_it_was_made_of(items):
    few = items.create_subindex("few", keys=["a"])
    second = items.create_version("second")
    second.set("a", [9] * 4)
    items.alias("default", "second")
    assert (few.version.name, few["a"].tolist()) == ("initial", [1, 0, 0, 0])
    assert (items.subindices(), items.version("initial").subindices()) == ({}, {"few": 1})
    assert few.add(["b"]) == 1
    assert sorted(few) == ["a", "b"]


def test_a_fork_begins_without_and_a_deleted_version_takes_its_subindices_along(items):
    items.create_subindex("few", keys=["a"])
    items.create_average("mean", {"g": ["a"]})
    fork = items.fork("branch")
    assert fork.subindices() == {}
    fork.create_subindex("few", keys=["a", "b"])
    assert (items.subindices(), fork.subindices()) == ({"few": 1}, {"few": 2})
    items.delete_version("branch")
    assert items.averages() == ["mean"]


def test_a_deleted_version_gets_none_and_the_next_of_its_name_has_none(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        gone = items.create_version("second")
        items.delete_version("second")
        for again in (False, True):
            if again:
                items.create_version("second")
            with pytest.raises(ehub.NotFoundError, match="second"):
                gone.create_subindex("few", ["a"])
            with pytest.raises(ehub.NotFoundError, match="second"):
                gone.create_average("mean", {"g": ["a"]})
        second = items.version("second")
        assert (second.subindices(), second.averages()) == ({}, [])
    with ehub.open(tmp_path) as hub:
        assert hub.get_space("items").version("second").subindices() == {}
        assert hub.verify().findings == ()


def test_what_a_subindex_is_made_of_goes_with_it(hub, items):
    items.create_subindex("few", keys=["a"])
    items.create_average("mean", {"g": ["a"]})
    items.fork("branch").create_subindex("few", keys=["a", "b"])
    items.delete_version("branch")
    hidden = [one.version for one in hub._store.versions("items") if one.version[0] == "\0"]
    assert len(hidden) == 4  # of the average three, and the keys
    hub.delete_space("items")
    assert hub._store.notes("") == {}


def test_a_subindex_survives_reopening_and_is_read_beside_the_writer(tmp_path):
    with ehub.open(tmp_path) as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type="int")
        items.multiset(range(100), np.ones((100, 2)))
        even = items.create_subindex("even", where=lambda key: key % 2 == 0)
        with ehub.open(tmp_path, read_only=True) as reader:
            seen = reader.get_space("items").subindex("even")
            assert len(seen) == 50
            even.remove([0])
            even.add([1])
            assert 0 in seen
            for step in (lambda: None, items.compact):
                step()
                reader.refresh()
                assert (0 in seen, 1 in seen, len(seen)) == (False, True, 50)
            assert (seen.add([]), seen.remove([])) == (0, 0)
            for change in (seen.add, seen.remove):
                for key in (1, 3, 1_000):
                    with pytest.raises(ehub.ReadOnlyError):
                        change([key])
    for _ in range(2):
        with ehub.open(tmp_path) as hub:
            even = hub.get_space("items").subindex("even")
            assert (0 in even, 1 in even, len(even)) == (False, True, 50)
            with pytest.raises(ehub.InvalidArgumentError, match="functions are not stored"):
                even.refresh()
            assert not hub.verify().findings
    with pytest.raises(ehub.ClosedError):
        even.keys()


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "add", "remove", "compact", "checkpoint"]),
        st.lists(st.integers(0, 11), min_size=1, max_size=4),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_a_subindex_is_a_set_of_keys_and_a_dict_whatever_is_done(tmp_path_factory, operations):
    path = tmp_path_factory.mktemp("hub")
    with ehub.open(path, durability="off") as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type="int")
        few = items.create_subindex("few", keys=[1, 2])
        rows: dict[int, float] = {}
        members = {1, 2}
        for turn, (what, keys) in enumerate(operations, 1):
            if what == "set":
                items.multiset(keys, np.full((len(keys), 2), turn))
                rows |= dict.fromkeys(keys, turn)
            elif what == "delete":
                items.multidelete(keys)
                rows = {key: row for key, row in rows.items() if key not in keys}
            elif what == "add":
                assert few.add(keys) == len(set(keys) - members)
                members |= set(keys)
            elif what == "remove":
                assert few.remove(keys) == len(set(keys) & members)
                members -= set(keys)
            elif what == "compact":
                items.compact()
            else:
                hub.checkpoint()
            expected = {key: row for key, row in rows.items() if key in members}
            found, vectors = few.to_numpy()
            assert dict(zip(found.tolist(), vectors[:, 0].tolist(), strict=True)) == expected
            near = few.nearest_neighbors(20, vector=[0, 0])
            assert sorted(near.keys.tolist()) == sorted(expected)
            assert set(few.members().tolist()) == members


def test_threads_may_read_while_keys_and_rows_come_and_go(hub):
    items = hub.create_space("items", dims=2, metric="l2", key_type="int")
    items.multiset(range(2000), np.ones((2000, 2)))
    few = items.create_subindex("few", keys=range(1000))
    ended = threading.Event()
    wrong: list[object] = []

    def read():
        while not ended.is_set():
            found = set(few.nearest_neighbors(2000, vector=[1, 1]).keys.tolist())
            if not set(range(500)) <= found <= set(range(1100)):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(100):
        few.remove([500 + turn])
        few.add([1000 + turn])
        items.set(turn, [1, 1])
    ended.set()
    for reader in readers:
        reader.join()
    assert not wrong


# --- graphs over their rows ---

ROWS = 30_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A settled space: a fifth of it in a partition, and another fifth in a sub-index."""
    vectors = np.random.default_rng(3).standard_normal((ROWS, 16), dtype=np.float32)
    path = tmp_path_factory.mktemp("large")
    with ehub.open(path, durability="off") as hub:
        items = hub.create_space("items", dims=16, metric="l2", key_type="int")
        labels = ["fifth" if key % 5 == 0 else f"p{key % 1000}" for key in range(ROWS)]
        items.multiset(np.arange(ROWS), vectors, partition=labels)
        items.create_subindex("fifth", keys=np.arange(1, ROWS, 5))
        items.optimize()
    return path, vectors


def copy_of(large, tmp_path):
    import shutil

    shutil.copytree(large[0], tmp_path / "hub")
    return ehub.open(tmp_path / "hub", durability="off"), tmp_path / "hub" / "index"


def graphs(index) -> list[str]:
    return sorted(path.name for path in index.glob("*-*.hnsw"))


def recall(view, vectors, keys) -> float:
    """Of the 10 nearest of 50 queries among the rows of `keys`."""
    keys = np.asarray(sorted(keys))
    queries = np.random.default_rng(5).standard_normal((50, vectors.shape[1]), dtype=np.float32)
    hits = 0
    for query, near in zip(queries, view.multi_nearest_neighbors(10, vectors=queries), strict=True):
        distances = ((vectors[keys] - query) ** 2).sum(axis=1)
        true = keys[np.argsort(distances)[:10]]
        assert set(near.keys.tolist()) <= set(keys.tolist())
        exact = ((vectors[near.keys] - query) ** 2).sum(axis=1)
        assert np.allclose(near.distances, exact, rtol=1e-3)
        hits += len(set(true.tolist()) & set(near.keys.tolist()))
    return hits / 500


def test_a_large_partition_and_a_large_subindex_get_a_graph_each(large, tmp_path):
    hub, index = copy_of(large, tmp_path)
    with hub:
        items = hub.get_space("items")
        assert len(graphs(index)) == 2
        fifth = items.partition("fifth")
        assert recall(fifth, large[1], range(0, ROWS, 5)) > 0.93
        assert recall(items.subindex("fifth"), large[1], range(1, ROWS, 5)) > 0.93
        assert items.index_stats().subsets == 2
        some = fifth.nearest_neighbors(5, vector=large[1][0], filter=lambda key: key % 2 == 1)
        assert all(key % 10 == 5 for key in some.keys.tolist())


def test_rows_that_came_and_went_since_are_found_and_not_found(large, tmp_path):
    hub, _ = copy_of(large, tmp_path)
    vectors = large[1]
    with hub:
        items = hub.get_space("items")
        fifth = items.subindex("fifth")
        members = set(range(1, ROWS, 5))
        fifth.remove(range(1, 500, 5))
        fifth.add(range(2, 500, 5))
        members = (members - set(range(1, 500, 5))) | set(range(2, 500, 5))
        items.multidelete(range(501, 1000, 5))
        members -= set(range(501, 1000, 5))
        assert recall(fifth, vectors, members) > 0.93
        for key in (2, 497):
            assert fifth.nearest_neighbors(1, vector=vectors[key]).keys.tolist() == [key]
        for key in (1, 496, 501):
            assert fifth.nearest_neighbors(1, vector=vectors[key]).keys.tolist() != [key]
        # Of a batch, what the graph has is scanned, and what joined since, and neither twice.
        batch = {"vectors": vectors[:100] + np.float32(0.1), "filter": np.arange(21_400)}
        found, exact = (fifth.multi_nearest_neighbors(10, **batch, exact=e) for e in (False, True))
        for ours, truth in zip(found, exact, strict=True):
            assert ours.keys.tolist() == truth.keys.tolist()


def test_a_graph_is_made_anew_when_its_set_has_changed_much(large, tmp_path):
    hub, index = copy_of(large, tmp_path)
    with hub:
        items = hub.get_space("items")
        fifth = items.subindex("fifth")
        name = next(name for name in graphs(index) if "-s" in name)
        before = (index / name).stat().st_size
        fifth.add(range(3, ROWS, 5))
        items.wait_indexed()
        assert (index / name).stat().st_size > 1.5 * before
        members = [*range(1, ROWS, 5), *range(3, ROWS, 5)]
        assert recall(fifth, large[1], members) > 0.93


@pytest.mark.parametrize("damage", ["missing", "cut", "bits", "of another"])
def test_a_graph_that_cannot_be_used_costs_time_and_nothing_else(large, tmp_path, damage):
    import shutil

    shutil.copytree(large[0], tmp_path / "hub")
    index = tmp_path / "hub" / "index"
    for name in graphs(index):
        path = index / name
        data = bytearray(path.read_bytes())
        if damage == "missing":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "bits":
            for at in range(64, len(data) - 400, 3000):
                data[at] ^= 0x55
            path.write_bytes(data)
        else:
            other = index / next(other for other in graphs(index) if other != name)
            shutil.copy(other, tmp_path / name)
    if damage == "of another":
        for path in tmp_path.glob("*.hnsw"):
            shutil.copy(path, index / path.name)
    with ehub.open(tmp_path / "hub", read_only=True) as hub:
        items = hub.get_space("items")
        assert recall(items.partition("fifth"), large[1], range(0, ROWS, 5)) > 0.8
        assert recall(items.subindex("fifth"), large[1], range(1, ROWS, 5)) > 0.8
    with ehub.open(tmp_path / "hub", durability="off") as hub:
        items = hub.get_space("items")
        items.wait_indexed()
        assert items.index_stats().subsets == 2
        assert recall(items.subindex("fifth"), large[1], range(1, ROWS, 5)) > 0.93
        assert not hub.verify().findings


def test_graphs_go_with_their_segment_and_their_subindex(large, tmp_path):
    hub, index = copy_of(large, tmp_path)
    with hub:
        items = hub.get_space("items")
        items.drop_subindex("fifth")
        items.set(0, large[1][0])
        hub.checkpoint()
        assert [name.split("-")[1][0] for name in graphs(index)] == ["p"]
        items.drop_partition("fifth")
        items.multidelete(range(0, ROWS, 2))
        items.compact()
        hub.checkpoint()
        assert graphs(index) == []


def test_the_same_rows_make_the_same_graph(large, tmp_path):
    hub, index = copy_of(large, tmp_path)
    with hub:
        hub.get_space("items").wait_indexed()
    files = {name: (index / name).read_bytes() for name in graphs(index)}
    for name in files:
        (index / name).unlink()
    with ehub.open(tmp_path / "hub", durability="off") as hub:
        hub.get_space("items").wait_indexed()
    assert files == {name: (index / name).read_bytes() for name in graphs(index)}


def test_many_small_partitions_live_beside_a_large_one(tmp_path):
    rows, small = 20_000, 1000
    with ehub.open(tmp_path, durability="off") as hub:
        items = hub.create_space("items", dims=8, metric="l2", key_type="int")
        vectors = np.random.default_rng(1).standard_normal((rows, 8), dtype=np.float32)
        labels = ["large" if key >= 10 * small else f"small {key // 10}" for key in range(rows)]
        items.multiset(np.arange(rows), vectors, partition=labels)
        items.optimize()
        assert len(graphs(tmp_path / "index")) == 1
        for number in range(0, small, 97):
            near = items.partition(f"small {number}").nearest_neighbors(20, vector=vectors[0])
            assert sorted(near.keys.tolist()) == list(range(10 * number, 10 * number + 10))
