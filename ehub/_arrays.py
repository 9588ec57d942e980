"""The one door for input: keys, vectors and numbers as the engine takes them, or a helpful error.

What is right already passes without a copy: contiguous float32, int64 keys, Arrow buffers. (What is
changed meanwhile by another thread is then stored torn; keys are copied when they are packed.)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrow
from ehub._native._store import Keys
from ehub.errors import (
    DimensionError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidVectorError,
    brief,
)
from ehub.types import KeyType, Vectors

PARTITION_BYTES_MAX = 255
FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
FLOAT32_MAX = float(np.finfo(np.float32).max)


# --- vectors ---


def as_laid_out(array: Any, dtype: Any) -> NDArray[Any]:
    """The array with this type, contiguous and aligned; itself, if it is so."""
    laid_out = np.ascontiguousarray(array, dtype)
    return laid_out if laid_out.flags.aligned else laid_out.copy()


def as_vector(vector: Any, dims: int, space: str, what: str = "the vector") -> Vectors:
    """One vector as contiguous float32[dims]."""
    if type(vector) is np.ndarray and vector.shape == (dims,):
        kind, flags = vector.dtype, vector.flags
        if kind is FLOAT32 and flags.c_contiguous and flags.aligned:
            return vector
        if kind is FLOAT16:
            return vector.astype(FLOAT32)
    array = numeric(vector, dims, space, what)
    if array.shape != (dims,):
        raise DimensionError(
            f"{what} has shape {array.shape}; expected ({dims},): space {space!r} has {dims} dims"
        )
    single: Vectors = as_float32(array[np.newaxis], what)[0]
    return single


def as_vectors(vectors: Any, dims: int, space: str, what: str = "vector") -> Vectors:
    """Many vectors as contiguous float32[n, dims]. `what` names one of them."""
    array = numeric(vectors, dims, space, f"each {what}")
    if array.shape == (0,):
        array = array.reshape(0, dims)
    if array.ndim != 2 or array.shape[1] != dims:
        raise DimensionError(
            f"{what}s have shape {array.shape}; expected (n, {dims}), "
            f"as space {space!r} has {dims} dims"
        )
    return as_float32(array, what)


def numeric(values: Any, dims: int, space: str, what: str) -> NDArray[Any]:
    """An array of integers or floats, of any shape."""
    if (lists := _arrow.as_lists(values)) is not None:
        values = _arrow.vector_values(lists, dims, space)
    require_no_mask(values, what, InvalidVectorError)
    try:
        array = np.asarray(values)
    except ValueError as error:
        # numpy's word for rows of different lengths
        raise DimensionError(
            f"{what} must have {dims} dims, as space {space!r} has: {error}"
        ) from None
    if array.dtype.kind not in "fiu":
        raise InvalidVectorError(f"{what} must be numbers, float32 at best; found {array.dtype}")
    return array


def as_float32(array: NDArray[Any], what: str) -> Vectors:
    """Rows as contiguous float32; refuses those that do not fit."""
    if array.dtype == FLOAT32:
        return as_laid_out(array, FLOAT32)
    try:
        with np.errstate(over="raise", under="ignore"):
            return array.astype(FLOAT32, order="C")
    except FloatingPointError:
        beyond = np.isfinite(array) & (np.abs(array) > FLOAT32_MAX)
        row = int(np.flatnonzero(beyond.any(axis=1))[0])
        which = what if what.startswith("the ") else f"{what} {row}"
        raise InvalidVectorError(f"{which} has a number that is too large for float32") from None


def require_no_mask(values: Any, what: str, error: type[Exception]) -> None:
    """Refuse masked numbers: numpy would give what lies under the mask."""
    parts = values if isinstance(values, (list, tuple)) else (values,)
    for part in parts:
        if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
            raise error(f"{what} must not be masked; fill or drop what is")


# --- keys ---


def as_keys(keys: Any, key_type: KeyType, space: str) -> Keys:
    """Many keys, packed."""
    if isinstance(keys, (list, tuple)):
        return Keys.of_objects(keys, key_type, space)
    if isinstance(keys, np.ndarray):
        return array_keys(keys, key_type, space)
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise TypeError(f"expected a collection of keys, not one: {keys!r:.100}")
    if _arrow.exports_arrow(keys):
        return arrow_keys(keys, key_type, space)
    return Keys.of_objects(tuple(keys), key_type, space)


def array_keys(keys: NDArray[Any], key_type: KeyType, space: str) -> Keys:
    """The keys of a numpy array; integers become int64."""
    if keys.ndim != 1:
        raise InvalidKeyError(f"the keys have shape {keys.shape}; expected one dimension")
    require_no_mask(keys, "keys", InvalidKeyError)
    if keys.dtype.kind in "iu" and key_type == "int":
        if keys.dtype.kind == "u" and keys.size and keys.max() > np.iinfo(np.int64).max:
            row = int(np.argmax(keys > np.iinfo(np.int64).max))
            raise InvalidKeyError(
                f"key {row} is {keys[row]}; an int key has at most 64 bits, sign included"
            )
        return Keys.of_integers(as_laid_out(keys, np.int64))
    if keys.dtype.kind in "OUT" or keys.size == 0:
        return Keys.of_objects(keys.tolist(), key_type, space)
    raise InvalidKeyError(f"the keys are {keys.dtype}; space {space!r} has {key_type} keys")


def arrow_keys(keys: Any, key_type: KeyType, space: str) -> Keys:
    """The keys of an Arrow array, or of a series that can be had as one."""
    try:
        array = _arrow.as_one_array(keys)
    except ImportError:
        return Keys.of_objects(tuple(keys), key_type, space)
    if len(array) == 0:
        return Keys.of_objects((), key_type, space)
    if key_type == "int":
        return array_keys(_arrow.integer_keys(array, space), key_type, space)
    return Keys.of_utf8(*_arrow.string_keys(array, space))


def require_order(keys: Any) -> None:
    """Refuse keys that cannot be matched with vectors or weights, one by one."""
    if isinstance(keys, Mapping):
        raise TypeError("the keys are a mapping, which has vectors of its own: no others")
    if isinstance(keys, (set, frozenset)):
        raise TypeError(
            "the keys are a set, whose order is arbitrary: give a list in the order of the rest"
        )


def require_same_length(keys: Keys, vectors: Vectors) -> None:
    """Refuse keys without vectors, and the other way round."""
    if len(keys) != len(vectors):
        raise InvalidArgumentError(f"{len(keys)} keys, but {len(vectors)} vectors")


# --- partitions ---


# The place of a row's partition among the names of a batch, if it has none.
NO_PARTITION = 0xFFFFFFFF


def as_partitions(partition: Any, rows: int) -> tuple[tuple[bytes, ...], NDArray[np.uint32] | None]:
    """Names in UTF-8, and per row which of them: None means the first for all."""
    if partition is None:
        return (), None
    if isinstance(partition, str):
        return (as_partition_name(partition),), None
    labels = partition_labels(partition)
    if len(labels) != rows:
        raise InvalidArgumentError(f"{rows} keys, but {len(labels)} partitions")
    wrong = next((row for row, label in enumerate(labels) if not isinstance(label, str)), None)
    if wrong is not None:
        raise TypeError(f"the partition of row {wrong} is {labels[wrong]!r:.100}; expected a str")
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.uint32)
    return tuple(map(as_partition_name, numbers)), codes


def partition_labels(partition: Any) -> list[Any]:
    """A name for each row, as a list of whatever was given."""
    if isinstance(partition, (bytes, Mapping, set, frozenset)) or not isinstance(
        partition, Iterable
    ):
        raise TypeError(
            f"partition is {partition!r:.100}; expected a str, or a str for each row in their order"
        )
    if isinstance(partition, np.ndarray):
        return list(partition.tolist()) if partition.ndim else [partition.item()]
    if _arrow.exports_arrow(partition):
        return list(_arrow.as_one_array(partition).to_pylist())
    return list(partition)


def as_partition_name(name: Any) -> bytes:
    """A partition's name in UTF-8."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a partition is a str, not {name!r:.100}")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"partition {name!r:.100} has a lone surrogate") from None
    if not 0 < len(encoded) <= PARTITION_BYTES_MAX:
        raise InvalidArgumentError(
            f"partition {name!r:.100} has {len(encoded)} bytes; expected 1 to {PARTITION_BYTES_MAX}"
        )
    return encoded


def as_partition_names(partition: Any) -> tuple[bytes, ...]:
    """One partition or several, to be read."""
    if isinstance(partition, str):
        return (as_partition_name(partition),)
    if isinstance(partition, (bytes, Mapping)) or not isinstance(partition, Iterable):
        raise TypeError(f"partition is {partition!r:.100}; expected a str, or several")
    names = tuple(map(as_partition_name, partition))
    if not names:
        raise InvalidArgumentError("partition is empty; expected at least one name")
    return names


# --- numbers ---


def as_integer(number: Any, what: str, low: int, high: int) -> int:
    """An integer within limits. True is none."""
    if type(number) is int and low <= number <= high:
        return number
    try:
        value = operator.index(number)
    except TypeError:
        value = None
    if value is None or isinstance(number, (bool, np.bool_)):
        raise TypeError(f"{what} is {brief(number)}; expected an int")
    if not low <= value <= high:
        raise InvalidArgumentError(f"{what} is {brief(value)}; expected {low} to {high:,}")
    return value


def as_count(number: Any, what: str) -> int:
    """A number of things."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} is {brief(number)}; expected an int")
    if number < 0:
        raise InvalidArgumentError(f"{what} is {brief(number)}; expected 0 or more")
    return number


def as_share(number: Any, what: str) -> float:
    """A number between 0 and 1, neither of them."""
    if isinstance(number, (bool, str, bytes)):
        raise TypeError(f"{what} is {number!r:.100}; expected a number")
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not 0 < value < 1:
        raise InvalidArgumentError(f"{what} is {value}; expected a number between 0 and 1")
    return value


def as_distance_max(distance: float | None) -> float:
    """The largest distance of a neighbor, as float32 can say it."""
    if distance is None:
        return math.inf
    if isinstance(distance, (bool, str, bytes)):
        raise TypeError(f"max_distance is {distance!r:.100}; expected a number")
    try:
        value = float(distance)
    except OverflowError:
        return math.inf if distance > 0 else -math.inf
    if math.isnan(value):
        raise InvalidArgumentError("max_distance is NaN")
    return math.copysign(math.inf, value) if abs(value) > FLOAT32_MAX else value


def as_weights(weights: Any, rows: int, what: str = "weights") -> NDArray[np.float64] | None:
    """The weight of each row of an average; None is the same for all."""
    if weights is None:
        return None
    require_no_mask(weights, what, InvalidArgumentError)
    try:
        array = np.asarray(weights)
    except ValueError as error:
        raise InvalidArgumentError(f"{what} must be {rows} numbers: {error}") from None
    if array.dtype.kind not in "fiu" and array.shape != (0,):
        raise TypeError(f"{what} are {array.dtype}; expected numbers")
    if array.shape != (rows,):
        raise InvalidArgumentError(f"{what} have shape {array.shape}; expected ({rows},)")
    with np.errstate(over="ignore", invalid="ignore"):  # their sum says so
        return as_laid_out(array, np.float64)
