"""A file that cannot be an index of hnswlib is refused: no crash, no loss, no absurd allocation.

The files are made here, after the layout in src/hnsw/hnswlib_format.h, so hnswlib is not needed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import watched_kib

import ehub
from ehub import hnswlib_io

HEADER = "<QQQQQQiIQQQdQ"
FIELDS = (
    "level0_offset", "capacity", "records", "record_bytes", "label_offset", "vector_offset",
    "level_max", "entry", "M_upper", "M_level0", "M", "level_factor", "ef_construction",
)  # fmt: skip
DIMS = 3
M = 4
DELETED = 1 << 16


@dataclass(frozen=True)
class Index:
    """What is in a file, field by field."""

    header: dict
    links: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    vectors: np.ndarray
    levels: tuple[tuple[tuple[int, ...], ...], ...]  # per record its lists from level 1 on
    deleted: frozenset[int] = frozenset()

    def packed(self) -> bytes:
        parts = [struct.pack(HEADER, *self.header.values())]
        for record, links in enumerate(self.links):
            mark = DELETED if record in self.deleted else 0
            parts.append(packed_list(links, 2 * M, mark))
            parts.append(self.vectors[record].tobytes())
            parts.append(struct.pack("<Q", self.labels[record]))
        for lists in self.levels:
            parts.append(struct.pack("<I", len(lists) * 4 * (1 + M)))
            parts.extend(packed_list(links, M) for links in lists)
        return b"".join(parts)

    def with_header(self, **fields) -> Index:
        return replace(self, header={**self.header, **fields})


def packed_list(links, room, mark=0):
    unused = [0xAAAAAAAA] * (room - len(links))
    return struct.pack(f"<{1 + room}I", len(links) | mark, *links, *unused)


def made(n=12):
    """A sound index: a ring of links, every fourth record on level 1, record 0 on level 2."""
    header = dict.fromkeys(FIELDS, 0)
    data = 4 * (1 + 2 * M)
    header |= {
        "capacity": n,
        "records": n,
        "vector_offset": data,
        "label_offset": data + 4 * DIMS,
        "record_bytes": data + 4 * DIMS + 8,
        "level_max": 2 if n else -1,
        "entry": 0 if n else 0xFFFFFFFF,
        "M": M,
        "M_upper": M,
        "M_level0": 2 * M,
        "level_factor": 0.7,
        "ef_construction": 100,
    }
    links = tuple(((i + 1) % n, (i + 2) % n) for i in range(n))
    upper = [(((i + 4) % n,),) if i % 4 == 0 else () for i in range(n)]
    levels = tuple(lists + (((),) if i == 0 else ()) for i, lists in enumerate(upper))
    vectors = np.random.default_rng(1).standard_normal((n, DIMS), dtype=np.float32)
    return Index(header, links, tuple(range(100, 100 + n)), vectors, levels)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with ehub.open(tmp_path_factory.mktemp("hub"), durability="off") as hub:
        yield hub


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "index.bin"


def load(hub, path, contents: bytes, **options):
    """What the file holds, as a dict; the space is gone again."""
    path.write_bytes(contents)
    options = {"metric": "l2", "dims": DIMS, **options}
    space = hnswlib_io.load(path, hub=hub, space="s", **options)
    rows = dict(space.iterator())
    hub.delete_space("s")
    return rows


def assert_refused(hub, path, contents, match=None):
    with pytest.raises(ehub.CorruptionError, match=match) as caught:
        load(hub, path, contents)
    assert str(path) in str(caught.value)
    assert "s" not in hub


def test_a_sound_file_is_read(hub, path):
    index = made()
    rows = load(hub, path, index.packed())
    assert sorted(rows) == list(index.labels)
    assert all((rows[label] == index.vectors[i]).all() for i, label in enumerate(index.labels))
    assert load(hub, path, made(0).packed()) == {}


def test_of_a_repeated_label_the_last_record_counts(hub, path):
    index = replace(made(), labels=(7,) * 11 + (8,))
    rows = load(hub, path, index.packed())
    assert sorted(rows) == [7, 8]
    assert (rows[7] == index.vectors[10]).all()
    gone = replace(index, deleted=frozenset({10}))
    assert sorted(load(hub, path, gone.packed())) == [8]


def test_a_file_that_ends_anywhere_is_refused(hub, path):
    contents = made().packed()
    for size in range(len(contents)):
        assert_refused(hub, path, contents[:size])


def test_a_file_that_goes_on_is_refused(hub, path):
    assert_refused(hub, path, made().packed() + b"\0", "more in the file")
    assert_refused(hub, path, made(0).packed() + b"\0")


HOSTILE = [
    0,
    1,
    2,
    3,
    5,
    7,
    *(2**b + d for b in (15, 16, 31, 32, 62, 63) for d in (-1, 0)),
    2**64 - 1,
]


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "level_factor"])
def test_a_header_that_lies_is_refused_or_told_nothing(hub, path, field):
    index = made()
    told_nothing = {"capacity", "ef_construction"}
    for value in HOSTILE:
        if field == "level_max":
            value = (value & 0xFFFFFFFF) - (1 << 32 if value & 1 << 31 else 0)
        if field == "entry":
            value &= 0xFFFFFFFF
        if value == index.header[field]:
            continue
        contents = index.with_header(**{field: value}).packed()
        if field in told_nothing and not (field == "capacity" and value < 12):
            assert len(load(hub, path, contents)) == 12
        else:
            assert_refused(hub, path, contents)


def test_sizes_that_agree_with_one_another_but_not_with_the_file_are_refused(hub, path):
    index = made()
    for factor in (2, 2**8, 2**20, 2**40, 2**58):
        data = 4 * (1 + 2 * M * factor)
        lies = index.with_header(
            M=M * factor,
            M_upper=M * factor,
            M_level0=2 * M * factor,
            vector_offset=data,
            label_offset=data + 4 * DIMS,
            record_bytes=data + 4 * DIMS + 8,
        )
        assert_refused(hub, path, lies.packed())
        records = 2**63 // lies.header["record_bytes"] + 1
        assert_refused(hub, path, lies.with_header(records=records).packed())


def test_other_dims_than_were_said_are_named(hub, path):
    with pytest.raises(ehub.DimensionError, match="3 dims; dims=4"):
        load(hub, path, made().packed(), dims=4)
    assert "s" not in hub


def test_links_and_levels_out_of_range_are_refused(hub, path):
    index = made()
    for link in (12, 13, 2**31, 2**32 - 1):
        links = (*index.links[:5], (1, link), *index.links[6:])
        assert_refused(hub, path, replace(index, links=links).packed(), "not there")
        levels = (((link,), ()), *index.levels[1:])
        assert_refused(hub, path, replace(index, levels=levels).packed(), "not there")
    lower = (((1,), ()), *index.levels[1:])
    assert_refused(hub, path, replace(index, levels=lower).packed(), "not on its level")
    higher = (*index.levels[:5], ((), (), ()), *index.levels[6:])
    assert_refused(hub, path, replace(index, levels=higher).packed(), "level is out of range")
    assert_refused(hub, path, index.with_header(entry=1).packed(), "highest level")


def test_more_links_than_there_is_room_for_are_refused(hub, path):
    contents = bytearray(made().packed())
    for count in (2 * M + 1, 0xFFFF):
        contents[96:98] = struct.pack("<H", count)
        assert_refused(hub, path, bytes(contents), "more links")


def test_a_changed_bit_is_refused_or_gives_a_space(hub, path):
    contents = made(6).packed()
    for bit in range(8 * len(contents)):
        changed = bytearray(contents)
        changed[bit // 8] ^= 1 << bit % 8
        load_or_refuse(hub, path, bytes(changed))


@settings(max_examples=300)
@given(st.data())
def test_changed_words_are_refused_or_give_a_space(hub, path, data):
    contents = bytearray(made().packed())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(contents) // 4 - 1)) * 4
        word = st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
        contents[at : at + 4] = struct.pack("<I", data.draw(word))
    size = data.draw(st.just(len(contents)) | st.integers(0, len(contents)))
    load_or_refuse(hub, path, bytes(contents[:size]))


def load_or_refuse(hub, path, contents):
    """A vector may have become one that no space takes, a label one that is no key."""
    refusals = (
        ehub.CorruptionError,
        ehub.DimensionError,
        ehub.InvalidVectorError,
        ehub.InvalidKeyError,
    )
    try:
        assert len(load(hub, path, contents)) <= 12
    except refusals:
        assert "s" not in hub


def test_no_lie_about_sizes_is_paid_for_in_memory(hub, path):
    grown = watched_kib()
    index = made()
    for records in (2**20, 2**30, 2**40, 2**63):
        assert_refused(hub, path, index.with_header(records=records, capacity=2**64 - 1).packed())
    assert grown() < 64 << 10


@pytest.mark.parametrize("contents", [b"", b"EHUB", b"\0" * 96, b"\xff" * 5000])
def test_another_kind_of_file_is_refused(hub, path, contents):
    assert_refused(hub, path, contents)


def test_a_file_that_is_not_there_is_an_error_of_its_own(hub, tmp_path):
    with pytest.raises(ehub.NotFoundError):
        hnswlib_io.load(tmp_path / "none", hub=hub, space="s", metric="l2", dims=3)
    with pytest.raises(ehub.StorageError):
        hnswlib_io.load(tmp_path, hub=hub, space="s", metric="l2", dims=3)


def test_arguments_that_cannot_be_leave_no_space(hub, path):
    contents = made().packed()
    wrong = [{"metric": "l1"}, {"dims": 0}, {"dims": 2**16}, {"key_type": "uuid"}, {"ef": 0}]
    for options in wrong:
        with pytest.raises(ehub.InvalidArgumentError):
            load(hub, path, contents, **options)
        assert "s" not in hub
    hub.create_space("s", 5)
    with pytest.raises(ehub.ExistsError):
        load(hub, path, contents)
    assert hub.get_space("s").dims == 5
    hub.delete_space("s")


def test_a_directory_that_is_missing_is_said_before_the_graph_is_built(hub, tmp_path, monkeypatch):
    space = hub.create_space("saved", 2, metric="l2", key_type="int")
    monkeypatch.setattr(hnswlib_io, "rows_and_links", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(ehub.StorageError, match="no such directory"):
        hnswlib_io.save(space, tmp_path / "missing" / "file")
    hub.delete_space("saved")


def test_a_save_that_fails_leaves_the_older_file(hub, path, tmp_path):
    space = hub.create_space("saved", 2, metric="l2", key_type="int")
    space.multiset([1, 2, 3], np.eye(3, 2, dtype=np.float32))
    hnswlib_io.save(space, path)
    before = path.read_bytes()
    space.set(-1, [1, 1])
    with pytest.raises(ehub.InvalidKeyError):
        hnswlib_io.save(space, path)
    assert path.read_bytes() == before
    labels = {key: key + 1 for key in space}
    with pytest.raises(ehub.EhubError):
        hnswlib_io.save(space, tmp_path / "no" / "such" / "directory", labels=labels)
    assert list(tmp_path.iterdir()) == []
    for wrong in ({"M": 1}, {"M": 513}, {"ef_construction": 1}):
        with pytest.raises(ehub.InvalidArgumentError):
            hnswlib_io.save(space, path, **wrong)
    hub.delete_space("saved")
