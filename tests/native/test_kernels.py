"""Every tier of the kernels computes what float64 NumPy computes, and repeats it to the bit.

Arithmetic is compared with float64, within the rounding that summing in float32 may cost. What must
not depend on rounding (the same pair in another batch, another kernel, another memory place) is
compared to the bit. The choice of a tier is tested here too; the scan is in test_scan.py.
"""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing

TIERS = _testing.supported_kernels()
DIMS = [*range(1, 131), 384, 768, 1536]
EPSILON = float(np.finfo(np.float32).eps)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
NOT_FINITE = [np.nan, -np.nan, np.inf, -np.inf]


@pytest.fixture(params=TIERS)
def tier(request):
    return _testing.kernels_named(request.param)


def random_rows(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def l2_many(tier, queries, rows):
    return run_many(tier.l2_many, queries, rows)


def dot_many(tier, queries, rows):
    return run_many(tier.dot_many, queries, rows)


def run_many(kernel, queries, rows):
    """Run a *_many kernel with rows of output longer than needed, and check the excess is kept."""
    out = np.full((len(queries), len(rows) + 3), 7.0, dtype=np.float32)
    kernel(queries, rows, out)
    assert (out[:, len(rows) :] == 7.0).all()
    return out[:, : len(rows)]


def assert_same_bits(left, right):
    np.testing.assert_array_equal(left.view(np.uint32), right.view(np.uint32))


def assert_sums(sums, terms):
    """Compare float32 `sums` with those of the float64 `terms` along the last axis."""
    # A partial sum of a tier adds a quarter of the terms or fewer, then come a few more additions.
    # Below the normal numbers every operation may lose half of the smallest of all.
    steps = terms.shape[-1] / 4 + 6
    tolerance = steps * (EPSILON * np.abs(terms).sum(axis=-1) + SMALLEST)
    error = np.abs(sums.astype(np.float64) - terms.sum(axis=-1))
    assert (error <= tolerance).all(), (error / tolerance).max()


def assert_all_kernels_are_right(tier, queries, rows):
    query64, rows64 = queries.astype(np.float64), rows.astype(np.float64)
    products = query64[:, None, :] * rows64[None, :, :]
    squares = (query64[:, None, :] - rows64[None, :, :]) ** 2
    dots, norms_squared = tier.dot_norm_one(queries[0], rows)
    assert_sums(tier.l2_one(queries[0], rows), squares[0])
    assert_sums(tier.dot_one(queries[0], rows), products[0])
    assert_sums(dots, products[0])
    assert_sums(norms_squared, rows64**2)
    assert_sums(l2_many(tier, queries, rows), squares)
    assert_sums(dot_many(tier, queries, rows), products)


@pytest.mark.parametrize("dims", DIMS)
def test_distances_are_right_for_all_dims(tier, dims):
    assert_all_kernels_are_right(
        tier, random_rows(dims, 7, dims), random_rows(-dims % 1000, 9, dims)
    )


@pytest.mark.parametrize("dims", [1, 5, 16, 33, 130])
@pytest.mark.parametrize(
    "scale", [1e-45, 3e-42, 1e-30, 1e-19, 1.0, 1e15], ids=lambda scale: f"{scale:g}"
)
def test_distances_are_right_for_tiny_and_huge_values(tier, dims, scale):
    queries = (random_rows(1, 7, dims).astype(np.float64) * scale).astype(np.float32)
    rows = (random_rows(2, 9, dims).astype(np.float64) * scale).astype(np.float32)
    assert_all_kernels_are_right(tier, queries, rows)


@pytest.mark.parametrize("dims", [1, 7, 16, 31, 100])
def test_sums_beyond_float32_are_infinite(tier, dims):
    rows = np.full((5, dims), 3e38, dtype=np.float32)
    queries = -rows
    assert (tier.l2_one(queries[0], rows) == np.inf).all()
    assert (l2_many(tier, queries, rows) == np.inf).all()
    assert (dot_many(tier, queries, rows) == -np.inf).all()
    assert (tier.dot_norm_one(queries[0], rows)[1] == np.inf).all()


@pytest.mark.parametrize("dims", [1, 4, 17, 48, 100])
@pytest.mark.parametrize("place", ["first", "last"])
def test_every_dimension_counts_once(tier, dims, place):
    # One huge term would be lost nowhere, and counted twice would be doubled.
    at = 0 if place == "first" else dims - 1
    rows = np.zeros((9, dims), dtype=np.float32)
    rows[:, at] = np.arange(9)
    query = np.zeros((7, dims), dtype=np.float32)
    query[:, at] = 2.0
    assert (dot_many(tier, query, rows) == 2.0 * np.arange(9)).all()
    assert (l2_many(tier, query, rows) == (np.arange(9) - 2.0) ** 2).all()


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.parametrize("dims", [1, 3, 15, 64, 100, 384])
def test_a_pair_has_one_distance_in_any_batch_and_kernel(name, dims):
    tier = _testing.kernels_named(name)
    queries, rows = random_rows(3, 14, dims), random_rows(4, 70, dims)
    l2 = np.stack([tier.l2_one(query, rows) for query in queries])
    dot = np.stack([tier.dot_one(query, rows) for query in queries])
    for m in range(1, 15):
        for n in (1, 2, 3, 4, 5, 8, 11, 70):
            assert_same_bits(l2_many(tier, queries[:m], rows[:n]).copy(), l2[:m, :n].copy())
            assert_same_bits(dot_many(tier, queries[:m], rows[:n]).copy(), dot[:m, :n].copy())
    for n in range(1, 10):
        assert_same_bits(tier.l2_one(queries[0], rows[:n]), l2[0, :n])
    dots, norms_squared = tier.dot_norm_one(queries[0], rows)
    assert_same_bits(dots, dot[0])
    assert_same_bits(norms_squared, np.concatenate([tier.dot_one(row, row[None]) for row in rows]))


def test_blocks_of_rows_do_not_show_in_the_result(tier):
    # Wide rows: a call has several blocks, and the last is not full.
    queries, rows = random_rows(5, 8, 3000), random_rows(6, 37, 3000)
    alone = np.stack([tier.l2_one(query, rows) for query in queries])
    assert_same_bits(l2_many(tier, queries, rows).copy(), alone)


@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(1, 20),
    n=st.integers(1, 40),
    dims=st.integers(1, 300),
    offset=st.integers(0, 17),
    name=st.sampled_from(TIERS),
)
def test_alignment_does_not_change_a_bit(seed, m, n, dims, offset, name):
    tier = _testing.kernels_named(name)
    queries, rows = random_rows(seed, m, dims), random_rows(seed + 1, n, dims)
    moved_queries, moved_rows = at_offset(queries, offset), at_offset(rows, 17 - offset)
    assert_same_bits(
        l2_many(tier, moved_queries, moved_rows).copy(), l2_many(tier, queries, rows).copy()
    )
    assert_same_bits(tier.dot_one(moved_queries[0], moved_rows), tier.dot_one(queries[0], rows))
    assert tier.all_finite(moved_rows.reshape(-1))


def at_offset(array, floats):
    """A copy of `array` that begins this many floats after a block of memory does."""
    memory = np.empty(array.size + floats, dtype=np.float32)
    moved = memory[floats:].reshape(array.shape)
    moved[:] = array
    return moved


@pytest.mark.parametrize("dims", [*range(1, 40), 130, 384])
def test_nothing_beyond_the_rows_is_read(tier, dims):
    # The rows end where an inaccessible page begins: a read of one float more kills the process.
    query = before_a_forbidden_page(random_rows(7, dims))
    for n in (1, 2, 5):
        rows = before_a_forbidden_page(random_rows(8, n, dims))
        tier.l2_one(query, rows)
        tier.dot_norm_one(query, rows)
        l2_many(tier, before_a_forbidden_page(random_rows(9, 7, dims)), rows)
        assert tier.all_finite(rows.reshape(-1))
    sums = before_a_forbidden_page(np.zeros(dims))
    tier.accumulate(query[np.newaxis], [1.0], sums)
    tier.scale(sums, 2.0, before_a_forbidden_page(np.zeros(dims, np.float32)))


def before_a_forbidden_page(array):
    """A copy of `array` whose last byte is the last before a page that may not be touched."""
    room = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, room + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + room), mmap.PAGESIZE, 0) == 0
    copied = np.frombuffer(pages, array.dtype, array.size, room - array.nbytes)
    copied = copied.reshape(array.shape)
    copied[...] = array
    return copied


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("dims", [*range(1, 35), 63, 64, 65, 130, 384])
def test_accumulate_adds_in_float64(tier, dims, n):
    rows = random_rows(10, n, dims)
    weights = [-0.37, 0.0, 1e-3, 2.5, -1.0, 0.11, 3.0][:n]
    start = np.random.default_rng(11).standard_normal(dims + 2)
    total = start.copy()
    tier.accumulate(rows, weights, total[1:-1])
    # float32 would be off by 1e-8 of the product.
    expected = start[1:-1] + np.array(weights) @ rows.astype(np.float64)
    np.testing.assert_allclose(total[1:-1], expected, rtol=0, atol=1e-14)
    assert total[0] == start[0]
    assert total[-1] == start[-1]


@pytest.mark.parametrize("dims", [*range(1, 35), 63, 64, 65, 130, 384])
def test_scale_multiplies_in_float64_and_rounds_once(tier, dims):
    sums = np.random.default_rng(12).standard_normal(dims) * 10.0 ** (np.arange(dims) % 80 - 40)
    sums[::7] = [-0.0, 1e39, np.nan, -np.inf, 1e-46][dims % 5]
    out = np.full(dims + 2, 7, np.float32)
    tier.scale(sums, 1 / 3, out[1:-1])
    with np.errstate(over="ignore", under="ignore"):
        expected = (sums * (1 / 3)).astype(np.float32)
    assert out[1:-1].tobytes() == expected.tobytes()
    assert out[0] == out[-1] == 7


NUMBERS = [5, 0, 3, 3, 8, 1, 0, 5, 7]  # of rows: in no order, some of them twice


@pytest.mark.parametrize("dims", [1, 3, 15, 64, 100, 384, 1537])
def test_rows_that_lie_apart_have_the_same_distances_to_the_bit(tier, dims):
    query, rows = random_rows(13, dims), random_rows(14, 9, dims)
    dots, norms_squared = tier.dot_norm_one(query, rows)
    for n in range(len(NUMBERS) + 1):
        chosen = NUMBERS[:n]
        assert_same_bits(tier.l2_apart(query, rows, chosen), tier.l2_one(query, rows)[chosen])
        assert_same_bits(tier.dot_apart(query, rows, chosen), tier.dot_one(query, rows)[chosen])
        apart, norms_apart = tier.dot_norm_apart(query, rows, chosen)
        assert_same_bits(apart, dots[chosen])
        assert_same_bits(norms_apart, norms_squared[chosen])


@pytest.mark.parametrize("dims", [*range(1, 40), 130])
def test_nothing_beyond_rows_that_lie_apart_is_read(tier, dims):
    query = before_a_forbidden_page(random_rows(7, dims))
    for n in (1, 2, 5):
        rows = before_a_forbidden_page(random_rows(8, n, dims))
        numbers = list(range(n))[::-1]
        tier.l2_apart(query, rows, numbers)
        tier.dot_apart(query, rows, numbers)
        tier.dot_norm_apart(query, rows, numbers)


def codes_of(seed, row_bytes, extreme):
    """Nine rows of codes and a query of as many values as `row_bytes` says, or extreme ones."""
    rng = np.random.default_rng(seed)
    codes = (
        rng.choice(extreme[0], (9, row_bytes)) if extreme else rng.integers(0, 256, (9, row_bytes))
    )
    return before_a_forbidden_page(codes.astype(np.uint8))


def query_of(seed, values, extreme):
    rng = np.random.default_rng(seed)
    query = rng.choice(extreme, values) if extreme else rng.integers(-127, 128, values)
    return before_a_forbidden_page(query.astype(np.int8))


ROW_BYTES = [64, 128, 192, 320, 768, 1536, 3072]
EXTREMES = [None, ([0, 255], [-127, 127]), ([255], [127]), ([255], [-127]), ([0], [-127])]


@pytest.mark.parametrize("row_bytes", [*ROW_BYTES, 65_536])
@pytest.mark.parametrize("extreme", EXTREMES, ids=str)
def test_products_of_8_bit_codes_are_exact(tier, row_bytes, extreme):
    codes = codes_of(row_bytes, row_bytes, extreme)
    query = query_of(row_bytes + 1, row_bytes, extreme and extreme[1])
    expected = (codes.astype(np.int64) - 128) @ query.astype(np.int64)
    for n in range(len(NUMBERS) + 1):
        assert tier.dot_u8(query, codes, NUMBERS[:n]) == expected[NUMBERS[:n]].tolist()


@pytest.mark.parametrize("row_bytes", [*ROW_BYTES, 32_768])
@pytest.mark.parametrize("extreme", EXTREMES, ids=str)
def test_products_of_4_bit_codes_are_exact(tier, row_bytes, extreme):
    codes = codes_of(row_bytes, row_bytes, extreme)
    query = query_of(row_bytes + 1, 2 * row_bytes, extreme and extreme[1])
    blocks = codes.reshape(9, -1, 1, 64)
    values = np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(9, -1).astype(np.int64)
    expected = (2 * values - 15) @ query.astype(np.int64)
    for n in range(len(NUMBERS) + 1):
        assert tier.dot_u4(query, codes, NUMBERS[:n]) == expected[NUMBERS[:n]].tolist()


@pytest.mark.parametrize("row_bytes", [64, 192, 384])
@pytest.mark.parametrize("extreme", EXTREMES, ids=str)
def test_products_of_codes_whose_last_bytes_lie_apart_are_exact(tier, row_bytes, extreme):
    codes, ends = codes_of(row_bytes, row_bytes, extreme), codes_of(2, 16, extreme)
    query = query_of(row_bytes + 1, 2 * row_bytes, extreme and extreme[1])
    lower, upper = query_of(3, 16, extreme and extreme[1]), query_of(4, 16, extreme and extreme[1])
    whole = np.hstack([codes, ends]).astype(np.int64) - 128
    expected_u8 = whole @ np.hstack([query[:row_bytes], lower]).astype(np.int64)
    blocks = codes.reshape(9, -1, 1, 64)
    values = np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(9, -1)
    whole = 2 * np.hstack([values, ends & 15, ends >> 4]).astype(np.int64) - 15
    expected_u4 = whole @ np.hstack([query, lower, upper]).astype(np.int64)
    both = before_a_forbidden_page(np.hstack([lower, upper]))
    for n in range(len(NUMBERS) + 1):
        rows = NUMBERS[:n]
        found = tier.dot_u8(query[:row_bytes].copy(), codes, rows, ends, lower)
        assert found == expected_u8[rows].tolist()
        assert tier.dot_u4(query, codes, rows, ends, both) == expected_u4[rows].tolist()


@pytest.mark.parametrize("row_bytes", [*ROW_BYTES, 131_072])
@pytest.mark.parametrize("signs", ["random", "same", "opposite"])
def test_products_of_16_bit_codes_are_exact(tier, row_bytes, signs):
    # The largest magnitude of which no sum of every fourth pair is beyond an int32.
    values = row_bytes // 2
    limit = min(int(np.sqrt(2**33 / values)) - 1, 32767)
    rng = np.random.default_rng(row_bytes)
    rows = rng.integers(-limit, limit + 1, (9, values)).astype(np.int16)
    query = rng.integers(-limit, limit + 1, values).astype(np.int16)
    if signs != "random":
        rows[:], query[:] = limit, limit if signs == "same" else -limit
    codes, query = before_a_forbidden_page(rows.view(np.uint8)), before_a_forbidden_page(query)
    expected = rows.astype(np.int64) @ query.astype(np.int64)
    for n in range(len(NUMBERS) + 1):
        assert tier.dot_s16(query, codes, NUMBERS[:n]) == expected[NUMBERS[:n]].tolist()


@pytest.mark.parametrize("count", [*range(1, 70), 130])
@pytest.mark.parametrize("value", NOT_FINITE, ids=["nan", "-nan", "inf", "-inf"])
def test_all_finite_sees_one_bad_value_anywhere(tier, count, value):
    # The largest numbers and the denormal are finite, and so is what lies around the values.
    values = np.full(count + 2, np.nan, dtype=np.float32)
    values[1:-1] = np.resize(np.float32([3.4028235e38, -3.4028235e38, 1e-45, 0.0, -0.0]), count)
    inside = values[1:-1]
    assert tier.all_finite(inside)
    for at in range(count):
        kept = inside[at]
        inside[at] = value
        assert not tier.all_finite(inside), at
        inside[at] = kept


@pytest.fixture
def selection():
    yield
    _testing.select_kernels(None)


def test_the_plainest_tier_is_always_there():
    assert TIERS[0] == "scalar"
    assert set(TIERS) <= {"scalar", "sse41", "avx2", "avx512", "avx512_vnni", "neon"}


@pytest.mark.parametrize("name", TIERS)
def test_a_supported_tier_can_be_chosen(selection, name):
    _testing.select_kernels(name)
    assert _testing.kernels_in_use() == name


@pytest.mark.parametrize("name", [None, ""])
def test_the_fastest_tier_is_chosen_unless_one_is_named(selection, name):
    _testing.select_kernels("scalar")
    _testing.select_kernels(name)
    assert _testing.kernels_in_use() == TIERS[-1]


@pytest.mark.parametrize("name", ["avx", "AVX2", "avx2 ", " scalar", "best"])
def test_an_unknown_tier_is_refused(selection, name):
    _testing.select_kernels("scalar")
    with pytest.raises(ValueError, match=r"EHUB_SIMD is .* no instruction set of ehub.*scalar"):
        _testing.select_kernels(name)
    assert _testing.kernels_in_use() == "scalar"


@pytest.mark.parametrize(
    "name", sorted({"sse41", "avx2", "avx512", "avx512_vnni", "neon"} - set(TIERS)) or ["nothing"]
)
def test_a_tier_this_machine_lacks_is_refused(selection, name):
    assert name != "nothing", "no machine has both NEON and AVX"
    with pytest.raises(ValueError, match=r"EHUB_SIMD is .* this machine cannot run.*scalar"):
        _testing.select_kernels(name)
