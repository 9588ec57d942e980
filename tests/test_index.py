"""The index finds what a scan finds, whatever was written, and is never in anybody's way."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub._native import _store

METRICS = ("l2", "ip", "cosine")


def open_hub(path: Path, **options: object) -> ehub.Hub:
    """A hub whose limits can be chosen."""
    return ehub.Hub(_store.Store(str(path), **{"durability": "off", **options}))


@pytest.fixture
def hub(tmp_path):
    # Everything that is written is sealed by the next checkpoint, and everything sealed is indexed.
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    with open_hub(tmp_path / "hub", **options) as hub:
        yield hub


def normal(seed: int, n: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims), dtype=np.float32)


def embeddings(seed: int, n: int, dims: int) -> np.ndarray:
    """Rows as models make them: in clusters, and with much of their variance in few dimensions."""
    rng = np.random.default_rng(seed)
    scale = np.float32(1) / np.sqrt(np.arange(1, dims + 1, dtype=np.float32))
    # The clusters are the same for all seeds, so that queries are like the rows.
    centres = np.random.default_rng(0).standard_normal((50, dims), dtype=np.float32)
    rows = centres[rng.integers(0, 50, n)] + rng.standard_normal((n, dims), dtype=np.float32)
    return rows * scale


def distances(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The oracle: float64[queries, rows]."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    products = queries @ rows.T
    if metric != "l2":
        return 1 - products
    squares = (rows**2).sum(axis=1) + (queries**2).sum(axis=1)[:, None] - 2 * products
    return np.maximum(squares, 0)


def recall(
    space: ehub.Space,
    rows: np.ndarray,
    queries: np.ndarray,
    k: int = 10,
    dead: np.ndarray | None = None,
    **options: object,
) -> float:
    """The share of the k nearest of `rows` (key i has rows[i], unless dead) that a search finds.

    Of rows at the same distance any will do. What is found must be what it says it is.
    """
    truth = distances(space.metric, queries, rows)
    if "filter" in options:
        truth[:, np.setdiff1d(np.arange(len(rows)), options["filter"])] = np.inf
    if dead is not None:
        truth[:, dead] = np.inf
    kth = np.partition(truth, min(k, len(rows)) - 1, axis=1)[:, min(k, len(rows)) - 1]
    close = 1e-5 * (1 + np.abs(truth[np.isfinite(truth)]).max())
    hits = 0
    answers = space.multi_nearest_neighbors(k, vectors=queries, **options)
    for query, found in enumerate(answers):
        keys = found.keys
        assert len(found) == len(set(keys.tolist())) == np.isfinite(truth[query]).sum().clip(0, k)
        assert (np.diff(found.distances) >= 0).all()
        np.testing.assert_allclose(found.distances, truth[query, keys], rtol=1e-3, atol=close)
        hits += (truth[query, keys] <= kth[query] + close).sum()
    return hits / sum(len(found) for found in answers)


def filled(hub: ehub.Hub, rows: np.ndarray, metric: str, **parameters: object) -> ehub.Space:
    """A space with these rows under their numbers, all indexed."""
    space = hub.create_space("items", rows.shape[1], metric=metric, key_type="int", **parameters)
    space.multiset(np.arange(len(rows)), rows)
    space.wait_indexed()
    return space


def require_indexed(space: ehub.Space) -> ehub.IndexStats:
    stats = space.index_stats()
    assert stats.rows_scanned == 0
    assert stats.unreachable == 0
    assert stats.segments >= 1
    return stats


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


# --- the life of an index ---


def test_fresh_rows_are_scanned_and_sealed_ones_get_a_graph(hub):
    space = hub.create_space("items", 8, metric="l2", key_type="int")
    assert space.index_stats().rows == 0
    space.wait_indexed()
    space.optimize()
    rows = normal(61, 500, 8)
    space.multiset(np.arange(500), rows)
    stats = space.index_stats()
    assert (stats.rows, stats.rows_indexed, stats.rows_scanned) == (500, 0, 500)
    assert (stats.segments, stats.bytes) == (0, 0)
    space.optimize()
    stats = require_indexed(space)
    assert (stats.rows, stats.rows_indexed, stats.segments) == (500, 500, 1)
    assert stats.bytes > 500 * 8
    assert stats.ef >= 10
    assert stats.code_bits in (8, 16, 32)
    assert stats.rows_per_second > 0
    assert (stats.rows_building, stats.rebuilds) == (0, 0)


def test_recall_and_latency_can_be_measured(fifty_thousand):
    space, _ = fifty_thousand
    report = space.measure_recall(k=10, sample=50)
    assert (report.k, report.sample) == (10, 50)
    assert report.recall >= 0.95
    assert 0 < report.latency_p50_ms <= report.latency_p95_ms <= report.latency_p99_ms
    assert report.exact_latency_p50_ms > 0
    assert space.measure_recall(k=10, sample=50, ef=2000).recall >= report.recall - 0.001


def test_measuring_a_space_of_few_rows_is_fine(hub):
    space = hub.create_space("items", 2)
    assert space.measure_recall().recall == 1.0
    space.multiset({"a": [1, 2], "b": [2, 1]})
    assert space.measure_recall().recall == 1.0


def test_parameters_of_the_index_live_as_long_as_the_space(tmp_path):
    rows, queries = embeddings(62, 6000, 16), embeddings(63, 50, 16)
    sizes, recalls, efs = {}, {}, {}
    settings = {
        "plain": {},
        "thin": {"M": 4, "ef_construction": 10},
        "exacting": {"target_recall": 0.999},
        "hasty": {"ef": 10},
    }
    with open_hub(tmp_path / "hub", background=False) as hub:
        for name, parameters in settings.items():
            space = hub.create_space(name, 16, metric="l2", key_type="int", **parameters)
            space.multiset(np.arange(6000), rows)
    # The graphs are built by a process that was not told.
    for path in (tmp_path / "hub" / "index").iterdir():
        path.unlink()
    with open_hub(tmp_path / "hub", background=False) as hub:
        for name in settings:
            space = hub.get_space(name)
            space.optimize()
            stats = require_indexed(space)
            sizes[name], efs[name] = stats.bytes, stats.ef
            recalls[name] = recall(space, rows, queries)
    assert sizes["thin"] < sizes["plain"]
    assert efs["exacting"] > efs["plain"]
    assert recalls["exacting"] >= 0.995
    assert recalls["hasty"] < recalls["exacting"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"M": 1},
        {"M": 513},
        {"ef_construction": 1},
        {"ef": 0},
        {"ef": 1_000_001},
        {"target_recall": 0},
        {"target_recall": 1},
        {"target_recall": float("nan")},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(hub, parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        hub.create_space("items", 4, **parameters)
    assert "items" not in hub


@pytest.mark.parametrize("ef", [0, -1, 1_000_001, 1.5, "10"])
def test_an_ef_out_of_range_is_refused(hub, ef):
    space = hub.create_space("items", 2)
    with pytest.raises((ValueError, TypeError), match="ef"):
        space.nearest_neighbors(1, vector=[1, 2], ef=ef)


def test_graphs_are_there_when_the_hub_is_opened_again(tmp_path):
    rows, queries = embeddings(64, 6000, 16), embeddings(65, 50, 16)
    with open_hub(tmp_path / "hub") as hub:
        space = filled(hub, rows, "l2")
        stats = require_indexed(space)
        answers = [n.keys.tolist() for n in space.multi_nearest_neighbors(10, vectors=queries)]
    with open_hub(tmp_path / "hub") as hub:
        space = hub.get_space("items")
        again = require_indexed(space)
        assert (again.bytes, again.ef, again.rebuilds) == (stats.bytes, stats.ef, 0)
        found = space.multi_nearest_neighbors(10, vectors=queries)
        assert [n.keys.tolist() for n in found] == answers
        assert hub.verify().findings == ()


@pytest.mark.parametrize("background", [False, True])
def test_segments_of_many_writes_are_merged_and_their_graphs_with_them(tmp_path, background):
    # Segments of 200 rows, nine and more of them: merged beside the writing, without being asked.
    options = {"background": background, "graph_rows_min": 100, "carry_bytes_max": 0}
    rows, queries = normal(66, 6000, 8), normal(67, 30, 8)
    with open_hub(tmp_path / "hub", **options) as hub:
        space = hub.create_space("items", 8, metric="l2", key_type="int")
        for begin in range(0, 6000, 200):
            space.multiset(np.arange(begin, begin + 200), rows[begin : begin + 200])
            hub.checkpoint()
        assert recall(space, rows, queries) >= 0.95
        if not background:
            assert space.index_stats().segments < 20
            require_indexed(space)
        space.wait_indexed()
        require_indexed(space)
        space.multidelete(np.arange(0, 6000, 2))
        hub.checkpoint()
        space.optimize()
        stats = require_indexed(space)
        assert (stats.rows, stats.rows_indexed, stats.segments) == (3000, 3000, 1)
        assert hub.verify().findings == ()
        hub.checkpoint()
        graphs = sorted(path.name for path in (tmp_path / "hub" / "index").iterdir())
        assert len(graphs) == 1
    with open_hub(tmp_path / "hub", **options) as hub:
        chosen = np.arange(1, 6000, 2)
        assert recall(hub.get_space("items"), rows, queries, filter=chosen) == 1.0
        assert len(hub.get_space("items")) == 3000


def test_a_deleted_space_takes_its_graphs_along(hub, tmp_path):
    space = filled(hub, normal(68, 500, 4), "l2")
    assert len(list((tmp_path / "hub" / "index").iterdir())) == 1
    hub.delete_space("items")
    for call in (space.wait_indexed, space.optimize, space.index_stats):
        with pytest.raises(ehub.NotFoundError):
            call()
    hub.checkpoint()
    hub.checkpoint()
    assert list((tmp_path / "hub" / "index").iterdir()) == []


def test_a_closed_hub_has_no_index(tmp_path):
    hub = open_hub(tmp_path / "hub")
    space = hub.create_space("items", 4)
    hub.close()
    for call in (space.wait_indexed, space.optimize, space.index_stats, space.measure_recall):
        with pytest.raises(ehub.ClosedError):
            call()


# --- many at once ---

READER = """
import sys
import numpy as np
import ehub
with ehub.open(sys.argv[1], read_only=True) as hub:
    space = hub.get_space("items")
    print(space.index_stats().segments, flush=True)
    for line in sys.stdin:
        hub.refresh()
        stats = space.index_stats()
        query = np.load(sys.argv[2])[0]
        print(stats.segments, space.nearest_neighbors(1, vector=query).keys[0], flush=True)
    space.wait_indexed()
    try:
        space.optimize()
    except ehub.ReadOnlyError:
        print("read-only")
"""


def test_a_reader_process_gets_graphs_when_it_refreshes(tmp_path):
    rows = normal(71, 6000, 8)
    np.save(tmp_path / "rows.npy", rows)
    with open_hub(tmp_path / "hub", background=False, graph_rows_min=1 << 30) as hub:
        space = hub.create_space("items", 8, metric="l2", key_type="int")
        space.multiset(np.arange(6000), rows)
    arguments = [sys.executable, "-c", READER, str(tmp_path / "hub"), str(tmp_path / "rows.npy")]
    environment = {**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)}
    with (
        subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as reader,
        open_hub(tmp_path / "hub", background=False) as hub,
    ):
        assert reader.stdout.readline() in ("0\n", "1\n")
        hub.get_space("items").wait_indexed()
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "1 0\n"
        reader.stdin.close()
        assert reader.stdout.read() == "read-only\n"
        assert reader.wait() == 0


def test_searches_go_on_while_the_index_follows_the_writes(tmp_path):
    rows, queries = embeddings(72, 16_000, 16), embeddings(73, 8, 16)
    failures: list[BaseException] = []
    stop = threading.Event()

    def search(space: ehub.Space) -> None:
        try:
            for turn in itertools.count():
                known = len(space)
                found = space.multi_nearest_neighbors(10, vectors=queries)
                assert all(len(answer) == 10 for answer in found)
                target = turn * 31 % known
                assert space.nearest_neighbors(1, vector=rows[target]).keys.tolist() == [target]
                if stop.is_set():
                    return
        except BaseException as error:  # of any kind, for the main thread
            failures.append(error)

    options = {"graph_rows_min": 500, "carry_bytes_max": 0}
    with open_hub(tmp_path / "hub", **options) as hub:
        space = hub.create_space("items", 16, metric="l2", key_type="int")
        space.multiset(np.arange(1000), rows[:1000])
        threads = [threading.Thread(target=search, args=(space,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for begin in range(1000, 16_000, 1000):
            space.multiset(np.arange(begin, begin + 1000), rows[begin : begin + 1000])
            hub.checkpoint()
        space.wait_indexed()
        space.optimize()
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert require_indexed(space).segments == 1
        assert recall(space, rows, embeddings(74, 50, 16)) >= 0.95


def settle(space: ehub.Space, outcome: list[str]) -> None:
    """Optimize, and tell how it ended."""
    try:
        space.optimize()
        outcome.append("done")
    except ehub.ClosedError:
        outcome.append("closed")


def test_a_hub_can_be_closed_while_its_index_is_built(tmp_path):
    rows = embeddings(75, 20_000, 64)
    for turn in range(3):
        hub = open_hub(tmp_path / "hub")
        name = f"items {turn}"
        space = hub.create_space(name, 64, metric="l2", key_type="int")
        space.multiset(np.arange(20_000), rows)
        outcome: list[str] = []
        settling = threading.Thread(target=settle, args=(space, outcome))
        settling.start()
        while turn and space.index_stats().rows_building == 0 and settling.is_alive():
            pass
        hub.close()
        settling.join()
        assert outcome in (["done"], ["closed"])
        with open_hub(tmp_path / "hub", read_only=True) as again:
            space = again.get_space(name)
            assert len(space) == 20_000
            assert space.nearest_neighbors(1, vector=rows[7]).keys.tolist() == [7]
