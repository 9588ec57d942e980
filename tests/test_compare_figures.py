"""Each figure of a comparison against its formula, written out for small data."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from views import normal, rotated, space

import ehub
from ehub.comparison import geometry, health, intervals, neighborhoods, sampling

METRICS = ("l2", "ip", "cosine")


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


def distances(rows: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """float64[queries, rows], by loops."""
    table = np.empty((len(queries), len(rows)))
    for i, q in enumerate(queries.astype(np.float64)):
        for j, r in enumerate(rows.astype(np.float64)):
            if metric == "l2":
                table[i, j] = ((q - r) ** 2).sum()
            elif metric == "ip":
                table[i, j] = 1 - q @ r
            else:
                table[i, j] = 1 - q @ r / math.sqrt((q @ q) * (r @ r))
    return table


def neighbors(rows: np.ndarray, metric: str, k: int) -> list[list[int]]:
    table = distances(rows, rows, metric)
    np.fill_diagonal(table, np.inf)
    return [list(np.argsort(line)[:k]) for line in table]


def rbo(one: list[int], two: list[int], p: float) -> float:
    """Equation 23 of the paper, term by term."""
    k = len(one)
    common = [len(set(one[:d]) & set(two[:d])) for d in range(1, k + 1)]
    terms = sum(common[d - 1] / d * p**d for d in range(1, k + 1))
    return common[-1] / k * p**k + (1 - p) / p * terms


# --- neighbours ---


@pytest.mark.parametrize("metric", METRICS)
def test_overlap_and_rbo_are_those_of_the_true_neighbours(hub, metric):
    k, x = 4, normal(1, 60, 5)
    y = x + 0.5 * normal(2, 60, 5)
    found = ehub.compare(space(hub, x, metric=metric), space(hub, y, metric=metric), k=k)
    lists = list(zip(neighbors(x, metric, k), neighbors(y, metric, k), strict=True))
    overlaps = [len({*one} & {*two}) / k for one, two in lists]
    np.testing.assert_allclose(found.details.overlaps, overlaps)
    assert found.overlap.value == pytest.approx(np.mean(overlaps))
    assert found.rbo.value == pytest.approx(np.mean([rbo(*pair, 0.9) for pair in lists]))
    error = np.std(overlaps) / math.sqrt(60)
    assert found.overlap.low == pytest.approx(found.overlap.value - 1.96 * error, abs=error / 2)
    assert found.overlap.high == pytest.approx(found.overlap.value + 1.96 * error, abs=error / 2)


def test_rbo_is_1_for_equal_lists_and_0_for_lists_with_nothing_in_common():
    def lists(keys: list[int]) -> neighborhoods.Lists:
        size = len(keys)
        return neighborhoods.Lists(
            1, size, np.zeros(size, int), np.arange(size), np.array(keys), np.zeros(size)
        )

    base = lists([1, 2, 3, 4])
    for other in permutations([1, 2, 3, 4]):
        common = neighborhoods.agreement(base, lists(list(other)))
        assert neighborhoods.overlap(common)[0] == 1
        value = neighborhoods.rank_biased_overlap(common, 0.8)[0]
        assert value == pytest.approx(rbo([1, 2, 3, 4], list(other), 0.8))
        assert (value == pytest.approx(1)) == (other == (1, 2, 3, 4))
    assert neighborhoods.rank_biased_overlap(
        neighborhoods.agreement(base, lists([5, 6, 7, 8]))
    ) == pytest.approx([0])


@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates_are_found_among_all_rows(hub, metric):
    """Not among the sample alone: one row of each pair is hardly ever in it with the other."""
    rows = normal(1, 2000, 8)
    rows[1000:1250] = rows[:250] * np.float32(1.0001)
    items = space(hub, rows, metric=metric)
    found = ehub.compare(items, items, sample=400).duplicates.a
    assert found.n == 400
    assert found.interval == "Wilson"
    expected = 500 / 2000
    if metric == "ip":
        assert "lower bound" in found.note
        assert 0 < found.value <= found.high
        assert found.low < expected
    else:
        assert found.low < expected < found.high


# --- the cloud as a whole ---


def hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator of Song et al., from kernels of which the diagonals are 0."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    last = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + last - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize("dims", [(3, 4), (30, 50), (1, 1)])
def test_cka_is_songs_estimator_and_its_interval_leaves_out_each_key(dims):
    x = np.random.default_rng(1).standard_normal((20, dims[0])) + 3
    y = np.random.default_rng(2).standard_normal((20, dims[1])) + x[:, :1]
    found = geometry.cka(x, y)
    assert found.value == pytest.approx(unbiased_cka(x, y), abs=1e-10)
    without = [unbiased_cka(np.delete(x, i, 0), np.delete(y, i, 0)) for i in range(20)]
    error = math.sqrt(19 / 20 * ((without - np.mean(without)) ** 2).sum())
    assert found.low == pytest.approx(max(-1, found.value - 1.959964 * error), abs=1e-6)
    assert found.high == pytest.approx(min(1, found.value + 1.959964 * error), abs=1e-6)


def test_cka_of_unrelated_rows_is_0_even_with_more_dims_than_keys():
    """The plain estimator says about 0.8 here."""
    x, y = normal(1, 50, 200).astype(np.float64), normal(2, 50, 200).astype(np.float64)
    x, y = x - x.mean(0), y - y.mean(0)
    norms = [np.linalg.norm(one.T @ two) for one, two in ((x, y), (x, x), (y, y))]
    assert norms[0] ** 2 / (norms[1] * norms[2]) > 0.7
    found = geometry.cka(x, y)
    assert abs(found.value) < 0.1
    assert found.low < 0 < found.high


def test_the_intervals_of_cka_and_the_centroid_cover_the_truth():
    """Of x and x + noise + a step in one direction, where the truth is known."""
    random = np.random.default_rng(1)
    n, dims, noise, step = 150, 8, 0.7, 0.5
    covered = {"cka": 0, "centroid": 0}
    for _ in range(200):
        x = random.standard_normal((n, dims))
        y = x + noise * random.standard_normal((n, dims))
        y[:, 0] += step
        found = geometry.cka(x, y)
        covered["cka"] += found.low <= 1 / (1 + noise**2) <= found.high
        keys = np.arange(n)
        a, b = (sampling.Sample(keys, rows.astype(np.float32)) for rows in (x, y))
        found = geometry.centroid_shift(a, b, "l2", "l2")
        covered["centroid"] += found.low <= step / math.sqrt(dims) <= found.high
    assert all(180 <= count <= 199 for count in covered.values()), covered


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_cka_knows_neither_scale_nor_place_nor_rotation(scale):
    x = normal(1, 80, 6).astype(np.float64)
    found = geometry.cka(x, scale * rotated(x).astype(np.float64) + 7)
    assert found.value == pytest.approx(1, abs=1e-5)
    assert found.high <= 1


def test_anisotropy_is_the_mean_cosine_of_all_pairs(hub):
    rows = normal(1, 30, 4) + np.float32(0.7)
    items = space(hub, rows)
    cosines = 1 - distances(rows, rows, "cosine")
    found = ehub.compare(items, items).anisotropy.a
    assert found.value == pytest.approx(cosines[~np.eye(30, dtype=bool)].mean(), abs=1e-6)
    without = []
    for i in range(30):
        left = np.delete(np.delete(cosines, i, 0), i, 1)
        without.append(left[~np.eye(29, dtype=bool)].mean())
    error = math.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum())
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-5)


def test_the_centroid_shift_is_that_of_the_rows(hub):
    rows = normal(1, 2000, 4)
    shifted = rows + np.array([2, 0, 0, 0], np.float32)
    found = ehub.compare(space(hub, rows), space(hub, shifted)).centroid_shift
    spread = math.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean())
    assert found.value == pytest.approx(2 / spread, rel=1e-5)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("shared", [0, 8, 15])
def test_the_squared_distance_of_means_is_over_pairs_of_different_keys(shared):
    random = np.random.default_rng(shared)
    in_a, in_b = np.zeros(30 - shared, bool), np.zeros(30 - shared, bool)
    in_a[:15], in_b[15 - shared :] = True, True
    x, y = (random.standard_normal((30 - shared, 3)) * there[:, None] for there in (in_a, in_b))

    def by_loops(kept: list[int]) -> float:
        parts = {"xx": [], "yy": [], "xy": []}
        for i, j in permutations(kept, 2):
            for name, one, two, here, there in (
                ("xx", x, x, in_a, in_a),
                ("yy", y, y, in_b, in_b),
                ("xy", x, y, in_a, in_b),
            ):
                if here[i] and there[j]:
                    parts[name].append(one[i] @ two[j])
        return np.mean(parts["xx"]) + np.mean(parts["yy"]) - 2 * np.mean(parts["xy"])

    every = list(range(30 - shared))
    value, left_out = geometry.squared_distance_of_means(
        geometry.Placed(x, in_a), geometry.Placed(y, in_b)
    )
    assert value == pytest.approx(by_loops(every))
    for i in every:
        assert left_out[i] == pytest.approx(by_loops([j for j in every if j != i]))


def test_a_plane_shows_the_two_directions_of_most_variance():
    y = np.random.default_rng(1).standard_normal((200, 6)) * [1, 9, 1, 4, 1, 1]
    for rows in (y, y[:5]):  # fewer rows than dims, too
        first, second, shares = geometry.plane(rows, rows)
        np.testing.assert_allclose(first, second)
        values = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
        np.testing.assert_allclose(second.var(axis=0, ddof=1), values[:2])
        np.testing.assert_allclose(shares, values[:2] / values.sum())
    line = geometry.plane(y[:, :1], y[:, :1])
    assert (line[1][:, 1] == 0).all()
    np.testing.assert_allclose(line[2], [1, 0])


# --- shifts and norms ---


def test_shifts_are_those_of_each_key(hub):
    x, y = normal(1, 101, 3), normal(2, 101, 3)
    found = ehub.compare(space(hub, x), space(hub, y))
    cosine = np.diag(distances(y, x, "cosine"))
    l2 = np.sqrt(np.diag(distances(y, x, "l2")))
    for share in (5, 25, 50, 75, 95):
        one, two = found.cosine_shift[f"p{share}"], found.l2_shift[f"p{share}"]
        assert one.value == pytest.approx(np.percentile(cosine, share), abs=1e-6)
        assert two.value == pytest.approx(np.percentile(l2, share), abs=1e-5)
        assert one.low <= one.value <= one.high
    top = np.argsort(-cosine)[:10]
    assert [one.key for one in found.movers] == list(top)
    assert found.movers[0].shift == pytest.approx(cosine[top[0]], abs=1e-6)


def test_the_interval_of_a_quantile_covers_it_as_often_as_it_says():
    random = np.random.default_rng(1)
    for share in (0.05, 0.5, 0.95):
        truth = -math.log(1 - share)
        covered = 0
        for _ in range(400):
            found = intervals.quantile(random.exponential(size=200), share)
            covered += found.low <= truth <= found.high
        assert 0.92 < covered / 400 <= 1


@pytest.mark.parametrize("shift", [0, 0.2, 1])
def test_the_ks_statistic_is_the_largest_distance_of_the_distributions(shift):
    a, b = normal(1, 80, 1)[:, 0].astype(float), normal(2, 130, 1)[:, 0].astype(float) + shift
    found, p_value = intervals.kolmogorov_smirnov(a, b)
    by_hand = max(abs(np.mean(a <= x) - np.mean(b <= x)) for x in np.concatenate([a, b]))
    assert found.value == pytest.approx(by_hand)
    assert 0 <= found.low <= by_hand <= found.high <= 1
    assert (p_value < 0.01) == (shift == 1)


def test_the_p_value_is_kolmogorovs():
    """Tables of the limit: P(K > 1.3581) = 0.05, P(K > 1.6276) = 0.01, P(K > 0.8276) = 0.5."""
    n = 10**8
    for scaled, expected in ((1.3581, 0.05), (1.6276, 0.01), (0.8276, 0.5), (0.05, 1), (9, 0)):
        statistic = scaled / math.sqrt(n / 2)
        assert intervals.kolmogorov_p(statistic, n, n) == pytest.approx(expected, abs=1e-4)


def test_p_values_of_equal_distributions_are_evenly_spread():
    random = np.random.default_rng(1)
    values = [
        intervals.kolmogorov_smirnov(random.exponential(size=90), random.exponential(size=60))[1]
        for _ in range(500)
    ]
    assert abs(np.mean(np.array(values) < 0.05) - 0.05) < 0.025
    assert abs(np.mean(np.array(values) < 0.5) - 0.5) < 0.1


def test_mean_norms_are_those_of_the_stored_rows(hub):
    rows = 3 * normal(1, 100, 4)
    found = ehub.compare(space(hub, rows), space(hub, rotated(rows), metric="cosine"))
    lengths = np.linalg.norm(rows, axis=1)
    assert found.norms.a.value == pytest.approx(lengths.mean())
    assert found.norms.b.value == pytest.approx(lengths.mean(), rel=1e-5)
    assert found.norms.a.high == pytest.approx(
        lengths.mean() + 1.96 * lengths.std(ddof=1) / 10, rel=1e-4
    )


# --- hubs ---


@pytest.mark.parametrize("metric", METRICS)
def test_hubs_are_counted_as_by_hand(hub, metric):
    rows, k = normal(1, 700, 6), 5
    items = space(hub, rows, metric=metric)
    found = ehub.compare(items, items, k=k)
    counts = np.bincount(np.concatenate(neighbors(rows, metric, k)), minlength=700)
    np.testing.assert_array_equal(found.details.occurrences[0], counts)
    away = counts - counts.mean()
    assert found.hubness.a.value == pytest.approx((away**3).mean() / (away**2).mean() ** 1.5)
    assert found.antihubs.a.value == pytest.approx((counts == 0).mean())
    assert found.hubness.a.low < found.hubness.a.value < found.hubness.a.high


def test_rows_on_a_ring_have_no_hubs():
    angles = 2 * np.pi * np.arange(64) / 64
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    counts = health.chosen_nearest(np.round(distances(rows, rows, "l2") + 9 * np.eye(64), 9), 2)
    assert (counts.sum(axis=0) == 2).all()
    assert health.skewness(np.full((1, 64), 2.0)) == [0]


def test_a_share_has_an_interval_even_at_its_ends():
    assert intervals.wilson(0, 20).low == 0
    assert intervals.wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert intervals.wilson(20, 20).high == 1
    assert intervals.wilson(10, 20).low == pytest.approx(0.2993, abs=1e-4)


def test_rows_that_did_not_move_have_no_shift_at_all():
    x = normal(1, 500, 7).astype(np.float64)
    x[0] = 0
    cosine, l2 = geometry.shift(x, x.copy())
    assert (len(cosine), len(l2)) == (499, 500)
    assert not cosine.any()
    assert not l2.any()
