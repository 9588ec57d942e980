"""A sealed segment gives back what was put into it or says that it is damaged, nothing else."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from segment_contents import (
    BLOCK_BYTES,
    DAMAGE,
    DIRECTORY,
    FOOTER,
    SEED,
    Contents,
    code_of,
    failures,
    integer_key,
    questions,
    random_contents,
    reopen,
    seal,
    set_byte,
    small_contents,
    wrong_answers,
)

from ehub._native import _testing as native


@pytest.fixture
def fs():
    system = native.FaultFileSystem()
    system.make_directory(DIRECTORY)
    return system


# Round trips.


@pytest.mark.parametrize("integer_keys", [False, True], ids=["str", "int"])
@pytest.mark.parametrize("rows", [0, 1, 2, 6, 7, 100, 1000, 5000])
def test_every_row_comes_back_as_it_was_added(fs, rows, integer_keys):
    rng = random.Random(rows)
    dims = rng.choice([1, 2, 3, 17, 100])
    contents = random_contents(
        rng, rows, dims, integer_keys=integer_keys, keys=rows // 2 + 1, partitions=rows % 3
    )
    segment = reopen(fs, contents, seal(fs, contents))
    segment.verify()
    assert segment.row_count() == rows
    assert segment.seq_max() == (contents.rows[-1][1] if rows else 0)
    asked = list(questions(contents))
    assert failures(segment, asked) == 0
    assert wrong_answers(segment, asked) == []


@pytest.mark.parametrize("dims", [1, 3, 384, 1536, 16_384, 65_535])
def test_vectors_of_any_dims_come_back(fs, dims):
    rng = random.Random(dims)
    contents = random_contents(rng, 9, dims, integer_keys=True, keys=9, partitions=0)
    segment = reopen(fs, contents, seal(fs, contents))
    segment.verify()
    for first in range(9):
        np.testing.assert_array_equal(segment.vectors(first, 100), contents.vectors[first:])


def test_many_random_small_segments_come_back(fs):
    for seed in range(300):
        rng = random.Random(seed)
        rows = rng.randrange(0, 40)
        contents = random_contents(
            rng,
            rows,
            rng.randrange(1, 9),
            integer_keys=rng.random() < 0.5,
            keys=rng.randrange(1, 40),
            partitions=rng.choice([0, 0, 3, 2**24]),
        )
        segment = reopen(fs, contents, seal(fs, contents))
        segment.verify()
        asked = list(questions(contents))
        assert failures(segment, asked) == 0, seed
        assert wrong_answers(segment, asked) == [], seed


def test_numpy_maps_the_vector_file_as_it_is(tmp_path):
    fs = native.PosixFileSystem()
    contents = random_contents(
        random.Random(1), 1000, 33, integer_keys=False, keys=900, partitions=2
    )
    info = seal(fs, contents, str(tmp_path), 7)
    mapped = np.memmap(tmp_path / "000000000007.f32", dtype="<f4", mode="r").reshape(1000, 33)
    np.testing.assert_array_equal(mapped, contents.vectors)
    assert (tmp_path / "000000000007.seg").stat().st_size == info.seg_bytes
    segment = reopen(fs, contents, info, str(tmp_path))
    segment.verify()
    assert wrong_answers(segment, list(questions(contents))) == []


def rows_of(segment, keys):
    """The row of each key: looked up alone, and together before and after blocks were checked."""
    together = segment.find_many(keys)
    alone = [segment.find(key) for key in keys]
    assert together == alone == segment.find_many(keys)
    return alone


def test_keys_of_all_lengths_and_bytes_come_back(fs):
    keys = [
        b"",
        b"\0",
        b"\0\0",
        b"a" * 1024,
        "żółć 🙂".encode(),
        *(bytes([b]) for b in range(1, 256)),
    ]
    contents = Contents(1, False, [(key, 1, 0) for key in keys])
    contents.vectors = np.zeros((len(keys), 1), np.float32)
    segment = reopen(fs, contents, seal(fs, contents))
    assert rows_of(segment, keys) == list(range(len(keys)))
    assert rows_of(segment, [b"\0\0\0", b"a" * 1023, b"ab", b"b" * 1024]) == [None] * 4


def test_a_key_written_often_leads_back_through_all_its_rows(fs):
    contents = Contents(1, False, [(b"same", seq, 0) for seq in range(1, 5001)])
    contents.vectors = np.zeros((5000, 1), np.float32)
    segment = reopen(fs, contents, seal(fs, contents))
    segment.verify()
    row = segment.find(b"same")
    seen = []
    while row is not None:
        seen.append(row)
        row = segment.older(row)
    assert seen == list(range(4999, -1, -1))


def test_rows_at_counts_the_rows_born_by_then(fs):
    contents = random_contents(random.Random(5), 500, 1, integer_keys=True, keys=500, partitions=0)
    segment = reopen(fs, contents, seal(fs, contents))
    last = contents.rows[-1][1]
    for seq in [*range(last + 3), 2**63, 2**64 - 1]:
        assert segment.rows_at(seq) == contents.rows_at(seq)


@pytest.mark.parametrize("integer_keys", [True, False])
def test_many_keys_are_found_together(fs, integer_keys):
    contents = random_contents(
        random.Random(6), 700, 1, integer_keys=integer_keys, keys=400, partitions=0
    )
    segment = reopen(fs, contents, seal(fs, contents))
    youngest = {key: row for row, (key, _, _) in enumerate(contents.rows)}
    absent = [integer_key(-n) if integer_keys else b"absent %d" % n for n in range(1, 400)]
    keys = [*youngest, *absent, *youngest]
    random.Random(7).shuffle(keys)
    assert rows_of(segment, keys) == [youngest.get(key) for key in keys]
    assert segment.find_many([]) == []


def test_a_full_last_bucket_overflows_into_the_first(fs):
    candidates = [b"%d" % number for number in range(200)]
    upper = [key for key in candidates if native.hash_key(SEED, key) >> 63 == 1]
    present, absent = upper[:11], upper[11:]
    assert native.key_table_buckets(11) == 2
    contents = Contents(1, False, [(key, 1, 0) for key in present])
    contents.vectors = np.zeros((11, 1), np.float32)
    segment = reopen(fs, contents, seal(fs, contents))
    segment.verify()
    assert rows_of(segment, present) == list(range(11))
    assert rows_of(segment, absent) == [None] * len(absent)


def test_keys_with_equal_fingerprints_are_told_apart(fs):
    seen: dict[int, bytes] = {}
    pairs = []
    for number in range(400_000):
        key = b"%d" % number
        other = seen.setdefault(native.hash_key(SEED, key) & 0xFFFF_FFFF, key)
        if other != key:
            pairs.append((other, key))
    assert pairs
    for first, second in pairs:
        contents = Contents(1, False, [(first, 1, 0), (second, 1, 0)])
        contents.vectors = np.zeros((2, 1), np.float32)
        segment = reopen(fs, contents, seal(fs, contents))
        assert rows_of(segment, [first, second]) == [0, 1]
        contents = Contents(1, False, [(first, 1, 0)], contents.vectors[:1])
        segment = reopen(fs, contents, seal(fs, contents))
        assert rows_of(segment, [first, second]) == [0, None]


def test_keys_with_equal_hashes_are_told_apart(fs):
    """No such text keys are known: these are not UTF-8, and cancel a constant of the hash."""
    keys = [struct.pack("<QQ", 0x8CB9_2BA7_2F3D_8DD7, number) for number in range(20)]
    assert len({native.hash_key(SEED, key) for key in keys}) == 1
    contents = Contents(1, False, [(key, 1, 0) for key in keys[:15]], np.zeros((15, 1), np.float32))
    segment = reopen(fs, contents, seal(fs, contents))
    segment.verify()
    assert rows_of(segment, keys) == [*range(15), *[None] * 5]


# Damage.


@pytest.mark.parametrize("integer_keys", [False, True], ids=["str", "int"])
@pytest.mark.parametrize("suffix", [".f32", ".seg"])
def test_a_flipped_bit_is_never_an_answer(fs, suffix, integer_keys):
    contents = small_contents(integer_keys=integer_keys)
    info = seal(fs, contents)
    path = f"{DIRECTORY}/000000000001{suffix}"
    data = fs.contents(path)
    asked = list(questions(contents))
    rng = random.Random(3)
    for at, byte in enumerate(data):
        everywhere = suffix == ".seg" and (at < 64 or at >= len(data) - FOOTER.size)
        for bit in range(8) if everywhere else [rng.randrange(8)]:
            set_byte(fs, path, data, at, byte ^ (1 << bit))
            segment = reopen(fs, contents, info)
            assert wrong_answers(segment, rng.sample(asked, 30)) == [], (at, bit)
            with pytest.raises(native.StatusError) as damage:
                segment.verify()
            assert damage.value.code in DAMAGE, (at, bit)
            assert path in str(damage.value), (at, bit)


def test_flips_in_files_of_many_blocks_harm_only_what_they_hit(fs):
    contents = random_contents(
        random.Random(4), 3000, 60, integer_keys=False, keys=2800, partitions=1
    )
    info = seal(fs, contents)
    asked = list(questions(contents))
    rng = random.Random(6)
    for _ in range(60):
        path = native.segment_path(DIRECTORY, 1)
        if rng.random() < 0.5:
            path = native.vector_path(DIRECTORY, 1)
        data = fs.contents(path)
        at = rng.randrange(len(data))
        set_byte(fs, path, data, at, data[at] ^ (1 << rng.randrange(8)))
        segment = reopen(fs, contents, info)
        sample = rng.sample(asked, 300)
        assert wrong_answers(segment, sample) == []
        if path.endswith(".f32"):
            assert failures(segment, sample) < 100
        with pytest.raises(native.StatusError, match=r"damaged at byte"):
            segment.verify()
        fs.set_contents(path, data)
    reopen(fs, contents, info).verify()


@pytest.mark.parametrize("suffix", [".f32", ".seg"])
def test_a_file_of_another_length_is_refused(fs, suffix):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    path = f"{DIRECTORY}/000000000001{suffix}"
    data = fs.contents(path)
    others = [data[:length] for length in range(len(data))]
    others += [data + b"\0", data + bytes(BLOCK_BYTES), data + data]
    for other in others:
        fs.set_contents(path, other)
        with pytest.raises(native.StatusError) as damage:
            reopen(fs, contents, info).find(b"")
        assert damage.value.code == "Corruption", len(other)


def test_a_segment_works_again_when_its_files_are_back(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    segment = reopen(fs, contents, info)
    path = native.segment_path(DIRECTORY, 1)
    fs.rename(path, "/elsewhere")
    for _ in range(2):
        with pytest.raises(native.StatusError) as missing:
            segment.key(0)
        assert missing.value.code == "Corruption"
    fs.rename("/elsewhere", path)
    assert segment.key(0) == contents.rows[0][0]


def test_files_that_the_manifest_does_not_mean_are_refused(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    names = ("rows", "seg_bytes", "footer_crc", "seq_min", "seq_max")
    for name in names:
        for difference in (1, -1):
            other = native.SegmentInfo()
            for each in ("id", *names):
                setattr(other, each, getattr(info, each) + (difference if each == name else 0))
            with pytest.raises(native.StatusError) as damage:
                reopen(fs, contents, other).find(b"")
            assert damage.value.code == "Corruption", name
    for dims, integer_keys, seed in [(4, False, SEED), (5, True, SEED), (5, False, SEED + 1)]:
        schema = native.Schema(dims, integer_keys)
        with pytest.raises(native.StatusError) as damage:
            native.SealedSegment(fs, DIRECTORY, schema, seed, info).find(b"")
        assert damage.value.code == "Corruption"


def test_vectors_of_another_segment_are_refused(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    seal(fs, Contents(5, False, contents.rows, contents.vectors + 1), segment_id=2)
    fs.rename(native.vector_path(DIRECTORY, 2), native.vector_path(DIRECTORY, 1))
    with pytest.raises(native.StatusError, match=r"000000000001\.f32: damaged at byte 0"):
        reopen(fs, contents, info).vectors(0, 1)


def test_a_later_format_is_refused_by_name(fs):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    path = native.segment_path(DIRECTORY, 1)
    set_byte(fs, path, fs.contents(path), 8, 2)
    with pytest.raises(native.StatusError, match=r"segment format 2, .* reads format 1") as refusal:
        reopen(fs, contents, info).find(b"")
    assert refusal.value.code == "Format"


# Failures while writing.


def test_a_failed_write_of_a_segment_leaves_no_file(fs):
    contents = random_contents(
        random.Random(9), 9000, 3, integer_keys=False, keys=9000, partitions=1
    )
    path = native.vector_path(DIRECTORY, 1)
    vectors = native.VectorFile.create(fs, path, 3, 9000)
    vectors.append(contents.vectors)
    vectors.finish()
    arguments = (DIRECTORY, 1, contents.schema, SEED, contents.rows, vectors.block_crcs)
    for fault in (native.Fault.EIO, native.Fault.ENOSPC, native.Fault.SHORT_WRITE):
        for call in range(100):
            broken = fs.clone()
            broken.fail_at(broken.calls() + call, fault)
            if code_of(lambda b=broken: native.write_segment(b, *arguments)) != "Ok":
                assert broken.paths() == [path]
            if broken.faults_injected() == 0:
                break
        else:
            pytest.fail("no end of calls")


@pytest.mark.parametrize("model", native.CrashModel.__members__)
def test_a_sealed_segment_survives_a_power_cut(fs, model):
    contents = small_contents(integer_keys=False)
    info = seal(fs, contents)
    fs.sync_directory(DIRECTORY)
    fs.crash(native.CrashModel.__members__[model], seed=1)
    segment = reopen(fs, contents, info)
    segment.verify()
    assert wrong_answers(segment, list(questions(contents))) == []
