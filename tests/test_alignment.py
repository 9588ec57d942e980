"""Alignments: queries of one model that search the index of another, and the files they lie in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from views import normal, rotated, rotation, space

import ehub

METRICS = ("l2", "ip", "cosine")


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as opened:
        yield opened


def recall(answers: list[ehub.Neighbors], truth: list[ehub.Neighbors]) -> float:
    pairs = zip(answers, truth, strict=True)
    return float(np.mean([len({*a.keys} & {*t.keys}) / len(t) for a, t in pairs]))


# --- the map ---


@pytest.mark.parametrize("metric", METRICS)
def test_queries_of_the_new_model_find_what_those_of_the_old_one_did(hub, metric):
    rows, queries = normal(1, 500, 12), normal(2, 40, 12)
    old, new = space(hub, rows, metric=metric), space(hub, rotated(rows), metric=metric)
    found = ehub.align(new, old)
    assert found.recall.value == pytest.approx(1)
    assert (found.rank, found.fitted, found.recall.n) == (12, 250, 250)
    truth = old.multi_nearest_neighbors(10, vectors=queries)
    mapped = old.multi_nearest_neighbors(10, vectors=rotated(queries), via=found)
    assert recall(mapped, truth) > 0.99
    one = old.nearest_neighbors(10, vector=rotated(queries)[0], via=found)
    np.testing.assert_array_equal(one.keys, mapped[0].keys)
    np.testing.assert_allclose(one.distances, truth[0].distances, atol=1e-3)
    assert recall(old.multi_nearest_neighbors(10, vectors=rotated(queries)), truth) < 0.5


def test_all_options_of_a_search_work_with_a_map(hub):
    rows = normal(1, 300, 6)
    old, new = space(hub, rows), space(hub, rotated(rows))
    found = ehub.align(new, old)
    query = rotated(rows)[7]
    nearest = old.nearest_neighbors(3, vector=query, via=found, filter=range(100, 300), ef=50)
    assert nearest == old.nearest_neighbors(
        3, vector=found.map_one(query), filter=range(100, 300), exact=True
    )
    assert old.nearest_neighbors(3, vector=query, via=found, max_distance=1e-4).keys.tolist() == [7]
    assert old.nearest_neighbors(1, vector=list(query), via=found, exact=True).keys.tolist() == [7]


@pytest.mark.parametrize("metric", METRICS)
def test_the_map_is_the_rotation_that_was_hidden(hub, metric):
    rows = normal(1, 200, 5)
    new = space(hub, rows, metric=metric)
    old = space(hub, rotated(rows), metric=metric)
    found = ehub.align(new, old)
    np.testing.assert_allclose(found.matrix, rotation(9, 5), atol=1e-5)
    np.testing.assert_allclose(found.offset, 0, atol=1e-5)
    np.testing.assert_allclose(found.map(rows[:3]), rotated(unit(rows[:3], metric)), atol=1e-5)


def unit(rows: np.ndarray, metric: str) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows


def test_under_l2_translation_and_scale_are_found_too(hub):
    rows = normal(1, 200, 5)
    moved = (3 * rotated(rows) + np.arange(5)).astype(np.float32)
    found = ehub.align(space(hub, rows), space(hub, moved))
    np.testing.assert_allclose(found.matrix, 3 * rotation(9, 5), atol=1e-4)
    np.testing.assert_allclose(found.offset, np.arange(5), atol=1e-4)
    assert found.recall.value == 1


def test_under_ip_the_map_stays_linear(hub):
    rows = normal(1, 200, 5) + np.float32(1)
    found = ehub.align(space(hub, rows, metric="ip"), space(hub, 2 * rotated(rows), metric="ip"))
    assert (found.offset == 0).all()
    np.testing.assert_allclose(found.matrix, 2 * rotation(9, 5), atol=1e-4)


@pytest.mark.parametrize(("a_dims", "b_dims"), [(20, 6), (6, 20)])
@pytest.mark.parametrize("metric", METRICS)
def test_dims_may_differ(hub, a_dims, b_dims, metric):
    core = normal(1, 300, 6)
    wide = np.zeros((300, 20), np.float32)
    wide[:, :6] = core
    a, b = (space(hub, rotated(wide if d == 20 else core), metric=metric) for d in (a_dims, b_dims))
    found = ehub.align(a, b)
    assert found.matrix.shape == (a_dims, b_dims)
    assert found.rank == 6
    assert found.recall.value > 0.99
    query = a.get(17)
    assert (
        b.nearest_neighbors(1, vector=query, via=found).keys[0]
        == (b.nearest_neighbors(1, vector=b.get(17)).keys[0])
    )


def test_of_all_rotations_the_map_is_the_closest():
    """Against many others, near and far, for rows that no rotation fits."""
    from ehub.comparison.fitting import rotate

    x = np.random.default_rng(1).standard_normal((60, 4))
    y = np.random.default_rng(2).standard_normal((60, 4)) + x
    best, trace = rotate(x, y)
    np.testing.assert_allclose(best.T @ best, np.eye(4), atol=1e-12)
    assert trace == pytest.approx(np.trace(best.T @ x.T @ y))
    least = np.linalg.norm(x @ best - y)
    for seed in range(200):
        noise = np.random.default_rng(seed).standard_normal((4, 4)) * (0.01 if seed % 2 else 1)
        other = np.linalg.qr(np.eye(4) + noise)[0] if seed % 2 else rotation(seed, 4)
        assert np.linalg.norm(x @ (best @ other) - y) >= least - 1e-12


def test_few_keys_are_fitted_as_many_are():
    """With fewer keys than dims the map is found in the space of the keys: it is the same map."""
    from ehub.comparison.fitting import rotate

    x, y = (np.random.default_rng(seed).standard_normal((5, 12)) for seed in (1, 2))
    left, values, right = np.linalg.svd(x.T @ y)
    found, trace = rotate(x, y)
    np.testing.assert_allclose(found, left[:, :5] @ right[:5], atol=1e-10)
    assert trace == pytest.approx(values[:5].sum())
    assert round((found**2).sum()) == 5


def test_the_recall_is_measured_on_keys_that_were_not_fitted(hub):
    """With fewer keys than dims a map fits noise, and the recall says what it is worth."""
    a, b = (space(hub, normal(seed, 40, 64), metric="cosine") for seed in (1, 2))
    found = ehub.align(a, b, k=3)
    assert found.fitted == 20
    assert found.rank == 20
    assert found.recall.value < 0.3
    fitted = b.multi_nearest_neighbors(1, vectors=a.multiget(range(40)), via=found)
    assert np.mean([one.keys[0] == key for key, one in enumerate(fitted)]) >= 0.5


def test_the_alignment_does_not_depend_on_the_order_of_writes(hub):
    rows, order = normal(1, 300, 6), np.random.default_rng(5).permutation(300)
    straight = ehub.align(space(hub, rows), space(hub, rotated(rows)), sample=100, seed=3)
    mixed = ehub.align(
        space(hub, rows[order], order), space(hub, rotated(rows)[order], order), sample=100, seed=3
    )
    np.testing.assert_array_equal(straight.matrix, mixed.matrix)
    assert straight.recall == mixed.recall


def test_only_keys_of_both_count(hub):
    """The new model has embedded a tenth of the keys; its queries search all of the old ones."""
    rows = normal(1, 2000, 8)
    old = space(hub, rows)
    new = space(hub, rotated(rows)[::10], np.arange(0, 2000, 10))
    found = ehub.align(new, old)
    assert found.fitted == 100
    assert found.recall.value > 0.99
    hits = old.multi_nearest_neighbors(1, vectors=rotated(rows), via=found)
    assert np.mean([one.keys[0] == key for key, one in enumerate(hits)]) > 0.99


# --- what is refused ---


def test_a_map_leads_to_one_kind_of_space(hub):
    rows = normal(1, 50, 4)
    found = ehub.align(space(hub, rows, name="new"), space(hub, rows, name="old"))
    narrow, cosine = space(hub, normal(1, 9, 3)), space(hub, rows, metric="cosine")
    with pytest.raises(ehub.DimensionError, match=r"4 dims of 'old'; '.*' has 3"):
        narrow.nearest_neighbors(1, vector=rows[0], via=found)
    with pytest.raises(ehub.InvalidArgumentError, match=r"metric 'l2' of 'old'.*'cosine'"):
        cosine.multi_nearest_neighbors(1, vectors=rows, via=found)
    with pytest.raises(ehub.DimensionError, match="4"):
        space(hub, rows).nearest_neighbors(1, vector=rows[0][:3], via=found)


def test_a_stored_key_needs_no_map(hub):
    items = space(hub, normal(1, 50, 4))
    found = ehub.align(items, items)
    with pytest.raises(ehub.InvalidArgumentError, match="via= maps query vectors"):
        items.nearest_neighbors(1, key=3, via=found)
    with pytest.raises(ehub.InvalidArgumentError, match="via= maps query vectors"):
        items.multi_nearest_neighbors(1, keys=[3], via=found)
    for wrong in ("new", np.eye(4), 1):
        with pytest.raises(TypeError, match=r"(?s)via is .*ehub\.align"):
            items.nearest_neighbors(1, vector=np.ones(4), via=wrong)


def test_too_few_common_keys_are_refused(hub):
    a, b = space(hub, normal(1, 9, 4), name="a"), space(hub, normal(1, 9, 4), np.arange(6, 15))
    with pytest.raises(ehub.InvalidArgumentError, match=r"'a' and .* have 3 keys in common"):
        ehub.align(a, b)


def test_a_query_without_a_share_in_the_map_is_refused(hub):
    rows = normal(1, 50, 4)
    rows[:, 3] = 0
    items = space(hub, rows, metric="cosine")
    found = ehub.align(items, items)
    assert found.rank == 3
    with pytest.raises(ehub.InvalidVectorError, match="query vector 1 is mapped to zero"):
        found.map([[1, 2, 3, 0], [0, 0, 0, 1]])
    with pytest.raises(ehub.InvalidVectorError, match="query vector 0 is mapped to zero"):
        items.nearest_neighbors(1, vector=[0, 0, 0, 1], via=found)


def test_a_recall_that_cannot_be_measured_says_so(hub):
    items = space(hub, normal(1, 8, 2))
    found = ehub.align(items, items, k=10)
    assert found.recall.value is None
    assert found.recall.note == "k = 10 needs 11 rows"
    assert "undefined" in repr(found)


# --- files ---


@pytest.fixture
def alignment(hub):
    rows = normal(1, 100, 6)
    return ehub.align(
        space(hub, rows), space(hub, rows[:, :4], metric="cosine"), names=("minilm-v2", "initial")
    )


def test_an_alignment_comes_back_from_its_file(alignment, tmp_path):
    path = tmp_path / "new-to-old.npz"
    alignment.save(path)
    alignment.save(str(path))
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["new-to-old.npz"]
    again = ehub.Alignment.load(path)
    for field in dataclasses.fields(alignment):
        one, two = getattr(alignment, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(one, two) if field.name in ("matrix", "offset") else None
        assert isinstance(one, np.ndarray) or one == two
    assert again.source == ehub.alignment.ViewInfo("minilm-v2", 6, "l2")
    queries = normal(3, 5, 6)
    np.testing.assert_array_equal(alignment.map(queries), again.map(queries))
    assert repr(again) == repr(alignment)


def test_a_damaged_file_is_never_an_alignment(alignment, tmp_path):
    """Whatever byte is changed or cut off: an error that names the file, or the same map."""
    path = tmp_path / "a.npz"
    alignment.save(path)
    require_error_or_same(path, alignment)
    assert repr(ehub.Alignment.load(path)) == repr(alignment)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        require_error_or_same(path, alignment)
        path.write_bytes(whole[:place])
        with pytest.raises((ehub.CorruptionError, ehub.FormatError), match=r"a\.npz"):
            ehub.Alignment.load(path)


def require_error_or_same(path, alignment: ehub.Alignment) -> None:
    try:
        found = ehub.Alignment.load(path)
    except (ehub.CorruptionError, ehub.FormatError):
        with pytest.raises(ehub.EhubError, match=r"a\.npz"):
            ehub.Alignment.load(path)
    else:  # a byte that means nothing, such as a date
        np.testing.assert_array_equal(found.matrix, alignment.matrix)
        np.testing.assert_array_equal(found.offset, alignment.offset)
        assert repr(found) == repr(alignment)


def test_other_files_are_refused(alignment, tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError):
        ehub.Alignment.load(path)
    path.write_text("hello")
    with pytest.raises(ehub.FormatError, match=r"not an \.npz file"):
        ehub.Alignment.load(path)
    np.savez(path, vectors=np.eye(3))
    with pytest.raises(ehub.FormatError, match="vectors"):
        ehub.Alignment.load(path)


def change(path, **parts: object) -> None:
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    np.savez(path, **{**kept, **parts})


def test_what_does_not_fit_together_is_refused(alignment, tmp_path):
    path = tmp_path / "x.npz"
    for parts, words in (
        ({"matrix": np.eye(3)}, "matrix's shape"),
        ({"offset": np.zeros(3)}, "offset's shape"),
        ({"matrix": alignment.matrix.astype(np.float32)}, "type of the numbers"),
        ({"matrix": np.full_like(alignment.matrix, np.nan)}, "not finite"),
        ({"about": '{"format": "ehub-alignment", "version": 1}'}, "lacks"),
        ({"about": "{"}, "x.npz"),
    ):
        alignment.save(path)
        change(path, **parts)
        with pytest.raises(ehub.CorruptionError, match=words):
            ehub.Alignment.load(path)
    alignment.save(path)
    change(path, about='{"format": "ehub-alignment", "version": 2}')
    with pytest.raises(ehub.FormatError, match="format 2"):
        ehub.Alignment.load(path)
    change(path, about='{"format": "other"}')
    with pytest.raises(ehub.FormatError, match="no alignment"):
        ehub.Alignment.load(path)
