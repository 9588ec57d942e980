"""repair() keeps every row that can be proven, says what is gone, and changes no file of the hub.

What is damaged is a copy of a hub made while it is open: so it looks after its process was killed.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import ehub

DIMS = 64
BLOCK_ROWS = (64 << 10) // (DIMS * 4)
HEADER = struct.Struct("<IIQQQQII")
BATCH = 3


def vectors_of(rows: int, value: float) -> np.ndarray:
    return np.full((rows, DIMS), value, np.float32)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 16
    file.write_bytes(content)


def records(log: Path) -> list[tuple[int, int, int]]:
    """The type, seq and offset of each record of a log."""
    content = log.read_bytes()
    found, at = [], 0
    while content[at : at + 4] == b"EHWR":
        _, _, _, seq, _, size, _, kind = HEADER.unpack_from(content, at)
        found.append((kind, seq, at))
        at += -(-(HEADER.size + size) // 8) * 8
    return found


def damage_batch(log: Path, seq: int) -> None:
    [at] = [at for kind, number, at in records(log) if (kind, number) == (BATCH, seq)]
    flip(log, at + HEADER.size)


def contents(path: Path) -> dict[str, dict]:
    """Per space the first number of each key's vector."""
    with ehub.open(path) as hub:
        assert hub.verify().ok
        spaces = {}
        for name in hub.spaces():
            keys, vectors = hub.get_space(name).to_numpy()
            spaces[name] = dict(zip(keys.tolist(), vectors[:, 0].tolist(), strict=True))
        return spaces


def newest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern))


@pytest.fixture
def killed(tmp_path):
    """Copies the files of an open hub."""
    hubs = []

    def copy(hub: ehub.Hub) -> Path:
        path = tmp_path / f"killed-{len(hubs)}"
        hubs.append(hub)
        shutil.copytree(hub.path, path)
        return path

    return copy


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    return hub.create_space("items", DIMS, metric="l2", key_type="int")


# --- the log, and the files that belong to it ---


def test_damaged_vectors_of_a_batch_cost_the_rows_of_their_block_and_no_later_batch(
    hub, items, killed
):
    other = hub.create_space("other", 8, metric="l2", key_type="int")
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    for first in range(0, 5000, 100):
        other.multiset(np.arange(first, first + 100), np.ones((100, 8), np.float32))
    items.multiset(np.arange(2000, 4000), vectors_of(2000, 2))
    path = killed(hub)
    [file] = path.glob("segments/*.f32")
    flip(file, 3 * (64 << 10) + 5)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped) == (9000 - BLOCK_ROWS, BLOCK_ROWS)
    assert report.batches_dropped == 0
    [found] = report.dropped
    assert Path(found.path).name == file.name
    assert f"{BLOCK_ROWS} rows of space 'items'" in found.what
    left = contents(path)
    assert len(left["other"]) == 5000
    lost = range(3 * BLOCK_ROWS, 4 * BLOCK_ROWS)
    right = {key: 1.0 if key < 2000 else 2.0 for key in range(4000) if key not in lost}
    assert left["items"] == right


def test_rows_that_a_later_batch_set_or_deleted_are_not_counted_as_dropped(hub, items, killed):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    items.multiset(np.arange(100), vectors_of(100, 2))
    items.multidelete(range(100, 120))
    path = killed(hub)
    flip(newest(path, "segments/*.f32"), 7)
    report = ehub.repair(path)
    assert report.rows_dropped == BLOCK_ROWS - 120
    assert report.rows_kept == 2000 - 20 - report.rows_dropped
    assert set(contents(path)["items"]) == {*range(100), *range(BLOCK_ROWS, 2000)}


def test_rows_of_a_damaged_segment_that_the_log_replaced_are_not_counted(hub, items, killed):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    hub.checkpoint()
    items.multiset(np.arange(100), vectors_of(100, 2))
    path = killed(hub)
    flip(newest(path, "segments/*.f32"), 7)
    report = ehub.repair(path)
    assert report.rows_dropped == BLOCK_ROWS - 100
    assert report.rows_kept == 2000 - report.rows_dropped


def test_a_key_whose_last_vector_is_damaged_does_not_get_an_older_one_back(hub, items, killed):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    hub.checkpoint()
    items.multiset(np.arange(2000), vectors_of(2000, 2))
    path = killed(hub)
    flip(newest(path, "segments/*.f32"), 7)
    assert ehub.repair(path).rows_dropped == BLOCK_ROWS
    assert set(contents(path)["items"].values()) == {2.0}


@pytest.mark.parametrize("how", ["missing", "empty", "half"])
def test_vectors_that_are_gone_cost_no_other_batch(how, hub, items, killed):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    items.multiset(np.arange(1900, 2100), vectors_of(200, 2))
    path = killed(hub)
    file = newest(path, "segments/*.f32")
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 4 * (64 << 10) if how == "half" else 0])
    report = ehub.repair(path)
    kept = 4 * BLOCK_ROWS if how == "half" else 0
    assert (report.rows_kept, report.rows_dropped) == (200 + kept, 1900 - kept)


def test_whole_batches_behind_a_damaged_record_are_kept_and_the_missing_one_is_named(
    hub, items, killed
):
    items.set(1, vectors_of(1, 1)[0])
    items.set(2, vectors_of(1, 1)[0])
    items.set(1, vectors_of(1, 2)[0])
    for key in range(3, 20):
        items.set(key, vectors_of(1, 3)[0])
    items.delete(2)
    path = killed(hub)
    log = newest(path, "wal/*.log")
    damage_batch(log, 4)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped, report.batches_dropped) == (18, 0, 1)
    [found] = report.dropped
    assert Path(found.path).name == log.name
    assert "batch 4 is" in found.what
    assert contents(path)["items"] == {1: 1.0} | dict.fromkeys(range(3, 20), 3.0)


def test_several_gaps_in_a_log_are_counted_batch_by_batch(hub, items, killed):
    for key in range(30):
        items.set(key, vectors_of(1, key)[0])
    path = killed(hub)
    log = newest(path, "wal/*.log")
    for seq in (5, 6, 12):
        damage_batch(log, seq)
    damaged_headers = [at for kind, seq, at in records(log) if (kind, seq) == (BATCH, 20)]
    flip(log, damaged_headers[0] + 9)
    report = ehub.repair(path)
    assert (report.rows_kept, report.batches_dropped) == (26, 4)
    assert [found.what.split(" is ")[0].split(" are ")[0] for found in report.dropped] == [
        "batches 5 to 6",
        "batch 12",
        "batch 20",
    ]


def test_rows_of_a_space_whose_creation_is_missing_are_counted(hub, items, killed):
    hub.create_space("other", 2, metric="l2").multiset({"a": [1, 2], "b": [3, 4]})
    items.set(1, vectors_of(1, 1)[0])
    path = killed(hub)
    damage_batch(newest(path, "wal/*.log"), 2)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped, report.batches_dropped) == (1, 2, 1)
    assert len(report.dropped) == 2


def test_a_space_made_again_replaces_the_one_whose_deletion_is_missing(hub, items, killed):
    items.set(1, vectors_of(1, 1)[0])
    hub.delete_space("items")
    hub.create_space("items", 2, metric="l2").set("a", [5, 6])
    path = killed(hub)
    damage_batch(newest(path, "wal/*.log"), 3)
    assert ehub.repair(path).batches_dropped == 1
    assert contents(path) == {"items": {"a": 5.0}}


@pytest.mark.parametrize("part", ["header", "payload"])
def test_a_damaged_carried_record_costs_its_space_and_is_told(part, tmp_path):
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        for name in ("a", "b", "c"):
            hub.create_space(name, 2, metric="l2").multiset({"x": [1, 2], "y": [3, 4]})
    log = newest(path, "wal/*.log")
    offsets = [at for _, _, at in records(log)]
    assert len(offsets) == 4
    flip(log, offsets[2] + (9 if part == "header" else HEADER.size))
    report = ehub.repair(path)
    assert (report.rows_kept, report.batches_dropped) == (4, 1)
    assert [len(space) for space in contents(path).values()] == [2, 0, 2]


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_log_that_is_gone_is_counted_by_the_batches_that_were_acknowledged(
    how, hub, items, killed
):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    hub.checkpoint()
    for key in range(7):
        items.set(key, vectors_of(1, 2)[0])
    path = killed(hub)
    log = newest(path, "wal/*.log")
    if how == "missing":
        log.unlink()
    else:
        log.write_bytes(b"")
    report = ehub.repair(path)
    assert (report.rows_kept, report.batches_dropped) == (2000, 7)
    again = ehub.repair(path)
    assert (again.rows_kept, again.batches_dropped, again.dropped) == (2000, 0, ())


# --- sealed segments ---


@pytest.fixture
def sealed(tmp_path) -> tuple[Path, dict]:
    """A closed hub with one sealed segment of many batches, in partitions; and what it holds."""
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS, metric="l2")
        for first in range(0, 3000, 300):
            keys = [f"key-{row}" for row in range(first, first + 300)]
            items.multiset(keys, vectors_of(300, first), partition=f"part {first}")
        items.multiset([f"key-{row}" for row in range(100)], vectors_of(100, 7))
    assert len(list(path.glob("segments/*.seg"))) == 1
    return path, contents(path)["items"]


def sections(segment: Path) -> list[tuple[int, int]]:
    """Where each section of a `.seg` begins, and how long it is."""
    return [struct.unpack_from("<QQ", segment.read_bytes(), segment.stat().st_size - 192 + 16 * i)
            for i in range(8)]  # fmt: skip


KEY_TABLE, BIRTHS, PARTITIONS, OLDER, VECTOR_CRCS, SEGMENT_CRCS = 2, 3, 4, 5, 6, 7


@pytest.mark.parametrize("section", [KEY_TABLE, OLDER, VECTOR_CRCS, SEGMENT_CRCS])
def test_what_follows_from_the_rest_may_be_damaged(section, sealed):
    path, right = sealed
    segment = newest(path, "segments/*.seg")
    offset, length = sections(segment)[section]
    flip(segment, offset + length // 2)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped) == (len(right), 0)
    assert report.dropped != ()
    assert contents(path)["items"] == right
    with ehub.open(path) as hub:
        assert len(hub.get_space("items").partitions()) == 10


def test_a_damaged_header_costs_nothing(sealed):
    path, right = sealed
    flip(newest(path, "segments/*.seg"), 30)
    assert ehub.repair(path).rows_kept == len(right)
    assert contents(path)["items"] == right


@pytest.mark.parametrize("suffix", ["f32", "seg"])
def test_bytes_behind_the_end_of_a_file_cost_nothing(suffix, sealed):
    path, right = sealed
    file = newest(path, f"segments/*.{suffix}")
    file.write_bytes(file.read_bytes() + bytes(range(200)) * 5)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped) == (len(right), 0)
    assert contents(path)["items"] == right


@pytest.mark.parametrize("section", [BIRTHS, PARTITIONS])
def test_rows_outlive_their_births_and_partitions(section, sealed):
    path, right = sealed
    segment = newest(path, "segments/*.seg")
    places = sections(segment)
    key_block = (places[1][0] + places[1][1]) >> 16
    offset, length = places[section]
    assert offset + length - 1 >> 16 > key_block, "the section has a block without keys"
    flip(segment, offset + length - 1)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped) == (len(right), 0)
    assert contents(path)["items"] == right
    assert any("the partition is not known" in found.what for found in report.dropped)


def test_damaged_keys_cost_the_rows_of_their_block(tmp_path):
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        items = hub.create_space("items", 2, metric="l2", key_type="int")
        items.multiset(np.arange(30_000), np.ones((30_000, 2), np.float32))
    segment = newest(path, "segments/*.seg")
    flip(segment, (64 << 10) + 5)
    report = ehub.repair(path)
    assert report.rows_dropped == (64 << 10) // 8
    assert report.rows_kept == 30_000 - report.rows_dropped
    assert any("the keys are not known" in found.what for found in report.dropped)


@pytest.mark.parametrize("suffix", ["f32", "seg"])
def test_a_missing_file_of_a_segment_is_counted(suffix, sealed):
    path, right = sealed
    newest(path, f"segments/*.{suffix}").unlink()
    report = ehub.repair(path)
    assert report.rows_kept + report.rows_dropped == len(right)
    assert Path(report.dropped[0].path).suffix == f".{suffix}"


# --- what is not damaged ---


@pytest.mark.parametrize("file", ["CURRENT", "manifest-*"])
@pytest.mark.parametrize("at", [0, 9, 13, 30])
def test_a_damaged_name_or_manifest_costs_nothing(file, at, sealed):
    path, right = sealed
    flip(newest(path, file), at)
    report = ehub.repair(path)
    assert (report.rows_kept, report.rows_dropped, report.batches_dropped) == (len(right), 0, 0)
    assert contents(path)["items"] == right


def test_without_current_the_newest_whole_manifest_counts(sealed):
    path, right = sealed
    (path / "CURRENT").unlink()
    (path / "manifest-000000009999").write_bytes(b"EHUBMAN1")
    report = ehub.repair(path)
    assert [Path(found.path).name for found in report.dropped] == ["CURRENT"]
    assert contents(path)["items"] == right


def test_damaged_files_are_moved_as_they_were(hub, items, killed):
    items.multiset(np.arange(2000), vectors_of(2000, 1))
    hub.checkpoint()
    items.multiset(np.arange(1000, 3000), vectors_of(2000, 2))
    path = killed(hub)
    for file in path.glob("segments/*.f32"):
        file.write_bytes(file.read_bytes()[:-4000])
        flip(file, 9)
    before = {file.name: file.read_bytes() for file in path.rglob("0*") if file.is_file()}
    assert ehub.repair(path).rows_dropped > 0
    after = {file.name: file.read_bytes() for file in path.glob("lost+found/*")}
    assert {name for name in before if name.endswith(("f32", "log"))} <= set(after)
    assert {name: before[name] for name in before if name in after} == {
        name: after[name] for name in before if name in after
    }


def test_files_of_others_stay_where_they_are(sealed):
    path, _ = sealed
    others = ["vectors.parquet", "notes/today.txt", "wal/7.log", "segments/1.f32", "manifest-new"]
    for name in others:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(name)
    report = ehub.repair(path)
    assert report.dropped == ()
    assert [(path / name).read_text() for name in others] == others
    with ehub.open(path) as hub:
        hub.checkpoint()
    assert [(path / name).read_text() for name in others] == others


@pytest.mark.parametrize("inside", [[], ["LOCK"], ["wal/notes.txt", "segments/x.seg"]])
def test_a_directory_that_is_no_hub_is_left_alone(inside, tmp_path):
    for name in inside:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ehub.NotFoundError, match="no hub"):
        ehub.repair(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
