"""Nearest neighbors are the ones that numpy finds in float64: any metric, any filter, any k."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ehub
from ehub._native import _store

METRICS = ("l2", "ip", "cosine")
ROWS, DIMS = 700, 24


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


def distances(metric: str, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The oracle."""
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        return ((rows - query) ** 2).sum(axis=1)
    if metric == "ip":
        return 1 - rows @ query
    return 1 - rows @ query / np.linalg.norm(query) / np.linalg.norm(rows, axis=1)


def require_nearest(found: ehub.Neighbors, expected: dict[object, float], k: int) -> None:
    """`found` are the k nearest of `expected` (key -> distance), but for ties within rounding."""
    nearest = sorted(expected.values())[:k]
    assert len(found) == len(nearest)
    assert found.keys.shape == found.distances.shape == (len(found),)
    assert found.distances.dtype == np.float32
    assert len(set(found.keys.tolist())) == len(found)
    assert (np.diff(found.distances) >= 0).all()
    np.testing.assert_allclose(found.distances, nearest, rtol=1e-4, atol=1e-4)
    truth = [expected[key] for key in found.keys.tolist()]
    np.testing.assert_allclose(found.distances, truth, rtol=1e-4, atol=1e-4)


def build(hub: ehub.Hub, metric: str, key_type: str = "str") -> tuple[ehub.Space, dict]:
    """A space with sealed rows, fresh rows, dead rows and overwritten ones; and what it holds."""
    space = hub.create_space(f"{metric}-{key_type}", DIMS, metric=metric, key_type=key_type)
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((2 * ROWS, DIMS), dtype=np.float32)
    keys = [i if key_type == "int" else f"key-{i}" for i in range(ROWS)]
    space.multiset(keys, vectors[:ROWS])
    hub.checkpoint()
    space.multiset(keys[:200], vectors[ROWS : ROWS + 200])
    space.multidelete(keys[100:300])
    held = dict(zip(keys, vectors[:ROWS], strict=True))
    held |= dict(zip(keys[:200], vectors[ROWS : ROWS + 200], strict=True))
    for key in keys[100:300]:
        del held[key]
    return space, held


def expected_for(space: ehub.Space, held: dict, query: np.ndarray) -> dict[object, float]:
    found = distances(space.metric, query, np.stack(list(held.values())))
    return dict(zip(held, found.tolist(), strict=True))


QUERIES = np.random.default_rng(11).standard_normal((20, DIMS), dtype=np.float32)


@pytest.mark.parametrize("key_type", ["str", "int"])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbors_of_a_vector_are_the_nearest_rows(hub, metric, key_type):
    space, held = build(hub, metric, key_type)
    for k in (1, 10, len(held), len(held) + 100, 1_000_000):
        found = space.nearest_neighbors(k, vector=QUERIES[0])
        require_nearest(found, expected_for(space, held, QUERIES[0]), k)
    many = space.multi_nearest_neighbors(10, vectors=QUERIES)
    assert len(many) == len(QUERIES)
    for query, found in zip(QUERIES, many, strict=True):
        require_nearest(found, expected_for(space, held, query), 10)
        alone = space.nearest_neighbors(10, vector=query)
        assert alone.keys.tolist() == found.keys.tolist()


@pytest.mark.parametrize("key_type", ["str", "int"])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbors_of_a_key_never_include_it(hub, metric, key_type):
    space, held = build(hub, metric, key_type)
    chosen = list(held)[::37]
    many = space.multi_nearest_neighbors(10, keys=chosen)
    for key, found in zip(chosen, many, strict=True):
        expected = expected_for(space, held, held[key])
        del expected[key]
        require_nearest(found, expected, 10)
        assert space.nearest_neighbors(10, key=key).keys.tolist() == found.keys.tolist()
    everything = space.nearest_neighbors(1_000_000, key=chosen[0])
    assert set(everything.keys.tolist()) == set(held) - {chosen[0]}


def test_a_twin_of_a_key_is_its_neighbor(hub):
    items = hub.create_space("items", dims=2, metric="l2")
    items.multiset({"a": [1, 2], "twin": [1, 2], "far": [9, 9]})
    assert items.nearest_neighbors(1, key="a").keys.tolist() == ["twin"]
    assert items.nearest_neighbors(1, key="twin").keys.tolist() == ["a"]
    assert items.nearest_neighbors(5, key="a").distances.tolist() == [0, 113]


def test_an_empty_space_has_no_neighbors(hub):
    items = hub.create_space("items", dims=2)
    found = items.nearest_neighbors(10, vector=[1, 2])
    assert len(found) == 0
    assert list(found) == []
    assert [len(found) for found in items.multi_nearest_neighbors(3, vectors=np.ones((4, 2)))] == [
        0
    ] * 4
    assert items.multi_nearest_neighbors(3, vectors=[]) == []
    items.set("a", [1, 2])
    assert len(items.nearest_neighbors(10, key="a")) == 0


def test_a_write_is_found_the_moment_it_returns(hub):
    items = hub.create_space("items", dims=2, metric="l2")
    for i in range(50):
        items.set(str(i), [i, 0])
        assert items.nearest_neighbors(1, vector=[i, 0]).keys.tolist() == [str(i)]
    items.delete("49")
    assert items.nearest_neighbors(1, vector=[49, 0]).keys.tolist() == ["48"]
    items.set("0", [100, 0])
    assert items.nearest_neighbors(1, vector=[0, 0]).keys.tolist() == ["1"]


# --- filter and distance ---

FILTERS = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "dict": dict.fromkeys,
    "generator": iter,
    "array": np.array,
    "arrow": pa.array,
    "function": lambda keys: set(keys).__contains__,
}


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("key_type", ["str", "int"])
def test_only_rows_that_pass_the_filter_are_found(hub, kind, key_type):
    space, held = build(hub, "l2", key_type)
    allowed = list(held)[::7]
    expected = expected_for(space, held, QUERIES[0])
    found = space.nearest_neighbors(10, vector=QUERIES[0], filter=FILTERS[kind](allowed))
    require_nearest(found, {key: expected[key] for key in allowed}, 10)
    for neighbors in space.multi_nearest_neighbors(
        10, keys=allowed[:3], filter=FILTERS[kind](allowed)
    ):
        assert len(neighbors) == 10
        assert set(neighbors.keys.tolist()) < set(allowed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(-5, 40)), st.integers(1, 50))
def test_a_selective_filter_loses_nobody(hub, allowed, k):
    space = (
        hub.get_space("few")
        if "few" in hub
        else hub.create_space("few", 1, metric="l2", key_type="int")
    )
    if not len(space):
        space.multiset(range(30), np.arange(30)[:, np.newaxis])
        space.multidelete([3, 5])
    live = sorted(allowed & (set(range(30)) - {3, 5}))
    found = space.nearest_neighbors(k, vector=[0], filter=allowed)
    assert found.keys.tolist() == live[:k]


def test_a_filter_that_is_empty_or_strange_finds_nothing(hub):
    items = hub.create_space("items", dims=2)
    items.multiset({"a": [1, 2], "b": [3, 4]})
    for nothing in ([], ["nothing"], lambda key: False):
        assert len(items.nearest_neighbors(5, vector=[1, 2], filter=nothing)) == 0
    assert len(items.nearest_neighbors(5, key="a", filter=["a"])) == 0
    assert items.nearest_neighbors(5, key="a", filter=["a", "b"]).keys.tolist() == ["b"]
    with pytest.raises(TypeError, match="collection of keys"):
        items.nearest_neighbors(5, vector=[1, 2], filter="ab")


def test_a_filter_function_is_called_once_per_key_and_its_errors_come_out(hub):
    items = hub.create_space("items", dims=2)
    items.multiset({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    asked = []
    items.multi_nearest_neighbors(1, vectors=np.ones((5, 2)), filter=asked.append)
    assert sorted(asked) == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        items.nearest_neighbors(1, vector=[1, 2], filter=lambda key: 1 / 0)


@pytest.mark.parametrize("metric", METRICS)
def test_no_neighbor_is_farther_than_max_distance(hub, metric):
    space, held = build(hub, metric)
    expected = expected_for(space, held, QUERIES[0])
    limit = float(np.quantile(list(expected.values()), 0.1))
    near = {key: distance for key, distance in expected.items() if distance <= limit}
    found = space.nearest_neighbors(ROWS, vector=QUERIES[0], max_distance=limit)
    assert len(found) > 0
    assert abs(len(found) - len(near)) <= 1
    require_nearest(found, expected, len(found))
    assert (found.distances <= np.float32(limit)).all()
    [again] = space.multi_nearest_neighbors(3, vectors=QUERIES[:1], max_distance=limit)
    assert again == found[:3]
    for everything in (None, np.inf, 1e300):
        assert len(
            space.nearest_neighbors(ROWS, vector=QUERIES[0], max_distance=everything)
        ) == len(held)
    for nothing in (-1e300, -np.inf):
        assert len(space.nearest_neighbors(ROWS, vector=QUERIES[0], max_distance=nothing)) == 0


def test_a_distance_equal_to_the_limit_is_near_enough(hub):
    items = hub.create_space("items", dims=1, metric="l2")
    items.multiset({"0": [0], "1": [1], "2": [2]})
    assert items.nearest_neighbors(9, vector=[0], max_distance=1).keys.tolist() == ["0", "1"]
    assert items.nearest_neighbors(9, vector=[0], max_distance=0).keys.tolist() == ["0"]


# --- what is refused ---


def test_a_search_needs_one_query(hub):
    items = hub.create_space("items", dims=2)
    items.set("a", [1, 2])
    for call in (
        lambda: items.nearest_neighbors(1),
        lambda: items.nearest_neighbors(1, key="a", vector=[1, 2]),
        lambda: items.multi_nearest_neighbors(1),
        lambda: items.multi_nearest_neighbors(1, keys=["a"], vectors=[[1, 2]]),
    ):
        with pytest.raises(ehub.InvalidArgumentError, match="either"):
            call()


def test_a_missing_key_has_no_neighbors_but_an_error(hub):
    items = hub.create_space("items", dims=2)
    items.set("a", [1, 2])
    with pytest.raises(ehub.NotFoundError, match="'x'"):
        items.nearest_neighbors(1, key="x")
    with pytest.raises(ehub.NotFoundError, match=r"'x' \(key 1 of 2\)"):
        items.multi_nearest_neighbors(1, keys=["a", "x"])


def test_num_is_between_one_and_a_million(hub):
    items = hub.create_space("items", dims=2)
    for num in (0, -1, 1_000_001):
        with pytest.raises(ehub.InvalidArgumentError, match="num is"):
            items.nearest_neighbors(num, vector=[1, 2])
    for num in (True, 1.0, "1", None):
        with pytest.raises(TypeError, match="num is"):
            items.multi_nearest_neighbors(num, vectors=[[1, 2]])
    assert len(items.nearest_neighbors(np.int64(1), vector=[1, 2])) == 0


def test_max_distance_is_a_number(hub):
    items = hub.create_space("items", dims=2)
    with pytest.raises(ehub.InvalidArgumentError, match="NaN"):
        items.nearest_neighbors(1, vector=[1, 2], max_distance=float("nan"))
    for wrong in ("1", True, [1, 2]):
        with pytest.raises(TypeError):
            items.nearest_neighbors(1, vector=[1, 2], max_distance=wrong)


def test_an_unknown_option_is_an_error(hub):
    items = hub.create_space("items", dims=2)
    with pytest.raises(TypeError, match="width"):
        items.nearest_neighbors(1, vector=[1, 2], width=100)
    with pytest.raises(TypeError, match="ef"):
        items.nearest_neighbors(1, vector=[1, 2], ef="wide")
    with pytest.raises(TypeError, match="exact"):
        items.nearest_neighbors(1, vector=[1, 2], exact="yes")
    with pytest.raises(TypeError):
        items.nearest_neighbors(1, "a")
    for exact in (True, False):
        assert len(items.nearest_neighbors(1, vector=[1, 2], exact=exact)) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_of_nonsense_is_refused(hub, metric):
    items = hub.create_space("items", dims=2, metric=metric)
    items.set("a", [1, 2])
    for wrong in ([np.nan, 1], [1, np.inf]):
        with pytest.raises(ehub.InvalidVectorError, match="the query vector holds a NaN or an inf"):
            items.nearest_neighbors(1, vector=wrong)
        with pytest.raises(ehub.InvalidVectorError, match="query vector 1 holds a NaN"):
            items.multi_nearest_neighbors(1, vectors=[[1, 2], wrong])
    for wrong in ([1, 2, 3], [[1, 2]], 5):
        with pytest.raises(ehub.DimensionError):
            items.nearest_neighbors(1, vector=wrong)
    with pytest.raises(ehub.DimensionError, match="query vectors have shape"):
        items.multi_nearest_neighbors(1, vectors=[1, 2])
    if metric == "cosine":
        with pytest.raises(ehub.InvalidVectorError, match="the query vector is zero: it has no"):
            items.nearest_neighbors(1, vector=[0, 0])
        for norm in (1e-25, 1e25):
            with pytest.raises(ehub.InvalidVectorError, match=r"norm 1e[-+]25; .* 1e-19 and 1e19"):
                items.nearest_neighbors(1, vector=[0, norm])
    else:
        assert len(items.nearest_neighbors(1, vector=[0, 0])) == 1


# --- the answer ---


def test_neighbors_are_a_sequence_and_two_arrays(hub):
    items = hub.create_space("items", dims=1, metric="l2")
    items.multiset({str(i): [i] for i in range(12)})
    found = items.nearest_neighbors(12, vector=[0])
    assert found[0] == ("0", 0.0)
    assert found[-1].key == "11"
    assert found[-1].distance == 121
    assert (type(found[1].key), type(found[1].distance)) == (str, float)
    assert [key for key, _ in found] == found.keys.tolist()
    assert found[2:4].keys.tolist() == ["2", "3"]
    assert isinstance(found[2:4], ehub.Neighbors)
    assert ("3", 9.0) in found
    assert found.index(ehub.Neighbor("3", 9.0)) == 3
    assert next(reversed(found)).key == "11"
    assert repr(found[:2]) == "Neighbors([('0', 0), ('1', 1)])"
    assert repr(found).endswith(", ...])")
    assert found == items.nearest_neighbors(12, vector=[0])
    assert found != items.nearest_neighbors(12, vector=[1])
    assert found != [*found]
    with pytest.raises(IndexError):
        found[12]
    with pytest.raises(TypeError):
        hash(found)


def test_integer_keys_come_out_as_python_integers(hub):
    items = hub.create_space("items", dims=1, metric="l2", key_type="int")
    items.multiset([5, -(1 << 63)], [[1], [2]])
    found = items.nearest_neighbors(2, vector=[0])
    assert found.keys.dtype == np.int64
    assert [neighbor.key for neighbor in found] == [5, -(1 << 63)]
    assert type(found[0].key) is int
    assert all(type(key) is int for key, _ in found)


# --- instruction sets ---

SEARCH = """
import sys, numpy as np, ehub
from ehub._native import _store
with ehub.open(sys.argv[1], read_only=True) as hub:
    found = hub.get_space("l2-str").nearest_neighbors(10, vector=np.ones(24))
    print(_store.simd(), *found.keys)
"""


def search_with(simd: str, path: Path) -> subprocess.CompletedProcess[str]:
    parent = str(Path(ehub.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-c", SEARCH, str(path)],
        env={**os.environ, "PYTHONPATH": parent, "EHUB_SIMD": simd},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_instruction_set_can_be_chosen_and_changes_no_answer(hub, tmp_path):
    build(hub, "l2")
    hub.close()
    best, scalar = search_with("", tmp_path), search_with("scalar", tmp_path)
    assert scalar.stdout.split()[0] == "scalar"
    assert scalar.stdout.split()[1:] == best.stdout.split()[1:]
    assert len(best.stdout.split()) == 11


def test_an_unknown_instruction_set_is_an_error_at_import(tmp_path):
    done = search_with("mmx", tmp_path)
    assert done.returncode != 0
    assert 'EHUB_SIMD is "mmx"' in done.stderr
    assert "scalar" in done.stderr


@pytest.mark.parametrize("exact", [True, False], ids=["scan", "walk"])
def test_a_search_that_is_stopped_is_an_error_and_no_damage(hub, exact):
    items = hub.create_space("stopped", dims=8, metric="l2", key_type="int")
    vectors = np.random.default_rng(0).standard_normal((10_000, 8)).astype(np.float32)
    items.multiset(np.arange(len(vectors)), vectors)
    items.optimize()
    view, stop = items._now(), _store.Stop()
    before = view.nearest(vectors[:20], 3, np.inf, None, 0, exact, stop)[0]
    stop.set()
    with pytest.raises(ehub.DeadlineError, match="stopped"):
        view.nearest(vectors[:20], 3, np.inf, None, 0, exact, stop)
    with pytest.raises(ehub.DeadlineError, match="stopped"):
        view.nearest_one(vectors[0], 3, np.inf, 0, exact, stop)
    assert view.nearest(vectors[:20], 3, np.inf, None, 0, exact)[0].tolist() == before.tolist()
    assert items.index_stats().rows_indexed == len(vectors)
