"""A vector file holds exactly the rows that were appended and kept, whatever failed in between."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ehub._native import _testing as native

DIRECTORY = "/segments"
PATH = "/segments/1.f32"
BLOCK_BYTES = 64 << 10
RESERVE_BYTES_MIN = 256 << 10
FILE_BYTES_MAX = 1 << 29


@pytest.fixture
def fs():
    system = native.FaultFileSystem()
    system.make_directory(DIRECTORY)
    system.sync_directory("/")
    return system


def some_vectors(rng: random.Random, rows: int, dims: int):
    return np.random.default_rng(rng.randrange(2**32)).random((rows, dims), dtype=np.float32)


def sums(vectors) -> list[int]:
    """One CRC-32C per block, the last one of what is left."""
    data = vectors.tobytes()
    return [native.crc32c(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]


def tail_sum(vectors) -> int:
    return sums(vectors)[-1] if len(vectors) else 0


def assert_holds(file, vectors) -> None:
    assert file.rows == len(vectors)
    np.testing.assert_array_equal(file.mapped(vectors.shape[1]), vectors)
    assert file.block_crcs == sums(vectors)


def appended(file, vectors) -> bool:
    try:
        file.append(vectors)
    except native.StatusError:
        return False
    return True


def file_of(fs, vectors):
    dims = vectors.shape[1]
    file = native.VectorFile.create(fs, PATH, dims, FILE_BYTES_MAX // (4 * dims))
    file.append(vectors)
    return file


@pytest.mark.parametrize("seed", range(20))
def test_appends_and_rollbacks_leave_the_rows_that_numpy_would(fs, seed):
    rng = random.Random(seed)
    dims = rng.choice([1, 3, 100, 1000, 5000])
    vectors = np.zeros((0, dims), np.float32)
    file = file_of(fs, vectors)
    for _ in range(30):
        step = rng.randrange(4)
        if step < 2:
            more = some_vectors(rng, rng.randrange(0, 4 * BLOCK_BYTES // (dims * 4) + 2), dims)
            file.append(more)
            vectors = np.concatenate([vectors, more])
        elif step == 2:
            vectors = vectors[: rng.randrange(len(vectors) + 1)]
            file.rollback(len(vectors), tail_sum(vectors))
        else:
            file.sync()
            assert not file.dirty
        assert_holds(file, vectors)
        assert file.matches(rng.randrange(len(vectors) + 1))
    file.finish()
    assert fs.contents(PATH) == vectors.tobytes()
    fs.sync_directory(DIRECTORY)
    fs.crash(native.CrashModel.DROP_UNSYNCED)
    assert fs.contents(PATH) == vectors.tobytes()


def test_an_append_of_many_pieces_is_whole(fs):
    vectors = some_vectors(random.Random(1), 3000, 777)
    file = file_of(fs, vectors[:1])
    file.append(vectors[1:])
    assert_holds(file, vectors)


@pytest.mark.parametrize("batch_rows", [1, 100, 3000])
def test_a_file_reserves_little_more_than_it_uses(tmp_path, batch_rows):
    fs = native.PosixFileSystem()
    dims, rows_max = 256, 9000
    path = tmp_path / "1.f32"
    file = native.VectorFile.create(fs, str(path), dims, rows_max)
    vectors = some_vectors(random.Random(2), batch_rows, dims)
    rows = 0
    while rows + batch_rows <= rows_max:
        file.append(vectors)
        rows += batch_rows
        status = path.stat()
        used = rows * dims * 4
        assert used <= status.st_size <= max(2 * used + BLOCK_BYTES, RESERVE_BYTES_MIN)
        assert status.st_size <= rows_max * dims * 4
    file.finish()
    assert path.stat().st_size == rows * dims * 4
    assert path.stat().st_blocks * 512 <= rows * dims * 4 + 4096


def test_reserving_ahead_does_not_take_the_last_room_of_a_disk(fs):
    vectors = some_vectors(random.Random(3), 500, 1000)
    fs.set_disk_bytes_max(vectors.nbytes)
    file = native.VectorFile.create(fs, PATH, 1000, 10_000)
    for row in range(0, 500, 50):
        file.append(vectors[row : row + 50])
    assert_holds(file, vectors)
    with pytest.raises(native.StatusError) as full:
        file.append(vectors[:1])
    assert full.value.code == "Io"
    assert_holds(file, vectors)


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "SHORT_WRITE"])
def test_a_failed_append_appends_nothing_and_the_next_one_works(fs, fault):
    rng = random.Random(4)
    first, second = some_vectors(rng, 100, 501), some_vectors(rng, 1000, 501)
    for call in range(20):
        broken = fs.clone()
        file = file_of(broken, first)
        broken.fail_at(broken.calls() + call, getattr(native.Fault, fault))
        if not appended(file, second):
            assert_holds(file, first)
            file.append(second)
        assert_holds(file, np.concatenate([first, second]))
        assert file.matches(0)
        if broken.faults_injected() == 0:
            return
    pytest.fail("no end of calls")


def test_an_adopted_file_goes_on_where_it_was(fs):
    rng = random.Random(5)
    vectors = some_vectors(rng, 333, 100)
    sums_then = file_of(fs, vectors).block_crcs
    fs.crash(native.CrashModel.KILL_PROCESS)
    file = native.VectorFile.adopt(fs, PATH, 100, 1000, 333, sums_then)
    assert file.dirty
    assert file.matches(0)
    more = some_vectors(rng, 400, 100)
    file.append(more)
    assert_holds(file, np.concatenate([vectors, more]))
    file.finish()
    assert fs.contents(PATH) == np.concatenate([vectors, more]).tobytes()


def test_adopting_refuses_a_short_file_and_sums_of_other_rows(fs):
    vectors = some_vectors(random.Random(6), 1000, 100)
    file_of(fs, vectors).finish()
    fs.set_contents(PATH, fs.contents(PATH)[:-1])
    good = sums(vectors)
    for rows, crcs in [(1000, good), (999, good[:-1]), (0, good[:1]), (2000, good)]:
        with pytest.raises(native.StatusError) as damage:
            native.VectorFile.adopt(fs, PATH, 100, 1000, rows, crcs)
        assert damage.value.code == "Corruption"
    native.VectorFile.adopt(fs, PATH, 100, 1000, 999, sums(vectors[:999]))


def test_matches_sees_every_flipped_bit_from_its_block_on(fs):
    dims, rows = 50, 2000
    vectors = some_vectors(random.Random(7), rows, dims)
    file_of(fs, vectors).finish()
    good = fs.contents(PATH)
    rng = random.Random(8)
    for _ in range(200):
        at, first = rng.randrange(len(good)), rng.randrange(rows + 1)
        flipped = bytes([good[at] ^ (1 << rng.randrange(8))])
        fs.set_contents(PATH, good[:at] + flipped + good[at + 1 :])
        file = native.VectorFile.adopt(fs, PATH, dims, rows, rows, sums(vectors))
        assert file.matches(first) == (at // BLOCK_BYTES < first * dims * 4 // BLOCK_BYTES)


def test_a_reader_follows_the_rows_that_the_writer_announces(fs):
    rng = random.Random(9)
    vectors = some_vectors(rng, 100, 100)
    writer = file_of(fs, vectors)
    reader = native.VectorFile.adopt(fs, PATH, 100, 100_000, 100, writer.block_crcs, writable=False)
    for _ in range(20):
        first_block = len(vectors) * 400 // BLOCK_BYTES
        more = some_vectors(rng, rng.randrange(300), 100)
        vectors = np.concatenate([vectors, more])
        writer.append(more)
        reader.extend(writer.rows, writer.block_crcs[first_block:], first_block)
        assert reader.matches(len(vectors) - len(more))
        assert_holds(reader, vectors)
    fs.set_contents(PATH, fs.contents(PATH)[: vectors.nbytes - 1])
    assert not reader.matches(len(vectors))


def test_rewriting_saves_rows_that_a_failed_sync_has_lost(fs):
    vectors = some_vectors(random.Random(10), 1000, 200)
    file = native.VectorFile.create(fs, PATH, 200, 1000)
    fs.sync_directory(DIRECTORY)
    file.append(vectors[:300])
    file.sync()
    file.append(vectors[300:])
    fs.fail_at(fs.calls(), native.Fault.SYNC_LOST)
    with pytest.raises(native.StatusError):
        file.sync()
    lost = fs.clone()
    lost.crash(native.CrashModel.DROP_UNSYNCED)
    assert lost.contents(PATH) != vectors.tobytes()

    fs.crash(native.CrashModel.KILL_PROCESS)
    file = native.VectorFile.adopt(fs, PATH, 200, 1000, 1000, sums(vectors))
    assert file.matches(0)
    file.rewrite(300)
    file.sync()
    fs.crash(native.CrashModel.DROP_UNSYNCED)
    assert fs.contents(PATH)[: vectors.nbytes] == vectors.tobytes()


@pytest.mark.parametrize("reopened", [True, False])
def test_finishing_again_cuts_what_a_failed_sync_left_uncut(fs, reopened):
    vectors = some_vectors(random.Random(11), 1000, 200)
    file = native.VectorFile.create(fs, PATH, 200, 2000)
    fs.sync_directory(DIRECTORY)
    file.append(vectors)
    file.sync()
    assert len(fs.contents(PATH)) > vectors.nbytes
    fs.fail_at(fs.calls() + 1, native.Fault.SYNC_LOST)
    with pytest.raises(native.StatusError):
        file.finish()
    assert len(fs.contents(PATH)) == vectors.nbytes

    if reopened:
        fs.crash(native.CrashModel.KILL_PROCESS)
        file = native.VectorFile.adopt(fs, PATH, 200, 2000, 1000, sums(vectors))
    file.finish()
    fs.crash(native.CrashModel.DROP_UNSYNCED)
    assert fs.contents(PATH) == vectors.tobytes()


def test_a_file_without_rows_is_empty(fs):
    file = native.VectorFile.create(fs, PATH, 5, 10)
    assert file.matches(0)
    assert not file.dirty
    file.rewrite(0)
    file.append(np.zeros((0, 5), np.float32))
    file.finish()
    assert fs.contents(PATH) == b""
