"""Keys and vectors as they travel, and back: no Python object per row but where keys are texts.

Arrays that come out of a message lie in its bytes: they are read-only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ehub._native._store import Keys
from ehub.errors import DimensionError, InvalidArgumentError, InvalidKeyError
from ehub.types import KeyArray, KeyType, Vectors
from ehub.wire import ehub_pb2 as pb

__all__ = [
    "array_of",
    "floats_of",
    "joined_rows",
    "key_array",
    "key_count",
    "keys_message",
    "message_slice",
    "native_keys",
    "numbers",
    "pack_array",
    "rows_in",
    "varint",
    "vectors_message",
    "vectors_pieces",
    "within",
]

EMPTY_OFFSETS = np.zeros(1, np.int64)
LENGTH_DELIMITED = 2
# Numbers as they travel.
DTYPES = {kind: np.dtype(kind) for kind in ("<u2", "<u4", "<u8", "<i8", "<f4", "<f8")}


# --- keys ---


def keys_message(keys: Keys, key_type: KeyType) -> pb.Keys:
    """Packed keys as a message."""
    data, lengths = keys.packed()
    return pb.Keys(integers=data) if key_type == "int" else pb.Keys(utf8=data, lengths=lengths)


def pack_array(keys: KeyArray) -> pb.Keys:
    """An array of keys, as the engine gives it, as a message."""
    if keys.dtype == np.int64:
        return pb.Keys(integers=np.ascontiguousarray(keys, "<i8").tobytes())
    return keys_message(Keys.of_objects(keys.tolist(), "str", ""), "str")


def key_count(keys: pb.Keys) -> int:
    """How many keys there are."""
    return len(keys.integers) // 8 + len(keys.lengths) // 2


def native_keys(keys: pb.Keys, key_type: KeyType) -> Keys:
    """The keys of a message, all checked, for the engine."""
    if key_type == "int":
        if keys.utf8 or keys.lengths:
            raise InvalidKeyError("the keys are str; expected int, as the space has")
        return Keys.of_integers(numbers(keys.integers, "<i8", "keys"))
    if keys.integers:
        raise InvalidKeyError("the keys are int; expected str, as the space has")
    offsets = offsets_of(keys)
    data = np.frombuffer(keys.utf8, np.uint8)
    try:
        keys.utf8.decode()
    except UnicodeDecodeError as error:
        row = int(np.searchsorted(offsets, error.start, "right")) - 1
        raise InvalidKeyError(f"key {row} is no UTF-8: {error}") from None
    inner = offsets[1:-1]
    torn = np.flatnonzero((data[inner[inner < len(data)]] & 0xC0) == 0x80)
    if len(torn):
        raise InvalidKeyError(f"key {torn[0]} is no UTF-8: it ends within a character")
    return Keys.of_utf8(offsets, data)


def key_array(keys: pb.Keys, key_type: KeyType) -> KeyArray:
    """The keys of a message as users have them: int64, or Python strings."""
    if keys.integers:
        return numbers(keys.integers, "<i8", "keys").astype(np.int64)
    if not keys.lengths:
        return cast("KeyArray", np.empty(0, np.int64 if key_type == "int" else np.object_))
    ends = offsets_of(keys).tolist()
    text = keys.utf8.decode()
    out = np.empty(len(ends) - 1, np.object_)
    if len(text) == len(keys.utf8):
        out[:] = [text[a:b] for a, b in pairwise(ends)]
    else:
        data = keys.utf8
        out[:] = [data[a:b].decode() for a, b in pairwise(ends)]
    return out


def offsets_of(keys: pb.Keys) -> NDArray[np.int64]:
    """Where each key of str keys begins, and where the last one ends."""
    if not keys.lengths and not keys.utf8:
        return EMPTY_OFFSETS
    lengths = numbers(keys.lengths, "<u2", "lengths of keys")
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != len(keys.utf8):
        raise InvalidKeyError(
            f"the keys have {len(keys.utf8)} bytes, and their lengths the sum {offsets[-1]}"
        )
    return offsets


# --- numbers ---


def numbers(data: bytes | memoryview, dtype: str, what: str) -> NDArray[Any]:
    """Numbers that travelled as bytes."""
    kind = DTYPES[dtype]
    if len(data) % kind.itemsize:
        raise InvalidArgumentError(
            f"{what} have {len(data)} bytes; expected a multiple of {kind.itemsize}"
        )
    return np.frombuffer(data, kind)


def vectors_message(vectors: Vectors) -> pb.Vectors:
    """float32[n, dims] as a message."""
    return pb.Vectors(dims=vectors.shape[1], values=np.ascontiguousarray(vectors, "<f4").tobytes())


def array_of(vectors: pb.Vectors) -> Vectors:
    """The message as float32[n, dims], in bytes that protobuf copies out of it."""
    return rows_in(vectors.values, vectors.dims)


def rows_in(values: bytes | memoryview, dims: int) -> Vectors:
    """The bytes of vectors as float32[n, dims]."""
    flat = numbers(values, "<f4", "vectors")
    if dims == 0:
        if len(flat):
            raise DimensionError("vectors have 0 dims and are not empty")
        return flat.reshape(0, 0)
    if len(flat) % dims:
        raise DimensionError(
            f"vectors have {len(flat)} numbers; expected a multiple of their {dims} dims"
        )
    return flat.reshape(-1, dims)


def floats_of(data: bytes, what: str) -> NDArray[np.float64] | None:
    """Weights; none if there are no bytes."""
    return numbers(data, "<f8", what) if data else None


def joined_rows(parts: list[Vectors], dims: int) -> Vectors:
    """Rows that came in several messages, at any address, as an array of the caller's own."""
    joined = np.empty((sum(map(len, parts)), dims), np.float32)
    end = 0
    for part in parts:
        begin, end = end, end + len(part)
        # As bytes, for numpy takes longer where numbers are not at their addresses.
        joined[begin:end].view(np.uint8)[...] = part.view(np.uint8)
    return joined


# --- messages that are packed here ---
#
# Protobuf copies bytes when they are put into a message, when that is put into another one, and
# when it is packed. So of large messages the small parts are packed by protobuf, and arrays are put
# between them.


def message_slice(keys: pb.Keys, key_type: KeyType, begin: int, end: int) -> pb.Keys:
    """Some keys of a message whose keys are sound."""
    if key_type == "int":
        return pb.Keys(integers=keys.integers[8 * begin : 8 * end])
    lengths = keys.lengths[2 * begin : 2 * end]
    first = int(numbers(keys.lengths[: 2 * begin], "<u2", "lengths").sum(dtype=np.int64))
    size = int(numbers(lengths, "<u2", "lengths").sum(dtype=np.int64))
    return pb.Keys(utf8=keys.utf8[first : first + size], lengths=lengths)


def vectors_pieces(vectors: Vectors) -> list[Any]:
    """float32[n, dims] as the pieces of a message, not copied."""
    head = pb.Vectors(dims=vectors.shape[1]).SerializeToString()
    return within(head, pb.Vectors.VALUES_FIELD_NUMBER, [np.ascontiguousarray(vectors, "<f4")])


def within(outer: bytes, field: int, inner: list[Any]) -> list[Any]:
    """Pieces of a message: `outer`, with what the pieces `inner` make together in a field of it."""
    size = sum(memoryview(piece).nbytes for piece in inner)
    return [outer, varint(field << 3 | LENGTH_DELIMITED) + varint(size), *inner]


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths and tags: 7 bits a byte, the low ones first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
