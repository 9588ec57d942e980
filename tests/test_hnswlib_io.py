"""hnswlib and ehub read each other's files, keep every vector and label, and find as much in them.

The baseline is the real hnswlib, which pip compiles when it installs it (with -march=native, unless
HNSWLIB_NO_NATIVE=1 is set).
"""

from __future__ import annotations

import numpy as np
import pytest

import ehub
from ehub import hnswlib_io

hnswlib = pytest.importorskip("hnswlib", exc_type=ImportError)

METRICS = ["l2", "ip", "cosine"]
SMALL = 300  # no graph
LARGE = 6_000  # a graph, and walks over it
K = 10


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as hub:
        yield hub


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.bin"


def gaussian(n, dims, seed=1):
    return np.random.default_rng(seed).standard_normal((n, dims), dtype=np.float32)


def clustered(n, dims, seed=1):
    random = np.random.default_rng(seed)
    centres = random.standard_normal((60, dims), dtype=np.float32)
    noise = random.standard_normal((n, dims), dtype=np.float32)
    return centres[random.integers(0, len(centres), n)] + np.float32(0.3) * noise


def made_index(vectors, metric, *, M=16, ef_construction=100, labels=None, capacity=None):
    """An index of hnswlib, as its users make one; one thread, so that it is the same each time."""
    index = hnswlib.Index(space=metric, dim=vectors.shape[1])
    index.init_index(capacity or max(1, len(vectors)), ef_construction=ef_construction, M=M)
    if len(vectors):
        index.add_items(vectors, labels, num_threads=1)
    return index


def loaded_index(path, metric, dims):
    index = hnswlib.Index(space=metric, dim=dims)
    index.load_index(str(path))
    return index


def distances_to_all(vectors, queries, metric):
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return (asked**2).sum(1)[:, None] - 2 * asked @ wide.T + (wide**2).sum(1)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return 1 - asked @ wide.T


def recall(found, vectors, queries, metric):
    """The share of found rows that are as near as the true ones; `found`: places, [queries, K]."""
    exact = distances_to_all(vectors, queries, metric)
    bound = np.sort(exact, axis=1)[:, K - 1 : K]
    near = np.take_along_axis(exact, found, axis=1) <= bound + 1e-5 * np.maximum(1, abs(bound))
    return near.mean()


def found_by_hnswlib(index, queries, ef):
    index.set_ef(ef)
    return index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)


def found_by_ehub(space, queries, ef):
    answers = space.multi_nearest_neighbors(K, vectors=queries, ef=ef)
    return np.stack([answer.keys for answer in answers])


# --- in ---


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("M", [4, 16, 48])
@pytest.mark.parametrize("dims", [1, 3, 16, 100, 384])
def test_every_vector_and_label_comes_over_bit_for_bit(hub, path, metric, M, dims):
    vectors = gaussian(SMALL, dims)
    labels = np.random.default_rng(2).permutation(10 * SMALL)[:SMALL]
    index = made_index(vectors, metric, M=M, labels=labels)
    index.save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric=metric, dims=dims)
    assert (space.dims, space.metric, space.key_type) == (dims, metric, "int")
    assert len(space) == SMALL
    stored = np.array(index.get_items(labels), np.float32)  # normalised under cosine
    assert (space.multiget(labels) == stored).all()
    if metric != "cosine":
        assert (stored == vectors).all()


@pytest.mark.parametrize("make", [gaussian, clustered])
@pytest.mark.parametrize(
    ("metric", "M", "dims"),
    [("l2", 16, 100), ("ip", 16, 100), ("cosine", 16, 100), ("l2", 4, 16), ("l2", 48, 384)],
)
def test_a_search_finds_what_hnswlib_finds_at_the_same_ef(hub, path, make, metric, M, dims):
    vectors, queries = np.split(make(LARGE + 200, dims), [LARGE])
    index = made_index(vectors, metric, M=M)
    index.save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric=metric, dims=dims)
    stats = space.index_stats()
    assert (stats.rows_indexed, stats.rows_scanned, stats.segments) == (LARGE, 0, 1)
    for ef in (10, 30, 100):
        theirs = recall(found_by_hnswlib(index, queries, ef), vectors, queries, metric)
        ours = recall(found_by_ehub(space, queries, ef), vectors, queries, metric)
        assert ours >= theirs - 0.01, ef


def test_nothing_is_built_for_a_file_that_has_links(hub, path):
    made_index(gaussian(LARGE, 16), "l2").save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=16)
    stats = space.index_stats()
    assert stats.rows_indexed == LARGE
    assert stats.rows_per_second == 0, "the index was built, not taken over"
    assert stats.unreachable == 0


def test_the_graph_that_was_taken_over_is_still_there_when_the_hub_is_opened_again(tmp_path, path):
    made_index(gaussian(LARGE, 16), "l2").save_index(str(path))
    with ehub.open(tmp_path / "hub") as hub:
        hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=16)
    with ehub.open(tmp_path / "hub") as hub:
        assert hub.get_space("s").index_stats().rows_indexed == LARGE
        assert hub.verify().ok


def test_a_space_that_was_loaded_takes_writes_like_any_other(hub, path):
    vectors = gaussian(LARGE, 16)
    made_index(vectors, "l2").save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=16)
    space.set(-1, vectors[7])
    space.delete(7)
    assert space.nearest_neighbors(1, vector=vectors[7])[0] == (-1, 0.0)
    space.optimize()
    assert space.nearest_neighbors(1, vector=vectors[7])[0] == (-1, 0.0)


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_elements_marked_as_deleted_stay_out_and_the_rest_is_found(hub, path, share):
    total = int(LARGE / (1 - share))
    vectors = clustered(total, 16)
    index = made_index(vectors, "l2", M=8)
    gone = np.random.default_rng(3).permutation(total)[: total - LARGE]
    for label in gone:
        index.mark_deleted(label)
    index.save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=16)
    kept = np.setdiff1d(np.arange(total), gone)
    assert (np.sort(space.keys()) == kept).all()
    assert space.index_stats().rows_indexed == len(kept)
    queries = clustered(200, 16, seed=4)
    places = np.searchsorted(kept, found_by_ehub(space, queries, 50))
    theirs = np.searchsorted(kept, found_by_hnswlib(index, queries, 50))
    assert (
        recall(places, vectors[kept], queries, "l2")
        >= recall(theirs, vectors[kept], queries, "l2") - 0.01
    )


def test_an_index_whose_elements_are_all_deleted_is_an_empty_space(hub, path):
    index = made_index(gaussian(20, 4), "l2")
    for label in range(20):
        index.mark_deleted(label)
    index.save_index(str(path))
    assert len(hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=4)) == 0


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("metric", METRICS)
def test_hardly_any_rows_go_both_ways(hub, path, metric, n):
    vectors = gaussian(n, 5)
    made_index(vectors, metric, capacity=7).save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric=metric, dims=5)
    assert sorted(space) == list(range(n))
    hnswlib_io.save(space, path)
    index = loaded_index(path, metric, 5)
    assert index.get_current_count() == n
    if n:
        assert index.knn_query(vectors, k=n)[0][:, 0].tolist() == list(range(n))


def test_equal_elements_are_all_found(hub, path):
    vectors = np.repeat(gaussian(LARGE // 20, 8), 20, axis=0)
    made_index(vectors, "l2").save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=8)
    assert space.index_stats().rows_indexed == LARGE
    for row in range(0, LARGE, 500):
        answer = space.nearest_neighbors(20, vector=vectors[row])
        assert sorted(answer.keys) == list(range(row // 20 * 20, row // 20 * 20 + 20))


def test_an_element_that_replaced_a_deleted_one_has_its_place(hub, path):
    vectors = gaussian(SMALL, 4)
    index = hnswlib.Index(space="l2", dim=4)
    index.init_index(SMALL, allow_replace_deleted=True)
    index.add_items(vectors, num_threads=1)
    index.mark_deleted(5)
    index.add_items(vectors[5:6] + 1, [1000], replace_deleted=True)
    index.save_index(str(path))
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=4)
    assert len(space) == SMALL
    assert 5 not in space
    assert (space[1000] == vectors[5] + 1).all()


def test_labels_beyond_int64_are_refused_as_ints_and_taken_as_text(hub, path):
    labels = np.array([3, 2**63, 2**64 - 1], np.uint64)
    made_index(gaussian(3, 4), "l2", labels=labels).save_index(str(path))
    with pytest.raises(ehub.InvalidKeyError, match=r'9223372036854775808.*key_type="str"'):
        hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=4)
    assert "s" not in hub
    space = hnswlib_io.load(path, hub=hub, space="s", metric="l2", dims=4, key_type="str")
    assert sorted(space) == ["18446744073709551615", "3", "9223372036854775808"]


def test_a_vector_that_cannot_be_stored_leaves_no_space_behind(hub, path):
    vectors = gaussian(20, 4)
    vectors[7] = 0
    made_index(vectors, "cosine").save_index(str(path))
    with pytest.raises(ehub.InvalidVectorError, match="vector 7"):
        hnswlib_io.load(path, hub=hub, space="s", metric="cosine", dims=4)
    assert "s" not in hub


# --- out ---


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("M", [4, 16, 48])
@pytest.mark.parametrize("dims", [1, 3, 16, 100, 384])
def test_hnswlib_answers_from_a_file_that_was_saved_here(hub, path, metric, M, dims):
    vectors = gaussian(SMALL, dims)
    labels = np.random.default_rng(2).permutation(10 * SMALL)[:SMALL]
    space = hub.create_space("s", dims, metric=metric, key_type="int", M=M)
    space.multiset(labels, vectors)
    hnswlib_io.save(space, path)
    index = loaded_index(path, metric, dims)
    assert (index.get_current_count(), index.M) == (SMALL, M)
    kept = np.array(index.get_items(labels), np.float32)
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(kept, vectors, rtol=1e-6, atol=1e-6)
    else:
        assert (kept == vectors).all()
    place_of = np.zeros(10 * SMALL, np.int64)
    place_of[labels] = np.arange(SMALL)
    queries = gaussian(50, dims, seed=5)
    found = place_of[found_by_hnswlib(index, queries, SMALL)]
    assert recall(found, vectors, queries, metric) > 0.999


@pytest.mark.parametrize("make", [gaussian, clustered])
@pytest.mark.parametrize(
    ("metric", "M", "dims"),
    [("l2", 16, 100), ("ip", 16, 100), ("cosine", 16, 100), ("l2", 4, 16), ("l2", 48, 3)],
)
def test_hnswlib_finds_as_much_in_an_export_as_ehub_in_the_space(hub, path, make, metric, M, dims):
    vectors, queries = np.split(make(LARGE + 200, dims), [LARGE])
    space = hub.create_space("s", dims, metric=metric, key_type="int", M=M)
    space.multiset(np.arange(LARGE), vectors)
    hnswlib_io.save(space, path)
    assert space.index_stats().rows_indexed == LARGE, "saving settles the space"
    index = loaded_index(path, metric, dims)
    for ef in (30, 100):
        there = recall(found_by_hnswlib(index, queries, ef), vectors, queries, metric)
        here = recall(found_by_ehub(space, queries, ef), vectors, queries, metric)
        assert there >= here - 0.03, ef


@pytest.mark.parametrize("make", [gaussian, clustered])
@pytest.mark.parametrize(
    ("metric", "M", "dims"), [("l2", 16, 100), ("cosine", 4, 16), ("l2", 48, 3)]
)
def test_hnswlib_finds_as_much_in_an_export_as_in_its_own_index(hub, path, make, metric, M, dims):
    vectors, queries = np.split(make(LARGE + 200, dims), [LARGE])
    space = hub.create_space("s", dims, metric=metric, key_type="int", M=M)
    space.multiset(np.arange(LARGE), vectors)
    hnswlib_io.save(space, path)
    exported = loaded_index(path, metric, dims)
    own = made_index(vectors, metric, M=M)
    for ef in (10, 30, 100):
        theirs = recall(found_by_hnswlib(own, queries, ef), vectors, queries, metric)
        ours = recall(found_by_hnswlib(exported, queries, ef), vectors, queries, metric)
        assert ours >= theirs - 0.02, ef


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, SMALL, LARGE])
def test_hnswlib_saves_an_export_as_the_same_bytes(hub, path, tmp_path, metric, n):
    space = hub.create_space("s", 16, metric=metric, key_type="int", M=8)
    space.multiset(np.arange(n), gaussian(n, 16))
    hnswlib_io.save(space, path)
    loaded_index(path, metric, 16).save_index(str(tmp_path / "again.bin"))
    assert (tmp_path / "again.bin").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_survive_the_way_there_and_back_bit_for_bit(hub, path, tmp_path, metric):
    made_index(gaussian(LARGE, 16), metric).save_index(str(path))
    first = hnswlib_io.load(path, hub=hub, space="first", metric=metric, dims=16)
    hnswlib_io.save(first, tmp_path / "again.bin")
    second = hnswlib_io.load(
        tmp_path / "again.bin", hub=hub, space="second", metric=metric, dims=16
    )
    assert (first.keys() == second.keys()).all()
    assert (first.multiget(first.keys()) == second.multiget(first.keys())).all()


@pytest.mark.parametrize("copies", [2, 30, LARGE])
def test_hnswlib_finds_equal_rows_in_an_export(hub, path, copies):
    vectors = np.repeat(gaussian(LARGE // copies, 8), copies, axis=0)
    space = hub.create_space("s", 8, metric="l2", key_type="int", M=8)
    space.multiset(np.arange(LARGE), vectors)
    hnswlib_io.save(space, path)
    index = loaded_index(path, "l2", 8)
    index.set_ef(300)  # of which each group fills its part
    for row in range(0, LARGE, 500):
        labels, distances = index.knn_query(vectors[row], k=min(copies, 20))
        assert (distances == 0).all()
        assert set(labels[0] // copies) == {row // copies}


def test_hnswlib_adds_to_and_deletes_from_an_export(hub, path):
    vectors, more = np.split(gaussian(LARGE + 500, 16), [LARGE])
    space = hub.create_space("s", 16, metric="l2", key_type="int", M=8)
    space.multiset(np.arange(LARGE), vectors)
    hnswlib_io.save(space, path, ef_construction=77)
    index = loaded_index(path, "l2", 16)
    assert index.ef_construction == 77
    index.resize_index(LARGE + 500)
    index.add_items(more, np.arange(LARGE, LARGE + 500), num_threads=1)
    index.mark_deleted(3)
    index.set_ef(100)
    assert (index.knn_query(more, k=1)[0][:, 0] == np.arange(LARGE, LARGE + 500)).mean() > 0.99
    assert index.knn_query(vectors[3], k=1)[0][0, 0] != 3


def test_only_rows_that_are_there_are_exported(hub, path):
    vectors = gaussian(LARGE, 16)
    space = hub.create_space("s", 16, metric="l2", key_type="int", M=8)
    space.multiset(np.arange(LARGE), vectors)
    space.optimize()
    space.multidelete(np.arange(0, LARGE, 3))
    space.set(1, vectors[0])
    hnswlib_io.save(space, path)
    index = loaded_index(path, "l2", 16)
    assert sorted(index.get_ids_list()) == sorted(space)
    assert (np.array(index.get_items([1]), np.float32) == vectors[0]).all()


def test_a_reader_exports_what_it_sees(tmp_path, path):
    vectors = gaussian(LARGE, 16)
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("s", 16, metric="l2", key_type="int")
        space.multiset(np.arange(LARGE), vectors)
    with ehub.open(tmp_path / "hub", read_only=True) as hub:
        hnswlib_io.save(hub.get_space("s"), path, M=6)
    index = loaded_index(path, "l2", 16)
    assert (index.get_current_count(), index.M) == (LARGE, 6)
    assert (found_by_hnswlib(index, vectors[:100], 100)[:, 0] == np.arange(100)).all()


def test_keys_that_are_no_labels_need_labels(hub, path):
    vectors = gaussian(3, 4)
    texts = hub.create_space("texts", 4, metric="l2")
    texts.multiset(["a", "b", "c"], vectors)
    with pytest.raises(ehub.InvalidKeyError, match=r"str keys.*labels="):
        hnswlib_io.save(texts, path)
    numbers = hub.create_space("numbers", 4, metric="l2", key_type="int")
    numbers.multiset([1, -2, 3], vectors)
    with pytest.raises(ehub.InvalidKeyError, match=r"-2 is negative.*labels="):
        hnswlib_io.save(numbers, path)
    assert not path.exists()
    hnswlib_io.save(texts, path, labels={"a": 7, "b": 2**64 - 1, "c": 0, "d": 7})
    index = loaded_index(path, "l2", 4)
    assert index.knn_query(vectors, k=1)[0][:, 0].tolist() == [7, 2**64 - 1, 0]
    with pytest.raises(ehub.InvalidArgumentError, match="none for key 'c'"):
        hnswlib_io.save(texts, path, labels={"a": 1, "b": 2})
    with pytest.raises(ehub.InvalidArgumentError, match="same label"):
        hnswlib_io.save(texts, path, labels={"a": 1, "b": 2, "c": 1})
    with pytest.raises(ehub.InvalidArgumentError, match="label of 'b'"):
        hnswlib_io.save(texts, path, labels={"a": 1, "b": -2, "c": 1})
