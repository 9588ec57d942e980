"""Keys: every str and int within the limits works everywhere, all else is an InvalidKeyError."""

from __future__ import annotations

import gc
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ehub

INT64 = np.iinfo(np.int64)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


@pytest.fixture
def strings(hub):
    return hub.create_space("strings", dims=1, metric="l2", key_type="str")


@pytest.fixture
def integers(hub):
    return hub.create_space("integers", dims=1, metric="l2", key_type="int")


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32)[:, np.newaxis]


def require_round_trip(space: ehub.Space, given: object, keys: list[object]) -> None:
    """`given` means `keys`, in every call that takes several."""
    assert space.multiset(given, numbers(len(keys))) == len(keys)
    assert sorted(space.keys().tolist()) == sorted(keys)
    assert space.multiget(given).ravel().tolist() == list(range(len(keys)))
    assert [space.get(key)[0] for key in keys] == list(range(len(keys)))
    found = space.nearest_neighbors(len(keys), vector=[0], filter=given)
    assert sorted(found.keys) == sorted(keys)
    assert len(space.multi_nearest_neighbors(1, keys=given)) == len(keys)
    np.testing.assert_allclose(space.average(given), [numbers(len(keys)).mean()])
    assert space.multidelete(given) == len(keys)


STRINGS = [
    "a",
    " ",
    "\0",
    "with\0zero",
    "é",
    "e\u0301",  # the same to the eye, two code points
    "日本語",
    "🍎" * 256,  # 1,024 bytes
    "x" * 1024,
    "0",
    "-1",
]


def test_every_string_within_the_limits_is_a_key(strings):
    for number, key in enumerate(STRINGS):
        strings.set(key, [number])
    strings.hub.checkpoint()
    assert sorted(strings) == sorted(STRINGS)
    for number, key in enumerate(STRINGS):
        assert key in strings
        assert strings.get(key).tolist() == [number]
        strings.delete(key)
        assert key not in strings


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(KEYS, min_size=1, max_size=20, unique=True))
def test_any_text_is_a_key(strings, keys):
    strings.delete_all()
    require_round_trip(strings, keys, keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(st.integers(INT64.min, INT64.max), min_size=1, max_size=20, unique=True))
def test_any_64_bits_are_a_key(integers, keys):
    integers.delete_all()
    require_round_trip(integers, keys, keys)
    require_round_trip(integers, np.array(keys, np.int64), keys)


def test_extreme_integers_are_keys(integers):
    keys = [INT64.min, -1, 0, 1, INT64.max]
    for key in keys:
        integers.set(key, [1])
    integers.hub.checkpoint()
    assert sorted(integers) == keys
    assert all(type(key) is int for key in integers)
    assert integers.keys().dtype == np.int64


STRING_COLLECTIONS = {
    "list": list,
    "tuple": tuple,
    "dict keys": lambda keys: dict.fromkeys(keys).keys(),
    "numpy str": lambda keys: np.array(keys),
    "numpy object": lambda keys: np.array(keys, dtype=object),
    "numpy StringDType": lambda keys: np.array(keys, dtype=np.dtypes.StringDType()),
    "numpy backwards": lambda keys: np.array(keys[::-1])[::-1],
    "arrow string": pa.array,
    "arrow large_string": lambda keys: pa.array(keys, pa.large_string()),
    "arrow string_view": lambda keys: pa.array(keys, pa.string_view()),
    "arrow dictionary": lambda keys: pa.array(keys).dictionary_encode(),
    "arrow slice": lambda keys: pa.array(["before", *keys, "after"])[1:-1],
    "arrow chunks": lambda keys: pa.chunked_array([keys[:1], [], keys[1:]], pa.string()),
    "polars": lambda keys: pl.Series("key", keys),
}


@pytest.mark.parametrize("collection", STRING_COLLECTIONS)
def test_string_keys_may_come_in_any_collection(strings, collection):
    keys = ["a", "日本語", "🍎", "x" * 1024]
    require_round_trip(strings, STRING_COLLECTIONS[collection](keys), keys)


INTEGER_COLLECTIONS = {
    "list": list,
    "tuple": tuple,
    "numpy scalars": lambda keys: [np.int64(key) for key in keys],
    "range": lambda keys: range(keys[0], keys[0] + len(keys)),
    "int64": lambda keys: np.array(keys, np.int64),
    "int32": lambda keys: np.array(keys, np.int32),
    "uint64": lambda keys: np.array(keys, np.uint64),
    "big endian": lambda keys: np.array(keys, ">i8"),
    "every other": lambda keys: np.repeat(np.array(keys), 2)[::2],
    "readonly": lambda keys: np.frombuffer(np.array(keys, np.int64).tobytes(), np.int64),
    "object": lambda keys: np.array(keys, object),
    "arrow int64": lambda keys: pa.array(keys),
    "arrow uint8": lambda keys: pa.array(keys, pa.uint8()),
    "arrow slice": lambda keys: pa.array([0, *keys, 0])[1:-1],
    "polars": lambda keys: pl.Series("key", keys),
}


@pytest.mark.parametrize("collection", INTEGER_COLLECTIONS)
def test_integer_keys_may_come_in_any_collection(integers, collection):
    keys = [5, 6, 7, 8]
    require_round_trip(integers, INTEGER_COLLECTIONS[collection](keys), keys)


def test_keys_may_come_from_a_generator_or_a_set(strings):
    strings.multiset((key for key in "abc"), numbers(3))
    assert strings.multiget(key for key in "ca").tolist() == [[2], [0]]
    assert strings.multidelete({"a", "b"}) == 2
    assert strings.multidelete(frozenset("c")) == 1


def test_a_numpy_str_is_a_str(strings):
    strings.set(np.str_("a"), [1])
    assert strings.get("a").tolist() == [1]
    assert list(map(type, strings)) == [str]


def test_an_integer_may_be_whatever_is_an_index(integers):
    class Index:
        def __index__(self) -> int:
            return 7

    integers.set(Index(), [1])
    integers.set(np.uint8(8), [2])
    assert sorted(integers) == [7, 8]
    assert np.int32(7) in integers


# --- what is no key ---

BAD_STRINGS = {
    "empty": ("", "is empty"),
    "too long": ("x" * 1025, "has 1025 bytes; a key has at most 1024"),
    "too long in UTF-8": ("🍎" * 257, "has 1028 bytes"),
    "lone surrogate": ("ab\ud800", "lone surrogate at its position 2"),
    "int": (5, r"is 5 \(int\); space 'strings' has str keys"),
    "bytes": (b"a", r"is b'a' \(bytes\); space 'strings' has str keys"),
    "none": (None, r"is None \(NoneType\)"),
    "float": (1.5, "has str keys"),
}

BAD_INTEGERS = {
    "too large": (INT64.max + 1, "is 9223372036854775808; an int key has at most 64 bits"),
    "too small": (INT64.min - 1, "at most 64 bits"),
    "huge": (10**100, "at most 64 bits"),
    "str": ("5", r"is '5' \(str\); space 'integers' has int keys"),
    "bool": (True, r"is True \(bool\)"),
    "numpy bool": (np.True_, "has int keys"),
    "float": (5.0, r"is 5.0 \(float\)"),
    "numpy float": (np.float64(5), "has int keys"),
    "none": (None, "has int keys"),
}


def require_refused(space: ehub.Space, bad: object, message: str, good: object) -> None:
    """Every call refuses `bad`, and among several keys names its position."""
    single = [
        space.get,
        space.delete,
        lambda key: space.set(key, [1]),
        lambda key: space[key],
    ]
    assert bad not in space
    for call in single:
        with pytest.raises(ehub.InvalidKeyError, match=f"the key.*{message}"):
            call(bad)
    several = [
        space.multiget,
        space.multidelete,
        space.average,
        lambda keys: space.multiset(keys, numbers(3)),
        lambda keys: space.multiset(zip(keys, numbers(3), strict=True)),
        lambda keys: space.multiget(keys, default=None),
        lambda keys: space.multi_nearest_neighbors(1, keys=keys),
        lambda keys: space.nearest_neighbors(1, vector=[1], filter=keys),
    ]
    for call in several:
        with pytest.raises(ehub.InvalidKeyError, match=f"key 2.*{message}"):
            call([good, good, bad])
    assert len(space) == 0


@pytest.mark.parametrize("name", BAD_STRINGS)
def test_what_is_no_string_key_is_refused_by_name(strings, name):
    require_refused(strings, *BAD_STRINGS[name], good="a")


@pytest.mark.parametrize("name", BAD_INTEGERS)
def test_what_is_no_integer_key_is_refused_by_name(integers, name):
    require_refused(integers, *BAD_INTEGERS[name], good=1)


def test_one_key_is_not_several(strings, integers):
    for space, key in ((strings, "apple"), (strings, b"apple"), (integers, 5), (strings, None)):
        for call in (space.multiget, space.multidelete, space.average):
            with pytest.raises(TypeError, match="a collection of keys, not one"):
                call(key)


WRONG_FOR_STRINGS = {
    "masked": np.ma.array(["a", "b"], mask=[0, 1]),
    "int64": np.arange(3),
    "float": np.ones(3),
    "bytes": np.array([b"a"]),
    "two dimensions": np.array([["a"]]),
    "arrow int": pa.array([1, 2]),
    "arrow null": pa.array(["a", None]),
    "arrow binary": pa.array([b"a"]),
    "arrow empty string": pa.array(["a", ""]),
    "arrow long string": pa.array(["a", "x" * 1025]),
    "arrow no UTF-8": pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    ),
    "polars null": pl.Series("key", ["a", None]),
}

WRONG_FOR_INTEGERS = {
    "float": np.ones(3),
    "bool": np.array([True]),
    "str": np.array(["1"]),
    "masked": np.ma.array([1, 2], mask=[0, 1]),
    "datetime": np.array(["2021-11-23"], "M8[ns]"),
    "uint64": np.array([1, 1 << 63], np.uint64),
    "two dimensions": np.ones((2, 2), int),
    "no dimension": np.array(5),
    "arrow str": pa.array(["a"]),
    "arrow null": pa.array([1, None]),
    "arrow float": pa.array([1.0]),
    "arrow large": pa.array([1 << 63], pa.uint64()),
}


@pytest.mark.parametrize("name", WRONG_FOR_STRINGS)
def test_an_array_of_something_else_holds_no_string_keys(strings, name):
    with pytest.raises(ehub.InvalidKeyError):
        strings.multiget(WRONG_FOR_STRINGS[name])


@pytest.mark.parametrize("name", WRONG_FOR_INTEGERS)
def test_an_array_of_something_else_holds_no_integer_keys(integers, name):
    with pytest.raises(ehub.InvalidKeyError):
        integers.multiget(WRONG_FOR_INTEGERS[name])


EMPTY = [
    *([], (), set(), np.array([])),
    *(pa.array([], pa.string()), pa.array([]), pa.chunked_array([], pa.string())),
    *(pa.chunked_array([], pa.null()), pl.Series("key", [])),
]


@pytest.mark.parametrize("empty", EMPTY)
def test_no_keys_at_all_are_fine(strings, empty):
    assert strings.multiget(empty).shape == (0, 1)
    assert strings.multidelete(empty) == 0
    assert strings.multiset(list(empty), np.empty((0, 1))) == 0
    assert strings.multiset([], []) == 0
    assert strings.multi_nearest_neighbors(1, keys=empty) == []


def test_an_index_may_change_the_list_that_it_is_in(integers):
    class Emptying:
        def __index__(self) -> int:
            keys.clear()
            gc.collect()
            return 7

    keys = [1000, Emptying(), 2000, 3000]
    integers.multiset(keys, np.arange(4)[:, np.newaxis])
    assert keys == []
    assert integers.multiget([1000, 7, 2000, 3000])[:, 0].tolist() == [0, 1, 2, 3]


def test_strings_of_all_kinds_are_packed_in_their_order(strings):
    class Name(str):
        pass

    kinds = ["a", "żółć", "漢字", "🍎 pie", "x" * 1024, Name("sub"), np.str_("numpy")] * 50
    keys = [f"{i}" + key[: 1024 - len(f"{i}")] for i, key in enumerate(kinds)]
    strings.multiset(keys, np.arange(len(keys))[:, np.newaxis])
    assert strings.multiget(keys[::-1])[:, 0].tolist() == list(range(len(keys)))[::-1]
    assert sorted(strings) == sorted(keys)


LISTED = [1 << 40, 1 << 41, np.int64(1 << 42)]


@pytest.mark.parametrize(
    "given",
    [np.arange(10), pa.array([f"key {i}" for i in range(10)]), ["key a", "key b"], LISTED],
    ids=["array", "arrow", "str", "int"],
)
def test_packed_keys_are_a_copy_that_holds_no_reference(given):
    """What another thread does to the array while its keys are in use is of no account."""
    before = [sys.getrefcount(given), *map(sys.getrefcount, given)]
    key_type = "int" if isinstance(given[0], (int, np.integer)) else "str"
    packed = ehub._arrays.as_keys(given, key_type, "items")
    assert len(packed) == len(given)
    assert [sys.getrefcount(given), *map(sys.getrefcount, given)] == before


def mixed_texts(count: int) -> list[str]:
    """Very many keys: short and long, ASCII and not, one behind the other."""
    endings = ("", "é", "日本", "x" * 300, "😀")
    return [f"{i}{endings[i * i % 7 % 5]}" for i in range(count)]


def test_very_many_strings_of_all_kinds_are_packed_as_they_are(strings):
    keys = mixed_texts(100_000)
    strings.multiset(keys, numbers(len(keys)))
    assert sorted(strings.keys().tolist()) == sorted(keys)
    shuffled = np.random.default_rng(0).permutation(len(keys))
    found = strings.multiget([keys[i] for i in shuffled.tolist()])
    np.testing.assert_array_equal(found.ravel(), shuffled)


@pytest.mark.parametrize("wrong", [7, "", "x" * 1025, "\ud800", None, "é" * 600])
def test_the_first_wrong_of_very_many_keys_is_named(strings, wrong):
    keys = mixed_texts(100_000)
    keys[90_000] = keys[70_003] = wrong
    with pytest.raises(ehub.InvalidKeyError, match="key 70003 "):
        strings.multiget(keys)
