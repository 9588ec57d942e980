"""Comparisons of two views: known cases, what is not defined, and what the order of rows does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from views import normal, rotated, space

import ehub

METRICS = ("l2", "ip", "cosine")


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


def near(estimate: ehub.Estimate, value: float, within: float = 1e-6) -> bool:
    """Whether a figure and its interval are this value."""
    parts = (estimate.value, estimate.low, estimate.high)
    return all(part is not None and abs(part - value) <= within for part in parts)


# --- known cases ---


@pytest.mark.parametrize("metric", METRICS)
def test_a_rotated_space_is_the_same_in_all_but_its_coordinates(hub, metric):
    rows = normal(1, 300, 12)
    found = ehub.compare(space(hub, rows, metric=metric), space(hub, rotated(rows), metric=metric))
    assert near(found.coverage.a, 1)
    assert near(found.coverage.b, 1)
    assert near(found.overlap, 1)
    assert near(found.rbo, 1)
    assert near(found.cka, 1)
    assert near(found.residual, 0, 1e-6)
    assert near(found.aligned_recall, 1)
    assert found.unaligned_recall.value < 0.3
    assert found.cosine_shift["p50"].value > 0.3
    assert found.norm_p_value == 1
    assert found.norm_ks.value < 0.05
    for pair in (found.hubness, found.antihubs, found.anisotropy, found.norms):
        assert pair.a.value == pytest.approx(pair.b.value, abs=1e-5)


def test_a_space_is_like_itself(hub):
    items = space(hub, normal(1, 300, 12), metric="cosine")
    found = ehub.compare(items, items)
    for figure in (found.overlap, found.rbo, found.cka, found.aligned_recall):
        assert near(figure, 1)
    assert near(found.unaligned_recall, 1)
    for figure in (*found.cosine_shift.values(), *found.l2_shift.values(), found.residual):
        assert near(figure, 0)
    assert found.centroid_shift.value == 0
    assert found.norm_ks.value == 0


def test_independent_spaces_agree_by_chance_only(hub):
    n, k = 500, 10
    a, b = space(hub, normal(1, n, 16)), space(hub, normal(2, n, 16))
    found = ehub.compare(a, b, k=k)
    chance = k / (n - 1)
    assert found.overlap.low <= chance <= found.overlap.high
    assert found.cka.low <= 0 <= found.cka.high
    # Rows in the middle are found more often than by chance: what says little is mapped there.
    assert found.aligned_recall.value < 0.15
    assert found.residual.value > 0.9
    assert found.centroid_shift.low == 0


def test_the_intervals_cover_the_truth_as_often_as_they_say(hub):
    """Over many pairs of independent clouds CKA is 0, and the anisotropy too."""
    covered = {"cka": 0, "anisotropy": 0, "centroid": 0}
    for seed in range(60):
        a = space(hub, normal(2 * seed, 60, 8))
        b = space(hub, normal(2 * seed + 1, 60, 8))
        found = ehub.compare(a, b, k=5)
        covered["cka"] += found.cka.low <= 0 <= found.cka.high
        covered["anisotropy"] += found.anisotropy.a.low <= 0 <= found.anisotropy.a.high
        covered["centroid"] += found.centroid_shift.low == 0
        hub.delete_space(a.name)
        hub.delete_space(b.name)
    assert all(count >= 51 for count in covered.values()), covered


def test_replaced_rows_count_as_worked_out_by_hand(hub):
    """Rows far out on a line, neighbours of those beside them; every tenth goes elsewhere."""
    n = 200
    rows = np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.float32)
    rows[:, 0] += 0.001 * np.arange(n) ** 2  # no ties
    moved = rows.copy()
    moved[::10] = [[0, 1_000 * (i + 10) ** 2] for i in range(n // 10)]
    a, b = space(hub, rows), space(hub, moved)
    found = ehub.compare(a, b, k=2)
    distances = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (rows, moved)]
    for table in distances:
        np.fill_diagonal(table, np.inf)
    lists = [np.argsort(table, axis=1)[:, :2] for table in distances]
    by_hand = np.mean([len({*x} & {*y}) / 2 for x, y in zip(*lists, strict=True)])
    assert found.overlap.value == pytest.approx(by_hand)
    assert found.overlap.low < by_hand < found.overlap.high
    assert found.coverage.a.value == 1
    assert found.l2_shift["p75"].value == 0
    assert found.l2_shift["p95"].value > 1000
    assert {one.key for one in found.movers} <= {*range(0, n, 10)} | {0}


def test_coverage_is_counted_over_all_keys(hub):
    rows = normal(1, 1000, 4)
    a = space(hub, rows)
    b = space(hub, rows[100:], np.arange(100, 1000))
    b.multiset(np.arange(5000, 5300), normal(2, 300, 4))
    found = ehub.compare(a, b, k=3, sample=50)
    assert found.coverage.a == ehub.Estimate(0.9, 0.9, 0.9, 1000, "exact")
    assert found.coverage.b == ehub.Estimate(0.75, 0.75, 0.75, 1200, "exact")
    assert (found.common, found.removed, found.added, found.sampled) == (900, 100, 300, 50)


def test_neighbours_are_among_the_keys_of_both(hub):
    """Rows that only one view has, close to all others, change no overlap."""
    rows = normal(1, 200, 6)
    a, b = space(hub, rows), space(hub, rows)
    a.multiset(np.arange(1000, 1200), rows + np.float32(1e-3))
    b.multiset(np.arange(2000, 2200), rows - np.float32(1e-3))
    assert near(ehub.compare(a, b).overlap, 1)
    assert near(ehub.compare(a, b, exact=True).overlap, 1)


@pytest.mark.parametrize(("a_dims", "b_dims"), [(16, 6), (6, 16), (1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("metric", METRICS)
def test_dims_may_differ(hub, a_dims, b_dims, metric):
    core = normal(1, 240, min(a_dims, b_dims))
    wide = [np.zeros((240, dims), np.float32) for dims in (a_dims, b_dims)]
    for rows in wide:
        rows[:, : core.shape[1]] = core
    a = space(hub, rotated(wide[0], 3), metric=metric)
    b = space(hub, rotated(wide[1], 4), metric=metric)
    found = ehub.compare(a, b, k=5)
    assert near(found.residual, 0, 2e-5)
    if min(a_dims, b_dims) > 1:  # in one dim rounding decides between rows at equal distances
        assert found.overlap.value > 0.999
        assert found.aligned_recall.value > 0.999
        assert near(found.cka, 1, 1e-5)
    if a_dims != b_dims:
        shifts = (*found.cosine_shift.values(), found.centroid_shift, found.unaligned_recall)
        assert all(one.value is None and "dims differ" in one.note for one in shifts)
        assert found.movers == ()


def test_metrics_may_differ(hub):
    rows = normal(1, 300, 8)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for a_metric in METRICS:
        for b_metric in METRICS:
            a, b = space(hub, rows, metric=a_metric), space(hub, rotated(rows), metric=b_metric)
            found = ehub.compare(a, b)
            assert found.overlap.value > 0.99  # of unit vectors all order alike
            assert near(found.residual, 0, 1e-5)
            assert found.aligned_recall.value > 0.99


def test_a_large_space_is_searched_through_its_index(hub):
    rows = normal(1, 6000, 24)
    a, b = space(hub, rows, metric="cosine"), space(hub, rotated(rows), metric="cosine")
    for items in (a, b):
        items.optimize()
    b.multidelete(np.arange(0, 600))
    found = ehub.compare(a, b, sample=300)
    assert a.index_stats().rows_indexed == 6000
    assert found.sampled == 300
    assert found.overlap.value > 0.98
    assert found.aligned_recall.value > 0.98
    assert ehub.compare(a, b, sample=300, exact=True).overlap.value > 0.999


# --- determinism ---


def strings(numbers: np.ndarray) -> list[str]:
    return [f"key-{number}" for number in numbers]


@pytest.mark.parametrize("as_keys", [np.asarray, strings])
def test_the_order_of_writes_does_not_matter(hub, as_keys):
    """Not even where many rows are the same, and many distances with them."""
    rows = normal(1, 400, 5)
    rows[100:200] = rows[:100]
    other = normal(2, 400, 5)
    other[300:] = other[:100]
    order = np.random.default_rng(3).permutation(400)
    straight = [space(hub, x, as_keys(np.arange(400))) for x in (rows, other)]
    mixed = [space(hub, x[order], as_keys(np.arange(400)[order])) for x in (rows, other)]
    options = {"k": 5, "sample": 150, "seed": 4, "names": ("a", "b")}
    one, two = ehub.compare(*straight, **options), ehub.compare(*mixed, **options)
    assert one.to_dict() == two.to_dict()
    assert one == two
    np.testing.assert_array_equal(one.details.overlaps, two.details.overlaps)


def test_equal_seeds_give_equal_figures_and_others_other_samples(hub):
    a, b = space(hub, normal(1, 500, 6)), space(hub, normal(2, 500, 6))
    first, again, other = (ehub.compare(a, b, sample=100, seed=seed) for seed in (7, 7, 8))
    assert first.to_dict() == again.to_dict()
    assert first.cka != other.cka
    assert first.overlap != other.overlap


# --- what is not defined ---


def undefined(found: ehub.Comparison) -> dict[str, str]:
    """The figures without a value, and why."""
    return {name: one.note for name, one in found.statistics().items() if one.value is None}


def require_no_nan(found: ehub.Comparison) -> None:
    json.dumps(found.to_dict(), allow_nan=False)
    for name, one in found.statistics().items():
        assert one.value is not None or one.note, name
        if one.low is not None:
            assert one.low <= one.value <= one.high, name


def test_spaces_without_a_common_key_have_a_coverage_of_0(hub):
    a, b = space(hub, normal(1, 50, 4)), space(hub, normal(2, 60, 4), np.arange(100, 160))
    found = ehub.compare(a, b)
    require_no_nan(found)
    assert found.coverage.a.value == found.coverage.b.value == 0
    assert {"overlap", "rbo", "cka", "residual", "aligned_recall", "cosine_shift.p50"} <= set(
        undefined(found)
    )
    assert "0 keys in both" in found.overlap.note
    assert found.anisotropy.a.value is not None
    assert found.norm_ks.value is not None


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 10, 11])
@pytest.mark.parametrize("metric", METRICS)
def test_few_keys_give_what_can_be_told(hub, n, metric):
    a, b = space(hub, normal(1, n, 4), metric=metric), space(hub, normal(2, n, 4), metric=metric)
    found = ehub.compare(a, b, k=10)
    require_no_nan(found)
    assert (found.overlap.value is None) == (n < 11)
    if n < 11 and n:
        assert f"{n} keys in both; k = 10 needs 11" in found.overlap.note


@pytest.mark.parametrize("metric", METRICS)
def test_constant_rows_say_why_there_is_no_figure(hub, metric):
    same, other = np.ones((40, 4), np.float32), normal(1, 40, 4)
    for x, y in ((same, other), (other, same), (same, same)):
        found = ehub.compare(space(hub, x, metric=metric), space(hub, y, metric=metric))
        require_no_nan(found)
        assert "hardly vary" in found.cka.note
    assert found.duplicates.a.value == 1
    assert found.anisotropy.a.value == pytest.approx(1)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_zero_vectors_are_left_out_where_they_have_no_direction(hub, metric):
    rows = normal(1, 40, 4)
    rows[:3] = 0
    a, b = space(hub, rows, metric=metric), space(hub, normal(2, 40, 4), metric=metric)
    found = ehub.compare(a, b)
    require_no_nan(found)
    assert found.anisotropy.a.n == 37
    assert "3 zero vectors" in found.anisotropy.a.note
    assert found.cosine_shift["p50"].n == 37
    assert "3 keys" in found.cosine_shift["p50"].note
    assert found.l2_shift["p50"].n == 40
    nothing = space(hub, np.zeros((40, 4), np.float32), metric=metric)
    for x, y in ((a, nothing), (nothing, a), (nothing, nothing)):
        found = ehub.compare(x, y)
        require_no_nan(found)
        assert found.cosine_shift["p50"].value is None


def test_zero_vectors_searched_under_cosine_find_nothing(hub):
    rows = normal(1, 40, 4)
    zeros = rows.copy()
    zeros[:] = 0
    found = ehub.compare(space(hub, zeros, metric="l2"), space(hub, rows, metric="cosine"))
    require_no_nan(found)
    assert found.unaligned_recall.value == 0
    assert found.aligned_recall.value == 0


def test_huge_and_tiny_rows_do_not_overflow(hub):
    for scale in (1e-30, 1e15):
        rows = (normal(1, 60, 4).astype(np.float64) * scale).astype(np.float32)
        found = ehub.compare(space(hub, rows), space(hub, rotated(rows)))
        require_no_nan(found)
        assert found.cka.value == pytest.approx(1, abs=1e-4)
        assert found.residual.value == pytest.approx(0, abs=1e-4)


# --- what is refused ---


def test_key_types_must_be_the_same(hub):
    a, b = space(hub, normal(1, 9, 4)), space(hub, normal(1, 9, 4), strings(np.arange(9)))
    for compare in (ehub.compare, ehub.align, ehub.drift):
        with pytest.raises(ehub.InvalidArgumentError, match=r"int keys.*str keys"):
            compare(a, b)
        with pytest.raises(ehub.InvalidArgumentError, match="'old' has int keys and 'new' has str"):
            compare(a, b, names=("old", "new"))


def test_only_views_are_compared(hub):
    items = space(hub, normal(1, 9, 4))
    for wrong in (None, "items", np.eye(3), hub):
        with pytest.raises(TypeError, match="cannot be compared"):
            ehub.compare(items, wrong)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("k", 0, ehub.InvalidArgumentError),
        ("k", 1001, ehub.InvalidArgumentError),
        ("k", 2.5, TypeError),
        ("sample", 1, ehub.InvalidArgumentError),
        ("sample", 10**6, ehub.InvalidArgumentError),
        ("seed", -1, ehub.InvalidArgumentError),
        ("seed", None, TypeError),
        ("exact", 1, TypeError),
        ("names", ("a",), TypeError),
        ("names", "ab", TypeError),
    ],
)
def test_options_are_checked(hub, option, value, error):
    items = space(hub, normal(1, 9, 4))
    for compare in (ehub.compare, ehub.align, ehub.drift):
        with pytest.raises(error, match=option):
            compare(items, items, **{option: value})


# --- what comes out ---


def test_a_comparison_goes_through_json(hub):
    a, b = space(hub, normal(1, 100, 4)), space(hub, normal(2, 100, 7))
    document = ehub.compare(a, b).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["statistics"]["overlap"]["n"] == 100
    assert document["a"] == {"name": a.name, "rows": 100, "dims": 4, "metric": "l2"}
    assert document["statistics"]["l2_shift.p50"]["value"] is None


def test_every_figure_is_in_the_table_and_in_the_dict(hub):
    found = ehub.compare(space(hub, normal(1, 100, 4)), space(hub, normal(2, 100, 4)))
    names = set(found.statistics())
    assert names == set(found.to_dict()["statistics"])
    assert len(found.table()) == len(names)
    text = str(found)
    for words in ("overlap@10", "CKA", "Procrustes", "hubness", "anisotropy", "coverage", "p95"):
        assert words in text
    assert {len(row) for row in found.table()} == {6}
    assert len(text.splitlines()) == len(names) + 6


def test_names_may_be_given(hub):
    items = space(hub, normal(1, 30, 4))
    found = ehub.compare(items, items, names=("initial", "minilm-v2"))
    assert found.names == ("initial", "minilm-v2")
    assert "minilm-v2: 30 rows" in str(found)
    assert ehub.compare(items, items).names == ("a", "b")


def test_drift_counts_the_keys_that_came_and_went(hub):
    rows = normal(1, 100, 4)
    baseline, now = space(hub, rows), space(hub, rows)
    now.multidelete(np.arange(7))
    now.multiset(np.arange(1000, 1003), normal(2, 3, 4))
    found = ehub.drift(baseline, now)
    assert (found.kind, found.removed, found.added) == ("drift", 7, 3)
    assert found.overlap == ehub.compare(baseline, now).overlap
    assert ehub.drift(now, now).names == ("baseline", "now")
    assert str(found).startswith("drift: ")
    assert found.to_dict()["added"] == 3


def test_a_key_that_goes_while_it_is_compared_is_left_out(hub, monkeypatch):
    rows = normal(1, 100, 4)
    a, b = space(hub, rows), space(hub, rows)
    keys = type(b).keys

    def keys_then_delete(self):
        found = keys(self)
        if self is b and 5 in b:
            b.delete(5)
        return found

    monkeypatch.setattr(type(b), "keys", keys_then_delete)
    found = ehub.compare(a, b)
    assert found.sampled == 99
    require_no_nan(found)
