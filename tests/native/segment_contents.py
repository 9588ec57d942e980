"""What a segment should say, every question about it, and how the answers are judged."""

from __future__ import annotations

import bisect
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ehub._native import _testing as native

SEED = 0x1234_5678_9ABC_DEF0
DIRECTORY = "/segments"
BLOCK_BYTES = 64 << 10
SECTIONS = (
    "key_ends",
    "key_bytes",
    "key_table",
    "births",
    "partitions",
    "older_rows",
    "vector_crcs",
    "segment_crcs",
)
FOOTER = struct.Struct("<16Q 3Q 8I 8s")
DAMAGE = {"Corruption", "Format"}


@dataclass
class Contents:
    """What a segment should say: the oracle, as slow and obvious as it can be."""

    dims: int
    integer_keys: bool
    rows: list[tuple[bytes, int, int]] = field(default_factory=list)  # key, birth, partition
    vectors: Any = None

    @property
    def schema(self):
        return native.Schema(self.dims, self.integer_keys)

    def rows_of(self, key: bytes) -> list[int]:
        return [row for row, (other, _, _) in enumerate(self.rows) if other == key]

    def rows_at(self, seq: int) -> int:
        return bisect.bisect_right([birth for _, birth, _ in self.rows], seq)


def integer_key(number: int) -> bytes:
    return struct.pack("<q", number)


def random_contents(
    rng: random.Random, rows: int, dims: int, *, integer_keys: bool, keys: int, partitions: int
) -> Contents:
    """Rows under `keys` different keys at most, in batches of about 7 rows."""
    contents = Contents(dims, integer_keys)
    names = [
        integer_key(rng.randrange(-(2**63), 2**63))
        if integer_keys
        else rng.randbytes(rng.choice([0, 1, 5, 8, 20, 300])).hex().encode()
        for _ in range(keys)
    ]
    born = rng.randrange(1, 1000)
    for _ in range(rows):
        if rng.random() < 1 / 7:
            born += rng.randrange(1, 5)
        contents.rows.append((rng.choice(names), born, rng.randrange(partitions + 1)))
    contents.vectors = np.random.default_rng(rng.randrange(2**32)).random(
        (rows, dims), dtype=np.float32
    )
    return contents


def seal(fs, contents: Contents, directory: str = DIRECTORY, segment_id: int = 1):
    """Write both files as the store does; return what the manifest would say of them."""
    rows = len(contents.rows)
    path = native.vector_path(directory, segment_id)
    vectors = native.VectorFile.create(fs, path, contents.dims, max(rows, 1))
    vectors.append(contents.vectors)
    vectors.finish()
    return native.write_segment(
        fs, directory, segment_id, contents.schema, SEED, contents.rows, vectors.block_crcs
    )


def reopen(fs, contents: Contents, info, directory: str = DIRECTORY):
    return native.SealedSegment(fs, directory, contents.schema, SEED, info)


def questions(contents: Contents) -> Iterator[tuple[Callable[[Any], Any], Any]]:
    """Every question about the rows, with its right answer."""
    last_of: dict[bytes, int] = {}
    older: list[int | None] = []
    for row, (key, _, _) in enumerate(contents.rows):
        older.append(last_of.get(key))
        last_of[key] = row
    for row, (key, born, partition) in enumerate(contents.rows):
        yield (lambda s, r=row: s.vectors(r, 1).tobytes()), contents.vectors[row].tobytes()
        yield (lambda s, r=row: s.key(r)), key
        yield (lambda s, r=row: s.born(r)), born
        yield (lambda s, r=row: s.partition(r)), partition
        yield (lambda s, r=row: s.older(r)), older[row]
        yield (lambda s, k=key: s.find(k)), last_of[key]
    for born in {born for _, born, _ in contents.rows}:
        yield (lambda s, b=born: s.rows_at(b)), contents.rows_at(born)
    absent = integer_key(12345) if contents.integer_keys else b"nobody has this key"
    yield (lambda s: s.find(absent)), last_of.get(absent)
    everyone = [*last_of, absent]
    yield (lambda s: s.find_many(everyone)), [last_of.get(key) for key in everyone]


def wrong_answers(segment, asked: list[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
    """Answers that are neither right nor an honest report of damage."""
    wrong = []
    for ask, right in asked:
        try:
            answer = ask(segment)
        except native.StatusError as error:
            answer = right if error.code in DAMAGE else error
        if answer != right:
            wrong.append((answer, right))
    return wrong


def failures(segment, asked: list[tuple[Callable[[Any], Any], Any]]) -> int:
    """How many questions were answered with a report of damage."""
    count = 0
    for ask, _ in asked:
        try:
            ask(segment)
        except native.StatusError:
            count += 1
    return count


def code_of(call: Callable[[], Any]) -> str:
    """Ok, or why the call failed."""
    try:
        call()
    except native.StatusError as error:
        return error.code
    return "Ok"


def set_byte(fs, path: str, data: bytes, at: int, byte: int) -> None:
    fs.set_contents(path, data[:at] + bytes([byte]) + data[at + 1 :])


def small_contents(*, integer_keys: bool) -> Contents:
    return random_contents(
        random.Random(11), 15, 5, integer_keys=integer_keys, keys=10, partitions=2
    )
