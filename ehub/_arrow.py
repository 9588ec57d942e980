"""Arrow tables, in and out, without a Python object per row.

Whatever exports the Arrow C interface (pyarrow, polars, pandas, duckdb) is read through pyarrow,
the extra `ehub[arrow]`. Nothing here imports it before it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ehub.errors import DimensionError, InvalidArgumentError, InvalidKeyError, InvalidVectorError
from ehub.types import KeyArray, KeyType, Vectors

if TYPE_CHECKING:
    import pyarrow as pa

KEY_COLUMN = "key"
VECTOR_COLUMN = "vector"


def exports_arrow(data: object) -> bool:
    """Whether `data` offers itself through the Arrow C interface."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def import_pyarrow() -> Any:
    """The module pyarrow, or an error that says how to get it."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("Arrow data needs pyarrow: pip install 'ehub[arrow]'") from error
    return pyarrow


# --- in ---


def read_batches(
    data: Any, key_column: str, vector_column: str
) -> Iterator[tuple[pa.Array, pa.Array]]:
    """The key and vector columns of each record batch of a table, a batch or a stream."""
    pa = import_pyarrow()
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        names, batches = reader.schema.names, reader
    else:
        batch = pa.record_batch(data)
        names, batches = batch.schema.names, [batch]
    for column in (key_column, vector_column):
        if names.count(column) != 1:
            raise InvalidArgumentError(
                f"no column, or more than one, is named {column!r:.100}; the columns are "
                f"{names!r:.500}"
            )
    for batch in batches:
        yield batch.column(key_column), batch.column(vector_column)


def as_one_array(data: Any) -> pa.Array:
    """An Arrow array of anything that exports one, its chunks joined."""
    pa = import_pyarrow()
    if isinstance(data, pa.Array):
        return data
    if hasattr(data, "__arrow_c_stream__"):
        data = pa.chunked_array(data)
        if data.num_chunks == 0:
            return pa.array([], data.type)
        return data.chunk(0) if data.num_chunks == 1 else pa.concat_arrays(data.chunks)
    return pa.array(data)


def as_lists(data: Any) -> pa.Array | None:
    """Vectors that are one Arrow array, which numpy would not understand; None: it would.

    That is what pyarrow has, and a series of lists of any other library.
    """
    if type(data).__module__.partition(".")[0] == "pyarrow":
        return as_one_array(data)
    if not exports_arrow(data) or len(getattr(data, "shape", (0,))) != 1:
        return None
    try:
        array = as_one_array(data)
    except (ImportError, ValueError, TypeError, NotImplementedError):
        return None
    types = import_pyarrow().types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return array if any(is_list(array.type) for is_list in lists) else None


def integer_keys(array: pa.Array, space: str) -> KeyArray:
    """The keys of an array of integers, in place if they are int64."""
    pa = import_pyarrow()
    require_no_null(array, "key", InvalidKeyError)
    if not pa.types.is_integer(array.type):
        raise InvalidKeyError(f"the keys are Arrow {array.type}; space {space!r} has int keys")
    return np.asarray(array.to_numpy(zero_copy_only=False))


def string_keys(array: pa.Array, space: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The keys of an array of strings: where each begins and ends, and the bytes in place."""
    pa = import_pyarrow()
    require_no_null(array, "key", InvalidKeyError)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kinds = (
        pa.types.is_string,
        pa.types.is_large_string,
        getattr(pa.types, "is_string_view", None),
    )
    if not any(kind is not None and kind(array.type) for kind in kinds):
        raise InvalidKeyError(f"the keys are Arrow {array.type}; space {space!r} has str keys")
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = array.cast(pa.large_string())
    try:
        array.validate(full=True)  # that it is UTF-8, among other things
    except pa.ArrowInvalid as error:
        raise InvalidKeyError(f"the keys are no valid Arrow strings: {error}") from None
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    width = np.int32 if pa.types.is_string(array.type) else np.int64
    offsets = np.frombuffer(offset_buffer, width)[array.offset : array.offset + len(array) + 1]
    data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return np.ascontiguousarray(offsets, np.int64), data


def vector_values(array: pa.Array, dims: int, space: str) -> NDArray[Any]:
    """The vectors of a column of lists as an array [n, dims] of the column's type, in place."""
    pa = import_pyarrow()
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    require_no_null(array, "vector", InvalidVectorError)
    if pa.types.is_fixed_size_list(array.type):
        if len(array) and array.type.list_size != dims:
            raise wrong_dims(0, array.type.list_size, dims, space)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        sizes = np.asarray(array.value_lengths())
        if (wrong := np.flatnonzero(sizes != dims)).size:
            raise wrong_dims(int(wrong[0]), int(sizes[wrong[0]]), dims, space)
    else:
        raise InvalidVectorError(
            f"the vectors are Arrow {array.type}; expected lists of {dims} numbers"
        )
    values = array.flatten()
    require_no_null(values, "number", InvalidVectorError)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise InvalidVectorError(f"the vectors are Arrow {array.type}; expected lists of numbers")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), dims)


def wrong_dims(row: int, found: int, dims: int, space: str) -> DimensionError:
    """The error for a row with the wrong number of dims."""
    return DimensionError(f"vector {row} has {found} dims; space {space!r} has {dims}")


def require_no_null(array: pa.Array, what: str, error: type[Exception]) -> None:
    """Refuse an array with a null."""
    if array.null_count:
        row = int(np.flatnonzero(np.asarray(array.is_null()))[0])
        raise error(f"{what} {row} is null")


# --- out ---


def schema(dims: int, key_type: KeyType) -> pa.Schema:
    """The columns of what is exported."""
    pa = import_pyarrow()
    keys = pa.string() if key_type == "str" else pa.int64()
    return pa.schema(
        [
            pa.field(KEY_COLUMN, keys, nullable=False),
            pa.field(VECTOR_COLUMN, pa.list_(pa.float32(), dims), nullable=False),
        ]
    )


def record_batches(
    rows: Iterable[tuple[KeyArray, Vectors]], columns: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Record batches over arrays of keys and vectors, the vectors in place."""
    pa = import_pyarrow()
    for keys, vectors in rows:
        key_array = pa.array(keys, columns.field(0).type)
        buffers = [None, pa.py_buffer(vectors)]
        values = pa.Array.from_buffers(pa.float32(), vectors.size, buffers)
        vector_type = columns.field(1).type
        vector_array = pa.FixedSizeListArray.from_buffers(
            vector_type, len(keys), [None], children=[values]
        )
        yield pa.record_batch([key_array, vector_array], schema=columns)
