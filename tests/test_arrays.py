"""The door for vectors: what is right is not copied, what can be is cast, all else is named."""

from __future__ import annotations

import math
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import ehub
from ehub._arrays import as_distance_max, as_integer, as_vector, as_vectors, as_weights

DIMS = 3
GOOD = np.arange(12, dtype=np.float32).reshape(4, DIMS)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def items(hub):
    return hub.create_space("items", dims=DIMS, metric="l2")


def door(values: object) -> np.ndarray:
    rows = as_vectors(values, DIMS, "items")
    assert rows.dtype == np.dtype("=f4")
    assert rows.flags.c_contiguous
    assert rows.shape[1] == DIMS
    return rows


# --- what passes ---


def readonly(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("given", [GOOD, readonly(GOOD), GOOD[1:3], np.ma.array(GOOD)])
def test_contiguous_float32_is_not_copied(given):
    assert np.shares_memory(door(given), given)
    assert np.shares_memory(as_vector(given[0], DIMS, "items"), given)


def test_a_memory_map_is_not_copied(tmp_path):
    GOOD.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", np.float32, "r", shape=GOOD.shape)
    assert np.shares_memory(door(mapped), mapped)


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return GOOD


CASTS = {
    "list": GOOD.tolist(),
    "tuple": tuple(map(tuple, GOOD.tolist())),
    "list of arrays": list(GOOD),
    "float64": GOOD.astype(np.float64),
    "float16": GOOD.astype(np.float16),
    "longdouble": GOOD.astype(np.longdouble),
    "int8": GOOD.astype(np.int8),
    "uint64": GOOD.astype(np.uint64),
    "big endian": GOOD.astype(">f4"),
    "fortran": np.asfortranarray(GOOD),
    "strided": np.repeat(GOOD, 2, axis=0)[::2],
    "backwards": GOOD[::-1][::-1],
    "columns": np.repeat(GOOD, 2, axis=1)[:, ::2],
    "array-like": ArrayLike(),
    "memoryview": memoryview(GOOD),
    "arrow fixed": pa.FixedSizeListArray.from_arrays(pa.array(GOOD.ravel()), DIMS),
    "arrow list": pa.array(GOOD.tolist()),
    "arrow chunks": pa.chunked_array([GOOD[:1].tolist(), GOOD[1:].tolist()]),
    "polars": pl.Series("vector", GOOD, dtype=pl.Array(pl.Float32, DIMS)),
    "polars lists": pl.Series("vector", GOOD.tolist(), dtype=pl.List(pl.Float64)),
    "polars frame": pl.DataFrame(GOOD),
}


@pytest.mark.parametrize("name", CASTS)
def test_what_can_be_float32_is_cast(name):
    assert (door(CASTS[name]) == GOOD).all()


def test_an_arrow_column_of_float32_is_not_copied():
    values = pa.array(GOOD.ravel())
    rows = door(pa.FixedSizeListArray.from_arrays(values, DIMS))
    assert np.shares_memory(rows, values.to_numpy())


def test_no_vectors_at_all_are_fine():
    assert door([]).shape == (0, DIMS)
    assert door(np.empty((0, DIMS))).shape == (0, DIMS)
    assert door(pa.chunked_array([], pa.list_(pa.float32()))).shape == (0, DIMS)


def test_a_polars_series_is_a_vector(items):
    items.set("a", pl.Series([1.0, 2.0, 3.0]))
    assert items.get("a").tolist() == [1, 2, 3]


def masked(values: np.ndarray) -> np.ma.MaskedArray:
    array = np.ma.array(values)
    array[..., 1] = np.ma.masked
    return array


def test_masked_numbers_are_refused(items):
    calls = [
        lambda: items.set("a", masked(GOOD[0])),
        lambda: items.multiset(list("abcd"), masked(GOOD)),
        lambda: items.multiset(list("ab"), [GOOD[0], masked(GOOD[1])]),
        lambda: items.multiset({"a": masked(GOOD[0])}),
        lambda: items.multiset([("a", masked(GOOD[0]))]),
        lambda: items.nearest_neighbors(1, vector=masked(GOOD[0])),
    ]
    for call in calls:
        with pytest.raises(ehub.InvalidVectorError, match="must not be masked"):
            call()
    assert len(items) == 0
    items.multiset([("a", np.ma.array(GOOD[0]))])
    with pytest.raises(ehub.InvalidArgumentError, match="weights must not be masked"):
        items.average(["a", "a"], weights=np.ma.array([1, 2], mask=[1, 0]))


def test_numbers_too_small_for_float32_become_zero_or_subnormal():
    assert door([[1e-300, -1e-45, 1e-40]])[0, 0] == 0


# --- what does not ---

WRONG_SHAPES = {
    "fewer dims": np.ones((4, 2)),
    "more dims": np.ones((4, 4)),
    "one vector": np.ones(DIMS),
    "a cube": np.ones((2, 2, DIMS)),
    "a number": 5.0,
    "no rows of other dims": np.empty((0, 4)),
    "ragged": [[1, 2, 3], [1, 2]],
    "ragged arrays": [np.ones(3), np.ones(2)],
    "arrow of other dims": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    "arrow ragged": pa.array([[1.0, 2.0, 3.0], [1.0]]),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_another_shape_is_an_error_that_names_dims_and_space(name):
    with pytest.raises(ehub.DimensionError, match=r"(?s)3.*'items'|'items'.*3"):
        door(WRONG_SHAPES[name])


def test_the_error_says_what_was_given_and_what_was_expected(items):
    with pytest.raises(ehub.DimensionError) as caught:
        items.multiset(["a", "b"], np.ones((2, 128)))
    assert str(caught.value) == (
        "vectors have shape (2, 128); expected (n, 3), as space 'items' has 3 dims"
    )
    with pytest.raises(ehub.DimensionError, match=r"the vector has shape \(2,\); expected \(3,\)"):
        items.set("a", [1, 2])
    with pytest.raises(ehub.DimensionError, match=r"the vector has shape \(1, 3\)"):
        items.set("a", [[1, 2, 3]])
    with pytest.raises(ehub.DimensionError, match="vector 1 has 1 dims"):
        items.multiset(["a", "b"], pa.array([[1.0, 2.0, 3.0], [1.0]]))


NO_NUMBERS = {
    "complex": np.ones((2, 3), complex),
    "str": [["1", "2", "3"]],
    "object": np.ones((2, 3), object),
    "none": [[1, None, 3]],
    "bool": np.ones((2, 3), bool),
    "huge int": [[1 << 70, 1, 1]],
    "datetime": np.zeros((2, 3), "M8[s]"),
    "struct": np.zeros((2, 3), "f4,f4"),
    "nothing": None,
    "text": "abc",
    "arrow strings": pa.array([["a", "b", "c"]]),
    "arrow numbers": pa.array([1.0, 2.0, 3.0]),
    "arrow null": pa.array([[1.0, 2.0, 3.0], None]),
    "arrow null number": pa.array([[1.0, None, 3.0]]),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_holds_no_numbers_is_refused(name):
    with pytest.raises(ehub.InvalidVectorError):
        door(NO_NUMBERS[name])


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_a_number_too_large_for_float32_is_named_by_its_row(dtype):
    vectors = np.ones((5, DIMS), dtype)
    vectors[3, 1] = -1e39
    with pytest.raises(ehub.InvalidVectorError, match=r"vector 3 .* too large for float32"):
        door(vectors)
    with pytest.raises(ehub.InvalidVectorError, match=r"the vector .* too large"):
        as_vector(vectors[3], DIMS, "items")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_named_by_their_row(items, wrong, dtype):
    vectors = np.ones((5, DIMS), dtype)
    vectors[3, 1] = wrong
    with pytest.raises(ehub.InvalidVectorError, match=r"\b3\b"):
        items.multiset(list("abcde"), vectors)
    assert len(items) == 0


def test_integers_are_integers_within_limits():
    assert as_integer(np.int8(5), "num", 1, 10) == 5
    for wrong in (True, np.True_, 1.0, "1", None):
        with pytest.raises(TypeError, match="num is"):
            as_integer(wrong, "num", 1, 10)
    for wrong in (0, 11, -1, 1 << 70):
        with pytest.raises(ehub.InvalidArgumentError, match="num is"):
            as_integer(wrong, "num", 1, 10)


def test_weights_are_float64_one_for_each_row():
    assert as_weights(None, 4) is None
    weights = as_weights([1, 3], 2)
    assert (weights.dtype, weights.tolist()) == (np.float64, [1, 3])
    assert as_weights([], 0).tolist() == []


BAD_WEIGHTS = [
    *([1], [1, 2, 3], [[1, 2]], [[1], [2, 3]], ["1", "2"], [0, 0], [1, -1], [1, np.nan]),
    *([1e308, 1e308], [np.inf, -np.inf], np.array([1, 2], np.longdouble) * np.longdouble("1e4000")),
]


@pytest.mark.parametrize("weights", BAD_WEIGHTS, ids=repr)
def test_weights_that_cannot_be_shares_are_refused(items, weights):
    items.multiset(["a", "b"], GOOD[:2])
    is_text = isinstance(weights, list) and isinstance(weights[0], str)
    error = TypeError if is_text else ehub.InvalidArgumentError
    with pytest.raises(error, match="weights"):
        items.average(["a", "b"], weights)


def test_a_distance_beyond_float32_is_infinite():
    for distance in (10**400, 1e39, math.inf):
        assert as_distance_max(distance) == math.inf
        assert as_distance_max(-distance) == -math.inf


LABELS = {
    "list": ["us", "eu", "us", "us"],
    "generator": (name for name in ("us", "eu", "us", "us")),
    "numpy": np.array(["us", "eu", "us", "us"]),
    "numpy object": np.array(["us", "eu", "us", "us"], object),
    "arrow": pa.array(["us", "eu", "us", "us"]),
    "arrow chunks": pa.chunked_array([["us"], ["eu", "us", "us"]]),
    "arrow dictionary": pa.array(["us", "eu", "us", "us"]).dictionary_encode(),
    "polars": pl.Series(["us", "eu", "us", "us"]),
}


@pytest.mark.parametrize("name", LABELS)
def test_partitions_of_rows_may_come_in_any_ordered_collection(items, name):
    items.multiset(list("abcd"), GOOD, partition=LABELS[name])
    assert items.partitions() == {"us": 3, "eu": 1}


BAD_LABELS = {
    "number": (5, TypeError, "partition is 5; expected a str"),
    "bytes": (b"us", TypeError, "partition is b'us'"),
    "set": ({"us", "eu"}, TypeError, "for each row in their order"),
    "mapping": ({"us": 1}, TypeError, "for each row in their order"),
    "nested": ([["us"], "eu"], TypeError, r"row 0 is \['us'\]; expected a str"),
    "two axes": (np.array([["us"], ["eu"]]), TypeError, r"row 0 is \['us'\]"),
    "numbers": (["us", 5], TypeError, "row 1 is 5; expected a str"),
    "null": (pa.array(["us", None]), TypeError, "row 1 is None"),
    "too few": (["us"], ehub.InvalidArgumentError, "2 keys, but 1 partitions"),
    "empty": (["us", ""], ehub.InvalidArgumentError, "has 0 bytes"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_what_names_no_partitions_is_refused(items, name):
    partition, error, message = BAD_LABELS[name]
    with pytest.raises(error, match=message):
        items.multiset(["a", "b"], GOOD[:2], partition=partition)
    assert len(items) == 0


# --- Arrow tables ---


def table(count: int = 10, vector_type: pa.DataType | None = None) -> pa.Table:
    vectors = np.arange(count * DIMS, dtype=np.float32).reshape(count, DIMS)
    kind = vector_type or pa.list_(pa.float32(), DIMS)
    return pa.table(
        {
            "other": pa.nulls(count),
            "key": [f"key-{i}" for i in range(count)],
            "vector": pa.array(vectors.tolist(), kind),
        }
    )


def require_table(items: ehub.Space, count: int = 10) -> None:
    keys = [f"key-{i}" for i in range(count)]
    assert sorted(items) == sorted(keys)
    assert items.multiget(keys).ravel().tolist() == list(range(count * DIMS))


class OneArray:
    """Exports an Arrow array, not a stream."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self.batch.__arrow_c_array__(requested_schema)


TABLES = {
    "table": table,
    "slice": lambda: pa.concat_tables([table(3), table()])[3:],
    "record batch": lambda: table().to_batches()[0],
    "reader": lambda: table().to_reader(3),
    "array interface": lambda: OneArray(table().to_batches()[0]),
    "polars": lambda: pl.from_arrow(table()),
    "polars lists": lambda: pl.from_arrow(table(vector_type=pa.list_(pa.float64()))),
    "lists": lambda: table(vector_type=pa.list_(pa.float32())),
    "large lists": lambda: table(vector_type=pa.large_list(pa.float64())),
    "float64": lambda: table(vector_type=pa.list_(pa.float64(), DIMS)),
    "float16": lambda: table(vector_type=pa.list_(pa.float16(), DIMS)),
    "int32": lambda: table(vector_type=pa.list_(pa.int32(), DIMS)),
    "tensor": lambda: table().set_column(
        2,
        "vector",
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [DIMS]), table()["vector"].combine_chunks()
        ),
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_an_arrow_table_is_stored(items, name):
    assert items.multiset(TABLES[name]()) == 10
    require_table(items)


def test_each_record_batch_is_one_batch(items):
    seq = items.hub.info().seq
    assert items.multiset(table().to_reader(3), partition="us") == 10
    assert items.hub.info().seq - seq == 4
    assert items.partitions() == {"us": 10}


def test_the_columns_may_have_other_names(items):
    renamed = table().rename_columns(["vector", "id", "embedding"])
    assert items.multiset(renamed, key_column="id", vector_column="embedding") == 10
    require_table(items)
    with pytest.raises(ehub.InvalidArgumentError, match=r"'key'.*\['vector', 'id', 'embedding'\]"):
        items.multiset(renamed)


def test_an_integer_column_of_keys_suits_integer_keys(hub, items):
    numbers = table().set_column(1, "key", pa.array(range(10), pa.int32()))
    space = hub.create_space("numbers", dims=DIMS, metric="l2", key_type="int")
    assert space.multiset(numbers) == 10
    assert sorted(space) == list(range(10))
    with pytest.raises(ehub.InvalidKeyError, match="int32; space 'items' has str keys"):
        items.multiset(numbers)


def test_a_bad_record_batch_leaves_those_before(items):
    good = table()
    bad = pa.table({"key": ["x"], "vector": pa.array([[1.0, 2.0]])})
    with pytest.raises(ehub.DimensionError, match=r"vector 0 has 2 dims.*from row 10 on"):
        items.multiset(
            pa.concat_tables(
                [good.select(["key", "vector"]).cast(bad.schema), bad],
            )
        )
    require_table(items)


def test_without_pyarrow_the_error_says_how_to_get_it(items, monkeypatch):
    frame = pl.from_arrow(table())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'ehub\[arrow\]'"):
        items.multiset(frame)
    with pytest.raises(ImportError, match=r"ehub\[arrow\]"):
        items.to_arrow()
    assert items.multiset(frame["key"], GOOD[[0] * 10]) == 10


def test_arrays_that_lie_at_odd_addresses_are_taken(tmp_path):
    def shifted(array):
        return np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)

    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", 4, metric="l2", key_type="int")
        items.multiset(shifted(np.arange(3)), shifted(rows))
        items.set(7, shifted(rows[1]))
        assert items.nearest_neighbors(1, vector=shifted(rows[2])).keys.tolist() == [2]
        assert np.array_equal(items.multiget(shifted(np.array([0, 7]))), rows[[0, 1]])
        shares = shifted(np.array([1.0, 3.0]))
        assert np.allclose(items.average([0, 1], shares), (rows[0] + 3 * rows[1]) / 4)
