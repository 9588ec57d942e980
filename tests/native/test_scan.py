"""The top-k scan answers what sorting all distances answers, and a row's validity is seen anywhere.

The oracle sorts every selected row by (distance, row). The vectors it is asked about have small
integers for elements (for cosine: signs, in 4^j dimensions), so that distances are exact in float32
and ties abound: the answers must agree to the last row.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing

TIERS = _testing.supported_kernels()
L2, INNER_PRODUCT, COSINE = METRICS = (0, 1, 2)
INFINITY = float("inf")


@pytest.fixture(params=TIERS)
def tier(request):
    return _testing.kernels_named(request.param)


def distances_between(metric, queries, rows):
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == L2:
        return ((queries[:, None, :] - rows[None, :, :]) ** 2).sum(axis=-1)
    products = queries @ rows.T
    if metric == COSINE:
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)[None, :]
        products = products / lengths
    return 1.0 - products


def nearest(distances, rows, k, distance_max=INFINITY):
    """The oracle: (distances, rows) of the k nearest, from all distances of one query."""
    pairs = sorted(zip(distances.tolist(), rows.tolist(), strict=True))
    pairs = [pair for pair in pairs if pair[0] <= distance_max][:k]
    return [distance for distance, _ in pairs], [row for _, row in pairs]


def bitmap_of(chosen, *, garbage=False):
    """The selection of a bool array; `garbage` sets the bits beyond it."""
    padded = np.full(-(-len(chosen) // 64) * 64, garbage)
    padded[: len(chosen)] = chosen
    return np.packbits(padded, bitorder="little").view(np.uint64)


def exact_vectors(random, metric, count, dims):
    if metric == COSINE:
        return random.choice(np.float32([-1, 1]), (count, dims))
    return random.integers(-3, 4, (count, dims)).astype(np.float32)


def selections(random, n):
    """A bool array with empty words, full words and words of any density."""
    densities = random.choice([0.0, 0.02, 0.3, 0.6, 0.95, 1.0], size=-(-n // 64))
    return random.random(n) < np.repeat(densities, 64)[:n]


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(TIERS),
    metric=st.sampled_from(METRICS),
    m=st.sampled_from([1, 2, 5, 6, 7, 47, 48, 49, 100]),
    block_rows=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    dims=st.sampled_from([1, 4, 16, 64]),
    k=st.integers(1, 400),
    distance_max=st.sampled_from([INFINITY, 0.0, 1.0, 12.0]),
    whole=st.booleans(),
)
def test_a_scan_answers_as_sorting_all_distances_does(
    seed, name, metric, m, block_rows, dims, k, distance_max, whole
):
    random = np.random.default_rng(seed)
    queries = exact_vectors(random, metric, m, dims)
    rows = exact_vectors(random, metric, sum(block_rows), dims)
    # The blocks come in any order, with gaps between their ordinals.
    starts = np.cumsum([0, *block_rows[:-1]])
    blocks, chosen_rows, ordinals = [], [], []
    for index in random.permutation(len(block_rows)):
        block = rows[starts[index] : starts[index] + block_rows[index]]
        chosen = np.ones(len(block), dtype=bool) if whole else selections(random, len(block))
        base = int(starts[index]) + 1000 * int(index)
        blocks.append((block, None if whole else bitmap_of(chosen, garbage=True), base))
        chosen_rows.append(block[chosen])
        ordinals.append(base + np.flatnonzero(chosen))
    answers = _testing.kernels_named(name).scan(metric, queries, blocks, k, distance_max)
    distances = distances_between(metric, queries, np.concatenate(chosen_rows))
    ordinals = np.concatenate(ordinals)
    assert len(answers) == m
    for answer, all_distances in zip(answers, distances, strict=True):
        assert answer == nearest(all_distances, ordinals, k, distance_max)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dims", [3, 100, 384])
def test_a_scan_of_real_vectors_is_right_up_to_rounding(tier, metric, dims):
    random = np.random.default_rng(dims)
    queries = random.standard_normal((51, dims)).astype(np.float32)
    rows = random.standard_normal((1000, dims)).astype(np.float32)
    chosen = selections(random, len(rows))
    answers = tier.scan(metric, queries, [(rows, bitmap_of(chosen), 0)], 10)
    exact = distances_between(metric, queries, rows)
    for (distances, found), all_distances in zip(answers, exact, strict=True):
        tolerance = 1e-6 * (1.0 + np.abs(all_distances).max())
        best = np.sort(all_distances[chosen])[:10]
        assert chosen[found].all()
        assert len(set(found)) == 10
        np.testing.assert_allclose(distances, all_distances[found], rtol=0, atol=tolerance)
        np.testing.assert_allclose(distances, best, rtol=0, atol=tolerance)


@pytest.mark.parametrize("metric", METRICS)
def test_a_distance_depends_on_neither_batch_nor_selection(tier, metric):
    random = np.random.default_rng(1)
    queries = random.standard_normal((50, 77)).astype(np.float32)
    rows = random.standard_normal((200, 77)).astype(np.float32)
    together = tier.scan(metric, queries, [(rows, None, 0)], len(rows))
    thinned = bitmap_of(np.arange(len(rows)) % 7 == 0)
    for index, query in enumerate(queries):
        assert tier.scan(metric, query[None], [(rows, None, 0)], len(rows)) == [together[index]]
        distance_of = dict(zip(*reversed(together[index]), strict=True))
        [(distances, found)] = tier.scan(metric, query[None], [(rows, thinned, 0)], len(rows))
        assert sorted(found) == list(range(0, len(rows), 7))
        assert distances == [distance_of[row] for row in found]


@pytest.mark.parametrize("m", [1, 60])
def test_equal_distances_go_to_the_smaller_row_in_any_order_of_blocks(tier, m):
    row = np.ones((150, 8), dtype=np.float32)
    queries = np.zeros((m, 8), dtype=np.float32)
    blocks = [(row, None, base) for base in (450, 0, 300, 150)]
    assert tier.scan(L2, queries, blocks, 200) == [([8.0] * 200, list(range(200)))] * m


@pytest.mark.parametrize("metric", METRICS)
def test_no_rows_and_no_selected_rows_give_no_answers(tier, metric):
    query = np.ones((2, 5), dtype=np.float32)
    rows = np.ones((130, 5), dtype=np.float32)
    nothing = bitmap_of(np.zeros(130, dtype=bool), garbage=True)
    assert tier.scan(metric, query, [(rows[:0], None, 0)], 3) == [([], [])] * 2
    assert tier.scan(metric, query, [(rows, nothing, 0)], 3) == [([], [])] * 2
    assert tier.scan(metric, query, [], 3) == [([], [])] * 2
    assert tier.scan(metric, query, [(rows, None, 0)], 0) == [([], [])] * 2


@pytest.mark.parametrize("metric", [L2, INNER_PRODUCT])
@pytest.mark.parametrize("m", [1, 9])
def test_what_is_too_large_for_float32_is_infinitely_far(tier, metric, m):
    # Rows 2 and 3 give infinity, or infinity minus infinity, by the order of summation.
    rows = np.zeros((6, 4), dtype=np.float32)
    rows[1], rows[4] = 1.0, 0.5
    rows[2] = [3e38, -3e38, 3e38, -3e38]
    rows[3] = -3e38
    queries = np.full((m, 4), 3e38 if metric == L2 else 1e38, dtype=np.float32)
    if metric == L2:
        queries[:] = 1.0
    for distances, found in tier.scan(metric, queries, [(rows, None, 0)], 6):
        assert not np.isnan(distances).any()
        assert sorted(found) == list(range(6))
        assert [row for row in found if row in (2, 3)] == [2, 3]
        assert distances[-2:] == [INFINITY, INFINITY]
    for distances, found in tier.scan(metric, queries, [(rows, None, 0)], 6, 3.4e38):
        assert set(found) == {0, 1, 4, 5}
        assert max(distances) <= 3.4e38


pushes = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 1.5, 2.0, -1.0, INFINITY, float("nan")]),
        st.integers(0, 2**64 - 1),
    ),
    max_size=40,
    unique_by=lambda push: push[1],
)


@given(pushed=pushes, k=st.integers(0, 12), distance_max=st.sampled_from([INFINITY, 1.5, -2.0]))
def test_top_k_keeps_the_nearest_of_all_that_is_pushed(pushed, k, distance_max):
    heap = _testing.TopK(k, distance_max)
    for distance, row in pushed:
        heap.push(distance, row)
    assert heap.take_sorted() == oracle_of(pushed, k, distance_max)


@given(left=pushes, right=pushes, k=st.integers(1, 12))
def test_merged_heaps_answer_as_one(left, right, k):
    right = [(distance, row) for distance, row in right if row not in {row for _, row in left}]
    heap, other = _testing.TopK(k), _testing.TopK(k)
    for distance, row in left:
        heap.push(distance, row)
    for distance, row in right:
        other.push(distance, row)
    heap.merge(other)
    assert heap.take_sorted() == oracle_of(left + right, k, INFINITY)
    assert other.take_sorted() == oracle_of(right, k, INFINITY)


def oracle_of(pushed, k, distance_max):
    kept = sorted((INFINITY if np.isnan(distance) else distance, row) for distance, row in pushed)
    kept = [pair for pair in kept if pair[0] <= distance_max][:k]
    return [distance for distance, _ in kept], [row for _, row in kept]


def test_the_threshold_of_a_heap_falls_and_an_emptied_heap_is_as_new():
    heap = _testing.TopK(2, 5.0)
    seen = [heap.threshold]
    for row, distance in enumerate([4.0, 3.0, 3.5, 1.0]):
        heap.push(distance, row)
        seen.append(heap.threshold)
    assert seen == [5.0, 5.0, 4.0, 3.5, 3.0]
    assert heap.take_sorted() == ([1.0, 3.0], [3, 1])
    assert heap.threshold == 5.0
    assert heap.take_sorted() == ([], [])
    heap.push(4.5, 9)
    assert heap.take_sorted() == ([4.5], [9])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dims", [1, 3, 4, 8, 15, 16, 17, 33, 100])
def test_a_value_that_is_not_finite_is_found_at_every_place(tier, metric, dims):
    rows = np.ones((67, dims), dtype=np.float32)
    assert tier.first_invalid_row(metric, rows) == 67
    for at in (0, 1, 2, 3, 4, 5, 62, 63, 64, 65, 66):
        for place in range(dims):
            for value in (np.nan, np.inf, -np.inf):
                rows[at, place] = value
                assert tier.first_invalid_row(metric, rows) == at, (at, place, value)
            rows[at, place] = 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_the_first_of_several_invalid_rows_is_named(tier, metric):
    rows = np.ones((200, 7), dtype=np.float32)
    rows[[31, 130, 199]] = np.nan
    assert tier.first_invalid_row(metric, rows) == 31
    assert tier.first_invalid_row(metric, rows[32:]) == 98
    assert tier.first_invalid_row(metric, rows[:31]) == 31
    assert tier.first_invalid_row(metric, rows[:0]) == 0


@pytest.mark.parametrize("dims", [1, 3, 17, 100])
@pytest.mark.parametrize("length", [0.0, -0.0, 1e-20, 2e-23, 1e-45, 3e19, 3e38])
def test_only_cosine_refuses_rows_without_a_usable_angle(tier, dims, length):
    rows = np.ones((70, dims), dtype=np.float32)
    for at in (0, 3, 64, 69):
        rows[at] = 0.0
        rows[at, -1] = length
        assert tier.first_invalid_row(COSINE, rows) == at
        assert tier.first_invalid_row(L2, rows) == 70
        assert tier.first_invalid_row(INNER_PRODUCT, rows) == 70
        rows[at] = 1.0


@pytest.mark.parametrize("length", [1.2e-19, -1.2e-19, 1e-10, 1e10, 1.8e19])
def test_cosine_keeps_every_length_whose_square_is_a_normal_number(tier, length):
    rows = np.zeros((5, 9), dtype=np.float32)
    rows[:, 2] = length
    assert tier.first_invalid_row(COSINE, rows) == 5
    query = np.zeros((1, 9), dtype=np.float32)
    query[0, 2] = 1.0
    [(distances, _)] = tier.scan(COSINE, query, [(rows, None, 0)], 5)
    np.testing.assert_allclose(distances, 1.0 - np.sign(length), rtol=0, atol=3e-7)
