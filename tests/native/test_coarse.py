"""Coarse rows change what a scan reads, never what it answers.

The oracle is the scan that does without: answers are compared to the bit, ties included.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ehub._native import _testing

TIERS = _testing.supported_kernels()
L2, INNER_PRODUCT, COSINE = METRICS = (0, 1, 2)
KINDS = (
    "normal",
    "duplicates",
    "identical",
    "zeros",
    "heavy",
    "offset",
    "huge",
    "tiny",
    "mixed",
)


@pytest.fixture(params=TIERS)
def tier(request):
    _testing.select_kernels(request.param)
    yield _testing.kernels_named(request.param)
    _testing.select_kernels(None)


@pytest.fixture
def space(tmp_path):
    def make(dims, metric, **options):
        return _testing.CoarseSpace(str(tmp_path / f"hub{metric}"), dims, metric, **options)

    return make


def vectors(kind: str, metric: int, n: int, dims: int, seed: int = 0) -> np.ndarray:
    """Rows of which all may be stored under the metric."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dims))
    if kind == "duplicates":
        rows = rows[random.integers(0, max(1, n // 8), n)]
    elif kind == "identical":
        rows[:] = rows[0]
    elif kind == "zeros":
        rows[random.random(n) < 0.5] = 1 if metric == COSINE else 0
    elif kind == "heavy":
        rows = rows**5 * np.exp(random.standard_normal((n, 1)) * 3)
    elif kind == "offset":
        rows = rows * 1e-3 + 1000 * np.sign(random.standard_normal(dims))
    elif kind == "huge":
        rows *= 1e18
    elif kind == "tiny":
        rows *= 1e-18
    elif kind == "mixed":
        rows *= 10.0 ** random.integers(-18, 19, (n, 1))
    rows = rows.astype(np.float32)
    while (bad := _testing.kernels_named("scalar").first_invalid_row(metric, rows)) < n:
        rows[bad] = 1
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_no_row_that_is_near_enough_is_ruled_out(tier, metric, kind):
    for dims in (*range(1, 20), 31, 63, 64, 65, 100, 127, 128, 129, 130, 384, 1536):
        rows = vectors(kind, metric, 200, dims, seed=dims)
        queries = np.concatenate([rows[:2], vectors(kind, metric, 2, dims, seed=1000 + dims)])
        for query in queries:
            with np.errstate(over="ignore"):
                norm = np.float32(query @ query)
            [(distances, found)] = tier.scan(metric, query[None], [(rows, None, 0)], len(rows))
            limits = [d for d in distances[::20] if np.isfinite(d)]
            masks = _testing.not_beyond(tier, metric, rows[:64], rows, query, norm, limits)
            for limit, mask in zip(limits, masks, strict=False):
                needed = np.array(found)[np.array(distances) <= limit]
                assert np.array(mask)[needed].all(), (dims, limit)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dims", [64, 130, 384])
def test_most_rows_that_are_far_are_ruled_out(metric, dims):
    tier = _testing.kernels_named(TIERS[-1])
    rows = vectors("normal", metric, 5000, dims)
    query = vectors("normal", metric, 1, dims, seed=1)[0]
    [(distances, _)] = tier.scan(metric, query[None], [(rows, None, 0)], 10)
    [mask] = _testing.not_beyond(
        tier, metric, rows[:1000], rows, query, query @ query, distances[-1:]
    )
    assert 10 <= sum(mask) < 60


def settled(space, queries: np.ndarray, k: int = 10, **options) -> int:
    """Searches until no more codes come; how many blocks there are."""
    before = -1
    while space.blocks != before:
        before = space.blocks
        space.search(queries[:1], k, **options)
    return before


def require_equal(space, queries: np.ndarray, **options) -> None:
    for one in (queries, *queries[:, None][:3]):
        plain = space.search(one, coarsely=False, **options)
        assert space.search(one, **options) == plain
        assert space.search(one, threads=3, **options) == plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_answers_are_those_of_a_plain_scan(tier, space, metric, kind):
    dims = 128
    rows = vectors(kind, metric, 6000, dims)
    coarse = space(dims, metric)
    for start in range(0, len(rows), 1500):
        coarse.set(start, rows[start : start + 1500])
    queries = np.concatenate([rows[[0, 5999]], vectors(kind, metric, 4, dims, seed=1)])
    settled(coarse, queries)
    for k in (1, 10, 300, 10_000):
        require_equal(coarse, queries, k=k)
    [(distances, _)] = coarse.search(queries[2:3], 100)
    require_equal(coarse, queries, k=50, distance_max=distances[40])
    coarse.remove(list(range(0, 6000, 3)))
    require_equal(coarse, queries)
    for step in (2, 50):
        require_equal(coarse, queries, among=list(range(1, 6000, step)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dims", [40, 72, 130, 384, 1536])
def test_answers_are_those_of_a_plain_scan_in_all_dims(space, metric, dims):
    block = _testing.coarse_block_rows(dims)
    rows = vectors("normal", metric, 4 * block + 37, dims)
    coarse = space(dims, metric)
    coarse.set(0, rows)
    queries = vectors("normal", metric, 4, dims, seed=1)
    assert settled(coarse, queries) == 4
    require_equal(coarse, queries)
    assert coarse.ruled_out > 0


def test_most_rows_are_ruled_out_once_there_are_codes(space):
    rows = vectors("normal", L2, 40_000, 128)
    coarse = space(128, L2)
    coarse.set(0, rows)
    queries = vectors("normal", L2, 1, 128, seed=1)
    coarse.search(queries, coarsely=False)
    assert (coarse.blocks, coarse.ruled_out) == (0, 0)
    coarse.search(queries)
    assert 0 < coarse.blocks < 39  # no search makes all
    assert settled(coarse, queries) == 39
    before = coarse.ruled_out
    coarse.search(queries)
    # The first block is read as it is, and so are the rows after the last whole one.
    assert 0.97 * 38 * 1024 < coarse.ruled_out - before <= 38 * 1024


def test_codes_that_tell_nothing_are_neither_read_nor_made_on_and_on(space):
    # The first rows, whose mean all are counted from, are far from all others.
    rows = vectors("normal", L2, 40_000, 128)
    rows[:1024] += 10_000
    coarse = space(128, L2)
    coarse.set(0, rows)
    queries = vectors("normal", L2, 1, 128, seed=1)
    for _ in range(60):
        assert coarse.search(queries) == coarse.search(queries, coarsely=False)
    before = coarse.judged
    for _ in range(10):
        coarse.search(queries)
    # One block in 32 is tried again.
    assert coarse.judged - before < 10 * 40_000 / 16
    assert coarse.blocks < 30


def test_a_sealed_segment_goes_on_with_the_codes_of_the_fresh_one(space):
    rows = vectors("normal", L2, 20_000, 64)
    coarse = space(64, L2)
    coarse.set(0, rows)
    queries = vectors("normal", L2, 3, 64, seed=1)
    blocks = settled(coarse, queries)
    assert blocks == 20_000 // _testing.coarse_block_rows(64)
    coarse.checkpoint()
    assert coarse.blocks == blocks
    before = coarse.ruled_out
    require_equal(coarse, queries)
    assert coarse.ruled_out - before > 4 * 10_000


def test_a_graph_takes_the_place_of_the_codes_and_their_memory_is_given_back(space):
    taken = _testing.coarse_memory_taken()
    rows = vectors("normal", L2, 10_000, 64)
    coarse = space(64, L2, graph_rows_min=9000)
    coarse.set(0, rows)
    queries = vectors("normal", L2, 1, 64, seed=1)
    blocks = settled(coarse, queries)
    assert _testing.coarse_memory_taken() - taken == blocks * 2048 * (64 + 16)
    coarse.checkpoint()
    coarse.index()
    assert (coarse.blocks, _testing.coarse_memory_taken()) == (0, taken)
    coarse.search(queries)
    assert (coarse.blocks, _testing.coarse_memory_taken()) == (0, taken)


def test_no_more_memory_is_taken_than_there_is_for_it(space):
    rows = vectors("normal", L2, 40_000, 128)
    coarse = space(128, L2)
    coarse.set(0, rows)
    queries = vectors("normal", L2, 2, 128, seed=1)
    block = 1024 * (128 + 16)
    _testing.fix_coarse_memory(_testing.coarse_memory_taken() + 5 * block + block // 2)
    try:
        assert settled(coarse, queries) == 5
        require_equal(coarse, queries)
        assert coarse.blocks == 5
    finally:
        _testing.fix_coarse_memory(1 << 30)
    assert settled(coarse, queries) == 39


@pytest.mark.parametrize("batch", [50, 3000])
def test_searches_among_rows_that_come_find_what_a_plain_scan_finds(space, batch):
    rows = vectors("normal", L2, 30_000, 64)
    coarse = space(64, L2)
    coarse.set(0, rows[:batch])
    stored, failures = [batch], []

    def search(seed: int) -> None:
        random = np.random.default_rng(seed)
        while stored[0] < len(rows):
            newest = stored[0]
            row = random.integers(newest)
            [(distances, found)] = coarse.search(rows[row : row + 1], 5)
            if distances[0] != 0 or len(found) != 5:
                failures.append((newest, row, distances, found))

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for start in range(batch, len(rows), batch):
        coarse.set(start, rows[start : start + batch])
        if start % (5 * batch) == 0 and batch > 100:
            coarse.checkpoint()
        stored[0] = start + batch
    for thread in threads:
        thread.join()
    assert not failures
    queries = vectors("normal", L2, 4, 64, seed=1)
    settled(coarse, queries)
    require_equal(coarse, queries)
