"""Each part of a graph does what its header says: candidates, codes, rotation, pruning, twins."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing as native

L2, IP, COSINE = range(3)
BLOCK_BYTES = 64 << 10
FLOATS = st.floats(width=32, allow_nan=False)


def rows_of(seed: int, n: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims), dtype=np.float32)


# Candidates.


@given(a=FLOATS, b=FLOATS)
def test_ordered_bits_are_ordered_as_the_floats_are(a, b):
    bits_a, bits_b = native.ordered_bits(a), native.ordered_bits(b)
    assert math.copysign(1, native.from_ordered_bits(bits_a)) == math.copysign(1, a)
    assert native.from_ordered_bits(bits_a) == a
    if a < b:
        assert bits_a < bits_b
    if bits_a < bits_b:
        assert a <= b


@given(
    capacity=st.integers(1, 20),
    distances=st.lists(st.sampled_from([-1e30, -2.0, -0.5, 0.0, 0.5, 1.0, 1e30]), max_size=80),
)
def test_a_pool_keeps_the_nearest_in_order_and_breaks_ties_by_row(capacity, distances):
    pool = native.Pool()
    pool.reset(capacity)
    given_rows = list(enumerate(distances))
    random.Random(len(distances)).shuffle(given_rows)
    for row, distance in given_rows:
        pool.insert(distance, row)
    nearest = sorted(np.float32(distance).item() + 0.0 for distance in distances)[:capacity]
    kept = pool.candidates()
    assert [distance for distance, _ in kept] == nearest
    assert kept == sorted((np.float32(d).item(), row) for row, d in given_rows)[:capacity]


@given(seed=st.integers(0, 2**32 - 1), capacity=st.integers(1, 12))
def test_a_pool_expands_every_candidate_once_nearest_first(seed, capacity):
    rng = random.Random(seed)
    pool = native.Pool()
    pool.reset(capacity)
    unexpanded: set[int] = set()
    expanded: set[int] = set()
    for row in range(60):
        pool.insert(rng.choice([-1.0, 0.0, 0.25, rng.uniform(-3, 3)]), row)
        kept = pool.candidates()
        unexpanded = {row for _, row in kept} - expanded
        if rng.random() < 0.4:
            left = [one for one in kept if one[1] in unexpanded]
            nearest = left[0] if left else None
            peeked = pool.peek_two()
            assert peeked == [row for _, row in left[:2]][: len(peeked)]
            assert pool.expand() == nearest
            if nearest:
                expanded.add(nearest[1])
    left = [one for one in pool.candidates() if one[1] not in expanded]
    assert [pool.expand() for _ in left] == left
    assert pool.expand() is None
    pool.reset(capacity)
    assert pool.candidates() == []


def test_visited_rows_are_remembered_until_the_next_reset():
    visited = native.Visited()
    rng = random.Random(3)
    for rows in (1, 64, 65, 5000, 70, 100_000, 3):
        visited.reset(rows)
        asked = [rng.randrange(rows) for _ in range(rng.choice([1, rows // 2 + 1, min(rows, 4)]))]
        seen: set[int] = set()
        for row in asked:
            assert visited.insert(row) == (row not in seen)
            seen.add(row)


# Twins.


@pytest.mark.parametrize("seed", range(20))
def test_twins_are_the_rows_that_are_equal_to_the_bit(seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, (rng.integers(1, 300), rng.integers(1, 6))).astype(np.float32)
    rows[rng.random(len(rows)) < 0.1] *= -1.0  # a zero becomes -0.0: equal, but not to the bit
    groups: dict[bytes, list[int]] = {}
    for row, values in enumerate(rows):
        groups.setdefault(values.tobytes(), []).append(row)
    twins = native.Twins(rows)
    assert sorted(twins.groups()) == sorted(group for group in groups.values() if len(group) > 1)
    for group in groups.values():
        assert twins.of(group[0]) == group[1:]
        assert all(twins.of(row) == [] for row in group[1:])


@pytest.mark.parametrize("seed", range(20))
def test_a_wanted_twin_makes_its_node_wanted(seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 9, (200, 2)).astype(np.float32)
    twins = native.Twins(rows)
    wanted = {int(row) for row in rng.choice(200, 40, replace=False)}
    node_of = {row: group[0] for group in twins.groups() for row in group}
    nodes = bits_of(twins.spread(words_of(wanted, 200), 200))
    assert nodes == {node_of.get(row, row) for row in wanted}


def words_of(rows: set[int], count: int) -> list[int]:
    return [
        sum(1 << (row - 64 * word) for row in rows if row // 64 == word)
        for word in range(-(-count // 64))
    ]


def bits_of(words: list[int]) -> set[int]:
    return {
        64 * place + bit for place, word in enumerate(words) for bit in range(64) if word >> bit & 1
    }


# Rotation and codes.


@pytest.mark.parametrize("dims", [2, 3, 64, 100, 128, 384, 1000])
def test_a_rotation_keeps_all_products(dims):
    rotated = native.Rotation(dims, 12345).apply(np.eye(dims, dtype=np.float32)).astype(float)
    np.testing.assert_allclose(rotated @ rotated.T, np.eye(dims), atol=2e-5)


def test_a_rotation_spreads_one_dimension_over_all():
    one = np.zeros((1, 384), np.float32)
    one[0, 7] = 1.0
    rotated = native.Rotation(384, 1).apply(one)
    assert np.abs(rotated).max() < 0.4
    assert (native.Rotation(384, 1).apply(one) == rotated).all()


def half_a_step(bits: int, dims: int) -> float:
    """What a value may be off by, in units of the largest of its row."""
    if bits == 4:
        return 1 / 15
    if bits == 8:
        return 0.5 / 127
    # So that the products of a quarter of the dimensions fit 32 bits.
    return 0.5 / (math.floor(math.sqrt(2**33 / (-(-dims // 64) * 64))) - 1)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("dims", [1, 3, 64, 100, 384])
def test_codes_are_within_half_a_step_of_the_residual(bits, dims):
    rows = rows_of(dims, 50, dims)
    encoder = native.Encoder(rows, L2)
    for row in rows:
        residual = encoder.residual(row)[: None if encoder.rotated else dims]
        code, norm, scale = encoder.encode(bits, row)
        decoded = scale * decode(bits, code)[: len(residual)]
        assert norm == pytest.approx((residual.astype(float) ** 2).sum(), rel=1e-5)
        error = np.sqrt(((decoded - residual) ** 2).sum())
        step = half_a_step(bits, dims) * np.abs(residual).max()
        # The scale that fits best is at least as good as that of the rounding.
        assert error <= 1.01 * step * math.sqrt(len(residual)) + 1e-6


def decode(bits: int, code: np.ndarray) -> np.ndarray:
    """The whole numbers that a row's code stands for."""
    if bits == 8:
        return code.astype(int) - 128
    if bits == 16:
        return code.view(np.int16).astype(int)
    blocks = code.reshape(-1, 1, 64)
    halves = np.concatenate([blocks & 15, blocks >> 4], axis=1)
    return 2 * halves.reshape(-1).astype(int) - 15


@pytest.mark.parametrize("metric", [L2, IP, COSINE])
@pytest.mark.parametrize(("bits", "error_max"), [(4, 0.2), (8, 0.02), (16, 0.0005)])
def test_coded_distances_are_near_the_true_ones(metric, bits, error_max):
    rows = rows_of(5, 300, 100) + 1.0
    query = rows_of(6, 1, 100)[0] + 1.0
    coded = native.Encoder(rows, metric).distances(bits, query, rows)
    rows64, query64 = rows.astype(float), query.astype(float)
    if metric == L2:
        true = ((rows64 - query64) ** 2).sum(axis=1)
    elif metric == COSINE:
        cosine = rows64 @ query64 / np.linalg.norm(rows64, axis=1) / np.linalg.norm(query64)
        true = 2 - 2 * cosine
    else:
        true = -2 * rows64 @ query64
        coded = coded - (coded - true).mean()  # but for a constant of the query
    assert np.abs(coded - true).max() <= error_max * (true.max() - true.min())


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("metric", [L2, IP])
def test_zero_and_constant_rows_have_codes(bits, metric):
    for rows in (np.zeros((20, 10), np.float32), np.full((20, 10), 7.5, np.float32)):
        encoder = native.Encoder(rows, metric)
        assert not encoder.rotated
        _, norm, scale = encoder.encode(bits, rows[0])
        assert (norm, scale) == (0, 0)
        distances = encoder.distances(bits, rows[0], rows)
        assert np.isfinite(distances).all()
        assert len(set(distances.tolist())) == 1


def test_values_beyond_all_measure_have_codes():
    # Sums of these are infinite or no numbers; what must not happen is undefined behaviour.
    rows = np.float32([[3e38, -3e38, 1.0], [-3e38, 3e38, 0.0], [1.0, 2.0, 3.0]] * 30)
    for metric in (L2, IP):
        encoder = native.Encoder(rows, metric)
        for bits in (4, 8, 16):
            code, _, _ = encoder.encode(bits, rows[0])
            assert np.abs(decode(bits, code)).max() <= {4: 15, 8: 127, 16: 32767}[bits]
            assert len(encoder.distances(bits, rows[2], rows)) == len(rows)


def test_rows_that_fill_few_dimensions_are_rotated_and_others_are_not():
    rows = rows_of(8, 500, 128)
    assert not native.Encoder(rows, L2).rotated
    rows *= np.float32(0.9) ** np.arange(128, dtype=np.float32)
    assert native.Encoder(rows, L2).rotated


# Pruning.


def prune_slowly(rows, candidates, links_max):
    """RobustPrune with alpha 1.1 on squared distances, then saturation up to half of the links."""
    taken, refused, left = [], [], list(candidates)
    while left and len(taken) < links_max:
        nearest = left.pop(0)
        taken.append(nearest)
        if len(taken) == links_max:
            break
        between = rows.distances(nearest[1], [row for _, row in left])
        near = [
            np.float32(1.1) * np.float32(d) <= np.float32(one[0])
            for d, one in zip(between, left, strict=True)
        ]
        refused += [one for one, is_near in zip(left, near, strict=True) if is_near]
        left = [one for one, is_near in zip(left, near, strict=True) if not is_near]
    missing = max(0, links_max // 2 - len(taken))
    return [row for _, row in sorted(taken + sorted(refused)[:missing])]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("links_max", [4, 16, 48])
@pytest.mark.parametrize("spread", [1.0, 0.01, 0.0])
def test_links_are_those_that_a_slow_pruning_chooses(bits, links_max, spread):
    # Clusters, tighter and tighter: at 0 nearly all candidates are refused first.
    centres = rows_of(9, 8, 20)
    rows = np.repeat(centres, 20, axis=0) + np.float32(spread) * rows_of(10, 160, 20)
    coded = native.CodedRows(rows, L2, bits)
    for row in range(0, 160, 7):
        others = [other for other in range(160) if other != row]
        candidates = sorted(zip(coded.distances(row, others), others, strict=True))[:100]
        links = coded.prune(candidates, links_max)
        assert links == prune_slowly(coded, candidates, links_max)
        assert len(set(links)) == len(links)
        assert min(links_max // 2, len(candidates)) <= len(links) <= links_max


def test_nothing_to_prune_gives_no_links():
    coded = native.CodedRows(rows_of(1, 3, 4), L2, 8)
    assert coded.prune([], 8) == []
    assert coded.prune([(0.5, 2)], 8) == [2]


# Files.


@pytest.mark.parametrize("seed", range(10))
def test_a_block_writer_writes_what_it_is_given_and_sums_its_blocks(seed):
    rng = random.Random(seed)
    fs = native.FaultFileSystem()
    expected, offsets, parts = b"", [], []
    for _ in range(rng.randrange(1, 30)):
        if rng.random() < 0.3:
            alignment = rng.choice([1, 8, 64])
            parts.append(alignment)
            expected += bytes(-len(expected) % alignment)
        else:
            size = rng.choice([0, 1, 63, 1000, BLOCK_BYTES, 300_001, 600_000])
            parts.append(rng.randbytes(size))
            expected += parts[-1]
        offsets.append(len(expected))
    assert native.write_blocks(fs, "/file", parts) == (
        offsets,
        [
            native.crc32c(expected[at : at + BLOCK_BYTES])
            for at in range(0, len(expected), BLOCK_BYTES)
        ],
    )
    assert fs.contents("/file") == expected
    fs.crash(native.CrashModel.DROP_UNSYNCED)


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "SHORT_WRITE"])
def test_a_block_writer_keeps_its_first_failure_for_the_end(fault):
    for call in range(1, 4):
        fs = native.FaultFileSystem()
        fs.fail_at(call, getattr(native.Fault, fault))
        with pytest.raises(native.StatusError) as caught:
            native.write_blocks(fs, "/file", [bytes(3_000_000), bytes(3_000_000)])
        assert caught.value.code == "Io"
        assert len(fs.contents("/file")) < 6_000_000
