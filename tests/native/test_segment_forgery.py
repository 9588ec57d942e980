"""Files made up by an enemy: every checksum is right, the contents are not."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from segment_contents import (
    BLOCK_BYTES,
    DIRECTORY,
    FOOTER,
    SECTIONS,
    Contents,
    code_of,
    failures,
    integer_key,
    questions,
    reopen,
    seal,
    small_contents,
    wrong_answers,
)

from ehub._native import _testing as native


@pytest.fixture
def fs():
    system = native.FaultFileSystem()
    system.make_directory(DIRECTORY)
    return system


def sections_of(data: bytes) -> dict[str, tuple[int, int]]:
    """Offset and length of each section, as the footer says."""
    numbers = FOOTER.unpack(data[-FOOTER.size :])
    return {name: numbers[2 * i : 2 * i + 2] for i, name in enumerate(SECTIONS)}


def sign(data: bytearray, info) -> bytes:
    """Make all checksums of a .seg right again, and the manifest agree."""
    sections = sections_of(bytes(data))
    covered, vector_bytes = sections["vector_crcs"]
    at, _ = sections["segment_crcs"]
    for block in range(0, covered, BLOCK_BYTES):
        crc = native.crc32c(bytes(data[block : min(block + BLOCK_BYTES, covered)]))
        struct.pack_into("<I", data, at + block // BLOCK_BYTES * 4, crc)
    return sign_footer(data, info, bytes(data[covered:at][:vector_bytes]), bytes(data[at:-192]))


def sign_footer(data: bytearray, info, vector_crcs: bytes, segment_crcs: bytes) -> bytes:
    crcs = [native.crc_mask(native.crc32c(crcs)) for crcs in (vector_crcs, segment_crcs)]
    struct.pack_into("<2I", data, len(data) - 20, *crcs)
    info.footer_crc = native.crc_mask(native.crc32c(bytes(data[-192:-12])))
    struct.pack_into("<I", data, len(data) - 12, info.footer_crc)
    return bytes(data)


@pytest.mark.parametrize("integer_keys", [False, True], ids=["str", "int"])
def test_made_up_sections_never_get_past_verify_as_a_wrong_key(fs, integer_keys):
    contents = small_contents(integer_keys=integer_keys)
    info = seal(fs, contents)
    path = native.segment_path(DIRECTORY, 1)
    good = fs.contents(path)
    asked = [
        (ask, right)
        for ask, right in questions(contents)
        if ask.__defaults__ is None or "born" not in ask.__code__.co_names
    ]
    rng = random.Random(21)
    names = ["key_bytes", "key_table", "older_rows"] + ([] if integer_keys else ["key_ends"])
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 8])):
            offset, length = sections_of(good)[rng.choice(names)]
            data[offset + rng.randrange(length)] = rng.choice(
                [0, 1, 0x7F, 0xFF, rng.randrange(256)]
            )
        fs.set_contents(path, sign(data, info))
        segment = reopen(fs, contents, info)
        failures(segment, asked)
        verified = code_of(segment.verify)
        assert verified in ("Ok", "Corruption")
        if verified == "Ok":
            assert failures(segment, asked) == 0
            assert wrong_answers(segment, asked) == []


def test_made_up_births_never_crash(fs):
    contents = small_contents(integer_keys=True)
    info = seal(fs, contents)
    path = native.segment_path(DIRECTORY, 1)
    good = fs.contents(path)
    offset, length = sections_of(good)["births"]
    rng = random.Random(22)
    for _ in range(500):
        data = bytearray(good)
        for _ in range(rng.choice([1, 4])):
            data[offset + rng.randrange(length)] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        fs.set_contents(path, sign(data, info))
        segment = reopen(fs, contents, info)
        for row in range(len(contents.rows)):
            assert code_of(lambda s=segment, r=row: s.born(r)) in ("Ok", "Corruption")
        for seq in range(0, info.seq_max + 2):
            assert code_of(lambda s=segment, q=seq: s.rows_at(q)) in ("Ok", "Corruption")


def test_a_made_up_footer_is_refused_or_harmless(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    path = native.segment_path(DIRECTORY, 1)
    good = fs.contents(path)
    asked = list(questions(contents))
    rng = random.Random(23)
    rejected = 0
    for _ in range(3000):
        data = bytearray(good)
        at = len(data) - FOOTER.size + 4 * rng.randrange((FOOTER.size - 20) // 4)
        old = struct.unpack_from("<I", data, at)[0]
        new = rng.choice([0, 1, 2**31, 2**32 - 1, old + 1, old - 1, old + 64, rng.randrange(2**32)])
        struct.pack_into("<I", data, at, new % 2**32)
        sections = sections_of(good)
        crcs = [
            bytes(good[sections[name][0] :][: sections[name][1]])
            for name in ("vector_crcs", "segment_crcs")
        ]
        fs.set_contents(path, sign_footer(data, info, *crcs))
        segment = reopen(fs, contents, info)
        rejected += failures(segment, asked[:30]) == 30
        verified = code_of(segment.verify)
        assert verified in ("Ok", "Corruption")
        assert verified == "Corruption" or wrong_answers(segment, asked) == []
    assert rejected > 2000


def forged(fs, contents: Contents, info, section: str, numbers: tuple[int, ...], step: int = 1):
    """The segment with a section that begins with these u32, `step` places apart."""
    data = bytearray(fs.contents(native.segment_path(DIRECTORY, 1)))
    for place, number in enumerate(numbers):
        at = sections_of(bytes(data))[section][0] + 4 * step * place
        struct.pack_into("<I", data, at, number)
    fs.set_contents(native.segment_path(DIRECTORY, 1), sign(data, info))
    return reopen(fs, contents, info)


def test_a_table_without_an_empty_slot_ends_every_search(fs):
    contents = small_contents(integer_keys=True)
    info = seal(fs, contents)
    buckets = native.key_table_buckets(len(contents.rows))
    path = native.segment_path(DIRECTORY, 1)
    data = bytearray(fs.contents(path))
    struct.pack_into("<I", data, len(data) - 24, buckets)  # the most probes that a footer may ask
    fs.set_contents(path, bytes(data))
    segment = forged(fs, contents, info, "key_table", (1,) * (16 * buckets))
    assert all(segment.find(integer_key(number)) is None for number in range(1000))


def test_older_rows_lead_back_in_time_or_are_damage(fs):
    rows = [(integer_key(row % 2), 1, 0) for row in range(4)]
    contents = Contents(1, True, rows, np.zeros((4, 1), np.float32))
    info = seal(fs, contents)
    forged(fs, contents, info, "older_rows", (2, 0, 3, 1)).verify()
    for pairs in [
        (2, 1, 3, 0),
        (2, 0, 3, 0),
        (3, 1, 2, 0),
        (2, 2, 3, 1),
        (2, 3, 3, 1),
        (0, 0, 3, 1),
    ]:
        segment = forged(fs, contents, info, "older_rows", pairs)
        assert code_of(segment.verify) == "Corruption", pairs
        for row in range(4):
            older = (
                segment.older(row) if code_of(lambda s=segment, r=row: s.older(r)) == "Ok" else 0
            )
            assert older is None or older < row or row == older == 0, pairs


def test_verify_counts_the_slots_of_the_table(fs):
    contents = Contents(1, True, [(integer_key(1), 1, 0)], np.zeros((1, 1), np.float32))
    info = seal(fs, contents)
    forged(fs, contents, info, "key_table", (1, 1), step=15)  # the last slot, which was empty
    assert code_of(reopen(fs, contents, info).verify) == "Corruption"
