"""The index finds what a scan finds, whatever was written."""

from __future__ import annotations

import numpy as np
import pytest
from cores import one_core
from indexed import (
    METRICS,
    distances,
    embeddings,
    filled,
    normal,
    open_hub,
    recall,
    require_indexed,
)


@pytest.fixture
def hub(tmp_path):
    # Everything that is written is sealed by the next checkpoint, and everything sealed is indexed.
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    with open_hub(tmp_path / "hub", **options) as hub:
        yield hub


# --- recall ---

# Over 4,096 rows, or there is no walk; 50,000 are in `fifty_thousand`.
SHAPES = [(1, 6000), (3, 10_000), (16, 10_000), (100, 6000), (384, 4500), (784, 4200), (1536, 4200)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dims", "n"), SHAPES)
def test_recall_of_any_dims_reaches_its_target(hub, metric, dims, n):
    if dims == 1 and metric == "cosine":
        pytest.skip("there are but two directions: any row of the same sign is as near as can be")
    rows, queries = embeddings(dims, n, dims), embeddings(dims + 1, 100, dims)
    space = filled(hub, rows, metric)
    assert require_indexed(space).rows_indexed == n
    assert recall(space, rows, queries) >= 0.95
    assert recall(space, rows, queries, exact=True) == 1.0
    assert recall(space, rows, queries[:20], ef=3000) >= 0.999


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [1, 2, 10, 99, 100, 101, 4096])
def test_small_sets_are_answered_exactly(hub, metric, n):
    rows, queries = normal(n, n, 16), normal(n + 1, 30, 16)
    space = filled(hub, rows, metric)
    assert space.index_stats().segments == (n >= 100)
    for k in (1, 10, n, n + 10):
        assert recall(space, rows, queries, k=k) == 1.0


def awkward_rows(kind: str) -> np.ndarray:
    rows = normal(3, 9000, 12)
    if kind == "duplicates":
        return np.repeat(rows[:1800], 5, axis=0)
    if kind == "identical":
        return np.repeat(rows[:1], 9000, axis=0)
    if kind == "half the same":
        rows[::2] = rows[0]
    if kind == "zeros":
        rows[::3] = 0
    if kind == "nearly the same":
        rows[::2] = rows[0] + np.float32(1e-6) * rows[::2]
    if kind == "one direction":
        rows[::2] = rows[0] * np.linspace(0.5, 2, 4500, dtype=np.float32)[:, None]
    if kind == "outliers":
        rows[::1000] *= 1e4
    return rows


AWKWARD = [
    "duplicates",
    "identical",
    "half the same",
    "zeros",
    "nearly the same",
    "one direction",
    "outliers",
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_rows_do_not_spoil_recall(hub, kind, metric):
    if (kind, metric) == ("zeros", "cosine"):
        pytest.skip("under cosine there are no zero vectors")
    rows = awkward_rows(kind)
    space = filled(hub, rows, metric)
    require_indexed(space)
    queries = np.concatenate([normal(4, 50, 12), rows[:20], rows[1:5000:100]])
    assert recall(space, rows, queries) >= 0.95
    # Rows from the crowd, too, find one that is as near as can be (under "ip" not themselves).
    assert recall(space, rows, rows[::90], k=1) >= (0.95 if metric == "ip" else 1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_recall_survives_deleting_half_and_overwriting_all_twice(hub, metric):
    rows, queries = embeddings(7, 10_000, 16), embeddings(8, 100, 16)
    space = filled(hub, rows, metric)
    gone = np.random.default_rng(9).permutation(10_000)[:5000]
    space.multidelete(gone)
    for settle in (lambda: None, space.wait_indexed, space.optimize):
        settle()
        assert recall(space, rows, queries, dead=gone) >= 0.95
    assert require_indexed(space).rows_indexed == 5000
    for seed in (10, 11):
        rows = embeddings(seed, 10_000, 16)
        space.multiset(np.arange(10_000), rows)
        assert recall(space, rows, queries) >= 0.95
    space.wait_indexed()
    assert recall(space, rows, queries) >= 0.95
    space.optimize()
    stats = require_indexed(space)
    assert (stats.rows, stats.rows_indexed, stats.segments) == (10_000, 10_000, 1)
    assert recall(space, rows, queries) >= 0.95


def test_what_is_not_indexed_yet_is_joined_to_what_is_and_every_row_is_found_once(hub):
    # So many rows without a graph are scanned by several threads after the graph was walked.
    rows = embeddings(12, 100_000, 64)
    space = filled(hub, rows[:6000], "l2")
    space.multiset(np.arange(6000, 100_000), rows[6000:])
    assert space.index_stats().rows_scanned == 94_000
    assert recall(space, rows, rows[:20]) >= 0.95
    for row in range(0, 6000, 600):
        assert recall(space, rows, rows[row : row + 1]) >= 0.9


# --- filters ---


@pytest.fixture(scope="module")
def fifty_thousand(tmp_path_factory):
    """A space of 50,000 rows for tests that only read, and its rows."""
    rows = embeddings(20, 50_000, 24)
    with open_hub(tmp_path_factory.mktemp("large"), background=False) as hub:
        yield filled(hub, rows, "l2"), rows


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001, 0.00005])
def test_recall_under_a_filter_is_what_it_is_without(fifty_thousand, share):
    space, rows = fifty_thousand
    queries = embeddings(21, 100, 24)
    chosen = np.random.default_rng(22).permutation(50_000)[: round(50_000 * share)]
    assert recall(space, rows, queries, filter=chosen) >= 0.95


def test_recall_under_a_filter_of_one_region_is_what_it_is_without(fifty_thousand):
    # The rows that pass lie together, far from half of the queries.
    space, rows = fifty_thousand
    chosen = np.argsort(rows[:, 0])[:10_000]
    assert recall(space, rows, embeddings(23, 100, 24), filter=chosen) >= 0.95


@pytest.mark.parametrize("share", [0.9, 0.75, 0.5, 0.25, 0.1])
@pytest.mark.parametrize("off", [0.0, 0.3])
def test_recall_is_kept_where_the_rows_that_pass_are_those_farthest_from_the_query(
    fifty_thousand, share, off
):
    # Right at the middle of the hole (off 0) many rows are at nearly the distance of its edge.
    space, rows = fifty_thousand
    shares = []
    for seed in range(8):
        query = embeddings(50 + seed, 1, 24)
        from_query = np.argsort(((rows - query) ** 2).sum(axis=1))
        chosen = from_query[-round(50_000 * share) :]
        asked = query + off * embeddings(60 + seed, 5, 24)
        shares.append(recall(space, rows, asked.astype(np.float32), filter=chosen))
    assert np.mean(shares) >= 0.95


def text_like(seed: int, n: int) -> np.ndarray:
    """Unit rows as text models make them: topics at right angles, in a part of the dimensions."""
    dims, topics = 192, 160
    axes = np.linalg.qr(np.random.default_rng(1).standard_normal((dims, dims)))[0][:topics]
    rng = np.random.default_rng(seed)
    rows = np.concatenate([axes, -axes])[rng.integers(0, 2 * topics, n)]
    rows = rows + 0.7 / np.sqrt(topics) * rng.standard_normal((n, topics)) @ axes
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_nearest_of_a_crowd_that_codes_do_not_tell_apart_are_found(hub):
    # All topics but the query's own are at nearly one distance, and so are the nearest rows that
    # pass. Rows that are the nearest by codes are those whose codes err to that side, so that they
    # say nothing of the others' errors: to look no farther than these allow finds 0.97.
    rows = text_like(1, 17_000)
    space = filled(hub, rows, "cosine")
    assert space.index_stats().code_bits == 4
    for share in (0.5, 0.25):
        shares = []
        for query in text_like(2, 20):
            farthest = np.argsort(rows @ query)[: int(len(rows) * share)]
            shares.append(recall(space, rows, query[None], filter=farthest))
        assert np.mean(shares) >= 0.98, share


@pytest.mark.parametrize("around", [300, 1000, 5000, 20_000])
@pytest.mark.parametrize("beyond", [1.0, 0.5, 0.2])
def test_a_handful_that_passes_among_many_around_the_query_that_do_not_is_found(
    fifty_thousand, around, beyond
):
    # Only rows that do not pass lead to them.
    space, rows = fifty_thousand
    rng = np.random.default_rng(around)
    shares = []
    for seed in range(8):
        query = embeddings(70 + seed, 1, 24)
        order = np.argsort(((rows - query) ** 2).sum(axis=1))
        others = order[around:]
        few = rng.choice(order[:around], 5, replace=False)
        many = rng.choice(others, int(len(others) * beyond), replace=False)
        shares.append(recall(space, rows, query, filter=np.concatenate([few, many])))
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("options", [{"k": 5000}, {"ef": 40_000}])
def test_recall_is_kept_where_much_is_asked_for_under_a_filter(fifty_thousand, options):
    space, rows = fifty_thousand
    chosen = np.sort(np.random.default_rng(25).permutation(50_000)[:45_000])
    assert recall(space, rows, embeddings(24, 1, 24), filter=chosen, **options) >= 0.95


def test_a_callable_filters_as_its_keys_do(fifty_thousand):
    space, _ = fifty_thousand
    query = embeddings(24, 1, 24)[0]
    by_call = space.nearest_neighbors(10, vector=query, filter=lambda key: key % 7 == 0)
    by_keys = space.nearest_neighbors(10, vector=query, filter=np.arange(0, 50_000, 7))
    assert by_call.keys.tolist() == by_keys.keys.tolist()
    assert (by_call.keys % 7 == 0).all()


@pytest.mark.parametrize("share", [0.9, 0.55])
def test_a_filter_over_rows_with_twins_gives_no_row_twice(hub, share):
    # A twin is not a node of the graph, and comes into an answer with its node alone.
    rows = np.repeat(normal(31, 5000, 8), 3, axis=0)
    space = filled(hub, rows, "l2")
    chosen = np.sort(np.random.default_rng(32).permutation(15_000)[: int(15_000 * share)])
    assert recall(space, rows, normal(33, 60, 8), filter=chosen) >= 0.95
    assert recall(space, rows, rows[:3000:31], filter=chosen, k=25) >= 0.95


# --- k, distances, order ---


def test_as_many_are_found_as_there_are(fifty_thousand):
    space, rows = fifty_thousand
    query = embeddings(25, 1, 24)
    for k in (1000, 20_000):
        assert recall(space, rows, query, k=k) >= 0.95
    everything = space.nearest_neighbors(60_000, vector=query[0])
    assert sorted(everything.keys.tolist()) == list(range(50_000))
    assert (np.diff(everything.distances) >= 0).all()
    many = space.nearest_neighbors(50_000, vector=query[0])
    assert many.keys.tolist() == everything.keys.tolist()


@pytest.mark.parametrize("ef", [1, 10, 10_000, 1_000_000])
def test_any_ef_gives_k_rows(fifty_thousand, ef):
    space, rows = fifty_thousand
    assert recall(space, rows, embeddings(26, 20, 24), ef=ef) >= (0.5 if ef < 10_000 else 1.0)


def test_nothing_farther_than_max_distance_is_found(fifty_thousand):
    space, rows = fifty_thousand
    for query in embeddings(27, 20, 24):
        truth = np.sort(distances("l2", query[None], rows)[0])
        limit = float(truth[4] + truth[5]) / 2
        found = space.nearest_neighbors(10, vector=query, max_distance=limit, ef=300)
        np.testing.assert_allclose(found.distances, truth[:5], rtol=1e-4)
        assert len(space.nearest_neighbors(10, vector=query, max_distance=truth[0] / 2)) == 0


def test_a_batch_of_queries_gives_what_each_one_gives_alone(fifty_thousand):
    space, _ = fifty_thousand
    queries = embeddings(28, 70, 24)
    for options in ({}, {"ef": 17}, {"filter": np.arange(0, 50_000, 3)}):
        many = space.multi_nearest_neighbors(10, vectors=queries, **options)
        for query, found in zip(queries, many, strict=True):
            alone = space.nearest_neighbors(10, vector=query, **options)
            assert alone.keys.tolist() == found.keys.tolist()
            assert alone.distances.tolist() == found.distances.tolist()


def test_queries_of_a_batch_that_few_rows_which_pass_are_near_to_are_answered_as_by_a_scan(
    fifty_thousand,
):
    # A walk is in vain for them; those near the rows that pass get what they get alone.
    space, rows = fifty_thousand
    first = np.argsort(((rows - rows[0]) ** 2).sum(axis=1))
    chosen = np.sort(first[:20_000])
    far = np.concatenate([rows[first[-40:]], rows[first[:3]]])
    options = {"vectors": far, "filter": chosen}
    found = space.multi_nearest_neighbors(10, **options)
    exact = space.multi_nearest_neighbors(10, **options, exact=True)
    for ours, truth in zip(found[:40], exact[:40], strict=True):
        assert ours.keys.tolist() == truth.keys.tolist()
        assert ours.distances.tolist() == truth.distances.tolist()
    for query, ours in zip(far[40:], found[40:], strict=True):
        alone = space.nearest_neighbors(10, vector=query, filter=chosen)
        assert alone.keys.tolist() == ours.keys.tolist()
    with one_core():
        again = space.multi_nearest_neighbors(10, **options)
    assert [each.keys.tolist() for each in again] == [each.keys.tolist() for each in found]


def test_a_batch_is_answered_as_by_a_scan_where_that_takes_no_longer_than_walks(fifty_thousand):
    space, _ = fifty_thousand
    options = {"vectors": embeddings(29, 300, 24), "filter": np.arange(20_000, 35_000)}
    found, exact = (space.multi_nearest_neighbors(10, **options, exact=e) for e in (False, True))
    assert [each.keys.tolist() for each in found] == [each.keys.tolist() for each in exact]


def test_a_key_is_no_neighbor_of_itself_and_every_other_row_may_be(fifty_thousand):
    space, rows = fifty_thousand
    keys = np.arange(0, 50_000, 997)
    for key, found in zip(keys, space.multi_nearest_neighbors(10, keys=keys), strict=True):
        assert len(found) == 10
        assert key not in found.keys
    ownself = space.multi_nearest_neighbors(1, vectors=rows[keys])
    assert [found.keys.tolist() for found in ownself] == [[key] for key in keys]


def test_rows_at_one_distance_come_in_the_order_in_which_they_were_written(hub):
    rows = normal(41, 9000, 6)
    rows[2000:6000] = rows[17]
    space = filled(hub, rows, "l2")
    require_indexed(space)
    for options in ({}, {"exact": True}, {"filter": np.arange(9000)}):
        found = space.nearest_neighbors(50, vector=rows[17], **options)
        assert found.keys.tolist() == [17, *range(2000, 2049)]
    space.multidelete([17, 2000, 2002])
    found = space.nearest_neighbors(4, vector=rows[17])
    assert found.keys.tolist() == [2001, 2003, 2004, 2005]


# --- writes ---


def test_writes_count_at_once_and_dead_rows_are_never_found(hub):
    rows = embeddings(51, 12_000, 16)
    space = filled(hub, rows, "l2")
    require_indexed(space)
    rng = np.random.default_rng(52)
    dead: set[int] = set()
    for turn in range(20):
        target = int(rng.integers(0, 12_000))
        near = space.nearest_neighbors(5, vector=rows[target]).keys.tolist()
        space.multidelete(near)
        dead.update(near)
        fresh = 100_000 + turn
        space.set(fresh, rows[target])
        again = space.nearest_neighbors(8, vector=rows[target]).keys.tolist()
        assert again[0] == fresh
        assert len(again) == 8
        assert not dead & set(again)
        space.set(fresh, rows[target] + 100)
        assert space.nearest_neighbors(1, vector=rows[target] + 100).keys.tolist() == [fresh]
        assert fresh not in space.nearest_neighbors(8, vector=rows[target]).keys


def test_all_but_a_few_rows_may_be_dead(hub):
    rows = normal(53, 10_000, 8)
    space = filled(hub, rows, "l2")
    space.multidelete(np.arange(10, 10_000))
    for k in (5, 10, 20):
        found = space.nearest_neighbors(k, vector=rows[500])
        assert set(found.keys.tolist()) <= set(range(10))
        assert len(found) == min(k, 10)
    space.delete_all()
    assert len(space.nearest_neighbors(10, vector=rows[0])) == 0
    space.optimize()
    assert space.index_stats().segments == 0
    space.multiset(np.arange(10_000), rows)
    assert recall(space, rows, normal(54, 20, 8)) >= 0.95


def test_a_view_pinned_before_a_write_never_shows_it(hub):
    rows = normal(55, 10_000, 8)
    space = filled(hub, rows, "l2")
    view = space._now()  # what a snapshot will be
    before = view.nearest(rows[:50], 10, np.inf)
    space.multidelete(np.arange(0, 10_000, 2))
    space.multiset(np.arange(20_000, 20_050), rows[:50])
    space.multiset(np.arange(1, 10_000, 2), -rows[1::2])
    for settle in (lambda: None, hub.checkpoint, space.wait_indexed, space.optimize):
        settle()
        after = view.nearest(rows[:50], 10, np.inf)
        assert view.row_count() == 10_000
        shown = np.intersect1d(before[0], after[0])
        assert after[0].max() < 10_000
        assert len(shown) >= 0.95 * len(np.union1d(before[0], after[0]))
        assert after[0].reshape(50, 10)[:, 0].tolist() == list(range(50))


def test_recall_and_latency_can_be_measured(fifty_thousand):
    space, _ = fifty_thousand
    report = space.measure_recall(k=10, sample=50)
    assert (report.k, report.sample) == (10, 50)
    assert report.recall >= 0.95
    assert 0 < report.latency_p50_ms <= report.latency_p95_ms <= report.latency_p99_ms
    assert report.exact_latency_p50_ms > 0
    assert space.measure_recall(k=10, sample=50, ef=2000).recall >= report.recall - 0.001
