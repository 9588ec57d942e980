"""Of a damaged segment every row is salvaged that can be proven, and no other."""

from __future__ import annotations

import random

import pytest
from segment_contents import (
    BLOCK_BYTES,
    DIRECTORY,
    FOOTER,
    SECTIONS,
    SEED,
    random_contents,
    seal,
    set_byte,
    small_contents,
)

from ehub._native import _testing as native

SCRATCH = 99
SEGMENT, VECTORS = native.segment_path(DIRECTORY, 1), native.vector_path(DIRECTORY, 1)
WHOLE = (True, True, True, True)  # vector, key, birth, partition


@pytest.fixture
def fs():
    system = native.FaultFileSystem()
    system.make_directory(DIRECTORY)
    return system


def salvage(fs, contents, info):
    proven = native.salvage_segment(fs, DIRECTORY, contents.schema, SEED, info, SCRATCH)
    assert native.segment_path(DIRECTORY, SCRATCH) not in fs.paths()
    return proven


def places(data: bytes) -> dict[str, range]:
    """Where the sections are."""
    numbers = FOOTER.unpack_from(data, len(data) - FOOTER.size)
    return {
        name: range(numbers[2 * i], numbers[2 * i] + numbers[2 * i + 1])
        for i, name in enumerate(SECTIONS)
    }


@pytest.mark.parametrize("integer_keys", [False, True], ids=["str", "int"])
def test_a_flip_costs_nothing_unless_it_hits_what_follows_from_nothing_else(fs, integer_keys):
    """All of this segment is one block."""
    contents = small_contents(integer_keys=integer_keys)
    info = seal(fs, contents)
    data = fs.contents(SEGMENT)
    where = places(data)
    names = ("key_ends", "key_bytes", "births", "partitions")
    needed = {at for name in names for at in where[name]}
    births = where["births"]
    needed -= {at for at in births if (at - births[0]) % 16 in range(4, 8)}  # always 0
    for at in range(len(data) - FOOTER.size):
        set_byte(fs, SEGMENT, data, at, data[at] ^ 1 << at % 8)
        proven = salvage(fs, contents, info)
        expected = (True, False, False, False) if at in needed else WHOLE
        assert set(proven) == {expected}, at


def test_one_damaged_byte_of_the_footer_costs_nothing_and_more_leave_no_proof(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    data = fs.contents(SEGMENT)
    begin = len(data) - FOOTER.size
    for at in range(begin, len(data)):
        set_byte(fs, SEGMENT, data, at, data[at] ^ random.Random(at).randrange(1, 256))
        assert set(salvage(fs, contents, info)) == {WHOLE}
    fs.set_contents(SEGMENT, data[: begin + 50] + b"????" + data[begin + 54 :])
    with pytest.raises(native.StatusError) as damage:
        salvage(fs, contents, info)
    assert damage.value.code == "Corruption"


def test_rows_outside_a_damaged_block_of_vectors_are_whole(fs):
    dims = 64
    contents = random_contents(
        random.Random(8), 2000, dims, integer_keys=True, keys=2000, partitions=0
    )
    info = seal(fs, contents)
    data = fs.contents(VECTORS)
    rows_per_block = BLOCK_BYTES // (dims * 4)
    hit = range(3 * rows_per_block, 4 * rows_per_block)
    set_byte(fs, VECTORS, data, 3 * BLOCK_BYTES + 5, data[3 * BLOCK_BYTES + 5] ^ 1)
    proven = salvage(fs, contents, info)
    assert [row for row, parts in enumerate(proven) if parts != WHOLE] == list(hit)
    assert proven[hit[0]] == (False, True, True, True)


@pytest.mark.parametrize("cut", [0, 1, BLOCK_BYTES, 5 * BLOCK_BYTES - 1, 5 * BLOCK_BYTES])
def test_of_vectors_that_were_cut_off_the_blocks_count_that_are_left(fs, cut):
    contents = random_contents(
        random.Random(8), 2000, 64, integer_keys=True, keys=2000, partitions=0
    )
    info = seal(fs, contents)
    fs.set_contents(VECTORS, fs.contents(VECTORS)[:cut])
    left = cut // BLOCK_BYTES * (BLOCK_BYTES // 256)
    assert [parts[0] for parts in salvage(fs, contents, info)] == [
        row < left for row in range(2000)
    ]
    fs.remove(VECTORS)
    assert set(salvage(fs, contents, info)) == {(False, True, True, True)}


@pytest.mark.parametrize("path", [SEGMENT, VECTORS])
def test_bytes_behind_the_end_change_nothing(fs, path):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    fs.set_contents(path, fs.contents(path) + b"x" * 1000)
    assert set(salvage(fs, contents, info)) == {WHOLE}


def test_damaged_checksums_are_proven_by_the_blocks_as_long_as_those_are_whole(fs):
    contents = random_contents(
        random.Random(8), 2000, 64, integer_keys=True, keys=2000, partitions=0
    )
    info = seal(fs, contents)
    data = fs.contents(SEGMENT)
    at = places(data)["vector_crcs"][8]
    set_byte(fs, SEGMENT, data, at, data[at] ^ 1)
    assert set(salvage(fs, contents, info)) == {WHOLE}
    vectors = fs.contents(VECTORS)
    set_byte(fs, VECTORS, vectors, 5 * BLOCK_BYTES, vectors[5 * BLOCK_BYTES] ^ 1)
    per_block = BLOCK_BYTES // 256
    lost = {row for row, parts in enumerate(salvage(fs, contents, info)) if not parts[0]}
    assert lost == {*range(2 * per_block, 3 * per_block), *range(5 * per_block, 6 * per_block)}


def test_rows_in_whole_blocks_of_keys_outlive_the_others(fs):
    contents = random_contents(
        random.Random(8), 30_000, 1, integer_keys=True, keys=30_000, partitions=3
    )
    info = seal(fs, contents)
    data = fs.contents(SEGMENT)
    where = places(data)
    at = where["key_bytes"][0] + BLOCK_BYTES
    set_byte(fs, SEGMENT, data, at, data[at] ^ 1)
    proven = salvage(fs, contents, info)
    lost = [row for row, parts in enumerate(proven) if not parts[1]]
    assert len(lost) == BLOCK_BYTES // 8
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert all(parts[0] and parts[2] and parts[3] for parts in proven)
