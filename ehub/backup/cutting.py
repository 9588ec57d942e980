"""Files cut into pieces so that equal contents become equal pieces.

A file that has grown since has its old pieces and then new ones. The vectors of segments that were
merged have the pieces that they had before, too: they are cut where the rows themselves say so, and
not at places that depend on what came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ehub.errors import CorruptionError

__all__ = ["PIECE_BYTES_MAX", "pieces_of"]

PIECE_BYTES_MIN = 128 << 10
PIECE_BYTES_MAX = 4 << 20
# What a piece of vectors has on average beyond the least; a piece of anything else has both.
PIECE_BYTES_MORE = 128 << 10
READ_BYTES = 32 << 20

# Of the 64-bit golden ratio: the upper bits of a product depend on all bits of the number.
SPREAD = np.uint64(0x9E3779B97F4A7C15)


def pieces_of(file: BinaryIO, size: int, row_bytes: int) -> Iterator[bytes]:
    """The first `size` bytes of a file in pieces; a CorruptionError if it has fewer.

    Args:
        file: Where it begins.
        size: How many bytes count.
        row_bytes: Of the vectors that the file has and nothing else; 0 if it has something else.
    """
    data = b""
    left = size
    while left:
        read = file.read(min(READ_BYTES, left))
        if not read:
            raise CorruptionError(f"{file.name}: damaged: the file ends {left} bytes early")
        left -= len(read)
        data += read
        done = 0
        for end in ends_of(data, row_bytes, is_last=not left):
            yield data[done:end]
            done = end
        data = data[done:]


def ends_of(data: bytes, row_bytes: int, *, is_last: bool) -> Iterator[int]:
    """Where pieces of `data` end; what is behind the last end wants more bytes to be judged."""
    least, most, marks = (
        PIECE_BYTES_MIN + PIECE_BYTES_MORE,
        PIECE_BYTES_MIN + PIECE_BYTES_MORE,
        None,
    )
    if row_bytes:
        least, most = whole_rows(PIECE_BYTES_MIN, row_bytes), whole_rows(PIECE_BYTES_MAX, row_bytes)
        marks = marked_ends(data, row_bytes)
    start = 0
    while len(data) - start >= most or (is_last and start < len(data)):
        end = min(start + most, len(data))
        if marks is not None:
            at = int(np.searchsorted(marks, start + least))
            end = min(end, int(marks[at])) if at < len(marks) else end
        yield end
        start = end


def whole_rows(size: int, row_bytes: int) -> int:
    """At most so many bytes, and at least a row."""
    return max(size // row_bytes, 1) * row_bytes


def marked_ends(data: bytes, row_bytes: int) -> NDArray[np.int64]:
    """Where the rows end after which a piece may end: those whose hash says so."""
    rows = len(data) // row_bytes
    kind = np.dtype("<u8" if row_bytes % 8 == 0 else "<u4")
    words = np.frombuffer(data, kind, rows * row_bytes // kind.itemsize).reshape(rows, -1)
    hashes = np.bitwise_xor.reduce(words, axis=1).astype(np.uint64) * SPREAD
    share = max(PIECE_BYTES_MORE // row_bytes, 1)
    marked = np.flatnonzero(hashes < np.uint64((1 << 64) // share - 1))
    return (marked + 1) * row_bytes
