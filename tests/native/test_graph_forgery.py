"""A damaged graph file is refused; one made up by an enemy, all checksums right, never crashes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest

from ehub._native import _testing as native

L2, IP, COSINE = range(3)
DIRECTORY = "/index"
BLOCK_BYTES = 4096
FOOTER_BYTES = native.GRAPH_FOOTER_BYTES
SECTIONS = (
    "mean",
    "router",
    "router codes",
    "router metas",
    "twin nodes",
    "twin begins",
    "twin rows",
    "has twins",
    "metas",
    "codes",
    "links",
    "block crcs",
)
# Where some numbers of the footer are, from its start.
NUMBERS = {
    "rows": 220,
    "dims": 224,
    "metric": 228,
    "M": 232,
    "ef": 244,
    "rerank_min": 248,
    "width": 252,
    "link_stride": 256,
    "rotated": 260,
}
STAMP = native.GraphStamp(segment=7, segment_crc=1234, rows=2000, dims=24, metric=L2)


def make_rows() -> np.ndarray:
    """Rows with twins among them, whose codes are rotated."""
    rows = np.random.default_rng(1).standard_normal((2000, 24), dtype=np.float32)
    rows *= np.float32(0.8) ** np.arange(24, dtype=np.float32)
    rows[500:600] = rows[3]
    rows[600:610] = rows[4]
    return rows


ROWS = make_rows()
QUERIES = np.random.default_rng(2).standard_normal((3, 24), dtype=np.float32)


@pytest.fixture(scope="module")
def good() -> bytes:
    """The bytes of a graph file over ROWS."""
    fs = native.FaultFileSystem()
    fs.make_directory(DIRECTORY)
    native.write_graph(fs, DIRECTORY, STAMP, native.build_graph(ROWS, L2))
    return fs.contents(native.graph_path(DIRECTORY, 7))


def open_bytes(data: bytes, stamp: object = STAMP) -> object:
    """A graph file that holds `data`."""
    fs = native.FaultFileSystem()
    fs.make_directory(DIRECTORY)
    fs.open(native.graph_path(DIRECTORY, 7), native.Mode.CREATE).close()
    fs.set_contents(native.graph_path(DIRECTORY, 7), data)
    return native.open_graph(fs, DIRECTORY, stamp)


def outcome_of(call: Callable[[], object]) -> object:
    """What it returns, or the code with which it fails."""
    try:
        return call()
    except native.StatusError as error:
        return error.code


def outcome(data: bytes, stamp: object = STAMP) -> object:
    """What became of opening, searching and verifying: the answers, or why not."""

    def use() -> object:
        file = open_bytes(data, stamp)
        answers = file.search(ROWS, QUERIES, 10), file.search(ROWS, ROWS[3:4], 200, 100)
        file.verify()
        return answers

    return outcome_of(use)


def section(data: bytes, name: str) -> tuple[int, int]:
    """Its offset and length, as the footer says."""
    at = len(data) - FOOTER_BYTES + 16 * SECTIONS.index(name)
    return struct.unpack_from("<2Q", data, at)


def sign(data: bytearray) -> bytes:
    """Make all checksums right again."""
    covered, length = section(bytes(data), "block crcs")
    for block in range(0, covered, BLOCK_BYTES):
        crc = native.crc32c(bytes(data[block : min(block + BLOCK_BYTES, covered)]))
        struct.pack_into("<I", data, covered + block // BLOCK_BYTES * 4, crc)
    crcs = bytes(data[covered : covered + length])
    struct.pack_into("<I", data, len(data) - 16, native.crc_mask(native.crc32c(crcs)))
    return sign_footer(data)


def sign_footer(data: bytearray) -> bytes:
    footer = bytes(data[-FOOTER_BYTES:-12])
    struct.pack_into("<I", data, len(data) - 12, native.crc_mask(native.crc32c(footer)))
    return bytes(data)


def forge(data: bytes, name: str, numbers: dict[int, int]) -> bytes:
    """The file with these u32 of a section replaced, and signed again."""
    forged = bytearray(data)
    for place, number in numbers.items():
        struct.pack_into("<I", forged, section(data, name)[0] + 4 * place, number)
    return sign(forged)


def test_a_good_file_is_what_was_written(good):
    assert outcome(good) == outcome(sign(bytearray(good)))
    answers, _ = outcome(good)
    assert [len(numbers) for _, numbers in answers] == [10, 10, 10]
    assert open_bytes(good).file_bytes == len(good)


# --- damage ---


def test_a_graph_cut_short_anywhere_is_refused(good):
    sizes = {0, 1, 8, 63, 64, len(good) - 1, len(good) - FOOTER_BYTES, len(good) - 8}
    sizes |= {section(good, name)[0] for name in SECTIONS}
    sizes |= set(range(0, len(good), len(good) // 100))
    assert {outcome(good[:size]) for size in sizes} == {"Corruption"}
    assert outcome(good + b"\0") == "Corruption"


def test_a_bit_flipped_anywhere_is_noticed(good):
    right = outcome(good)
    covered, _ = section(good, "block crcs")
    places = set(range(0, covered, 997)) | set(range(covered, len(good)))
    for name in SECTIONS:
        offset, length = section(good, name)
        places |= {offset, offset + length // 2, offset + max(length, 1) - 1}
    for place in sorted(places):
        flipped = bytearray(good)
        flipped[place] ^= 1 << place % 8
        assert outcome(bytes(flipped)) in ("Corruption", "Format"), place
    assert outcome(good) == right


def test_a_walk_never_uses_a_damaged_block(good):
    # Without verify(): each block is checked when a walk first touches it.
    right = open_bytes(good).search(ROWS, QUERIES, 10)
    answered = 0
    for block in range(len(good) // BLOCK_BYTES):
        flipped = bytearray(good)
        flipped[block * BLOCK_BYTES + 1234] ^= 4
        found = outcome_of(lambda data=bytes(flipped): open_bytes(data).search(ROWS, QUERIES, 10))
        assert found in (right, "Corruption")
        answered += found == right
    assert answered < len(good) // BLOCK_BYTES


def test_a_graph_of_other_rows_is_refused(good):
    facts = {"segment": 7, "segment_crc": 1234, "rows": 2000, "dims": 24, "metric": L2}
    assert outcome(good, native.GraphStamp(**facts)) == outcome(good)
    for name, value in [("segment_crc", 5), ("rows", 1999), ("dims", 25), ("metric", IP)]:
        assert outcome(good, native.GraphStamp(**facts | {name: value})) == "Corruption"


def test_a_graph_of_another_release_is_refused(good):
    other = bytearray(good)
    struct.pack_into("<I", other, 8, 3)
    assert outcome(bytes(other)) == "Format"
    other[0:8] = b"EHUBHNS2"
    assert outcome(bytes(other)) == "Corruption"


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "SHORT_WRITE", "SYNC_LOST"])
def test_a_graph_that_cannot_be_written_leaves_nothing(fault):
    graph = native.build_graph(ROWS, L2)
    failures = 0
    for call in range(20):
        fs = native.FaultFileSystem()
        fs.make_directory(DIRECTORY)
        fs.fail_at(fs.calls() + call, getattr(native.Fault, fault))
        failure = outcome_of(lambda fs=fs: native.write_graph(fs, DIRECTORY, STAMP, graph))
        if fs.faults_injected() == 0:
            assert failure is None
            continue
        failures += 1
        assert failure == "Io"
        assert fs.paths() == []
    assert failures >= 1
    assert fs.paths() == [native.graph_path(DIRECTORY, 7)]
    native.open_graph(fs, DIRECTORY, STAMP).verify()


# --- forgery ---


@pytest.mark.parametrize("number", [2000, 2001, 2**31, 2**32 - 1])
def test_links_to_rows_that_are_not_there_are_damage(good, number):
    offset, length = section(good, "links")
    everywhere = dict.fromkeys(range(0, length // 4, 3), number)
    assert outcome(forge(good, "links", everywhere)) == "Corruption"
    somewhere = outcome(forge(good, "links", {17 * 48: number}))
    assert somewhere == "Corruption" or somewhere == outcome(good)
    assert offset % 64 == 0


@pytest.mark.parametrize("number", [2000, 2**32 - 1])
@pytest.mark.parametrize("name", ["router", "twin nodes", "twin rows"])
def test_rows_beyond_the_last_are_damage(good, name, number):
    assert outcome(forge(good, name, {0: number})) == "Corruption"


@pytest.mark.parametrize(
    "begins", [{0: 1}, {0: 5}, {1: 0}, {1: 2**32 - 1}, {2: 0}, {2: 2**31}, {0: 109, 1: 0}]
)
def test_twins_out_of_order_are_damage(good, begins):
    assert section(good, "twin begins")[1] == 12
    answer = outcome(forge(good, "twin begins", begins))
    assert answer == "Corruption" or begins == {1: 0}


def test_made_up_sections_never_crash(good):
    # What a walk does with them is of no interest; that it ends, and touches nothing else, is.
    rng = random.Random(31)
    values = [0, 1, 3, 4, 1999, 2000, 2**31, 2**32 - 1, 0x7F800000, 0xFFC00000, 0x7F7FFFFF]
    outcomes: dict[str, int] = {}
    for _ in range(200):
        name = rng.choice(SECTIONS[:-1])
        places = section(good, name)[1] // 4
        count = rng.choice([1, 5, places])
        numbers = {
            rng.randrange(places): rng.choice([*values, rng.randrange(2**32)]) for _ in range(count)
        }
        answer = outcome(forge(good, name, numbers))
        kind = answer if isinstance(answer, str) else "answers"
        outcomes[kind] = outcomes.get(kind, 0) + 1
    assert set(outcomes) == {"answers", "Corruption"}


def test_a_made_up_footer_is_refused_or_harmless(good):
    rng = random.Random(32)
    refused = 0
    for _ in range(400):
        forged = bytearray(good)
        at = len(forged) - FOOTER_BYTES + 4 * rng.randrange((FOOTER_BYTES - 12) // 4)
        old = struct.unpack_from("<I", forged, at)[0]
        new = rng.choice([0, 1, 2**31, 2**32 - 1, old + 1, old - 1, old + 64, rng.randrange(2**32)])
        struct.pack_into("<I", forged, at, new % 2**32)
        refused += outcome(sign_footer(forged)) == "Corruption"
    assert refused > 250


@pytest.mark.parametrize("name", NUMBERS)
def test_a_made_up_number_is_refused_or_harmless(good, name):
    for number in [0, 1, 4, 8, 16, 32, 47, 49, 4096, 4097, 2**30, 2**31, 2**32 - 1]:
        forged = bytearray(good)
        struct.pack_into("<I", forged, len(forged) - FOOTER_BYTES + NUMBERS[name], number)
        answer = outcome(sign_footer(forged))
        assert isinstance(answer, tuple) or answer == "Corruption"


def test_rows_that_link_only_to_themselves_end_a_walk(good):
    offset, length = section(good, "links")
    forged = bytearray(good)
    alone = np.repeat(np.arange(2000, dtype=np.uint32), length // 4 // 2000)
    forged[offset : offset + length] = alone.tobytes()
    answers, _ = outcome(sign(forged))
    assert all(0 < len(numbers) <= 10 for _, numbers in answers)


def test_a_file_without_codes_is_read_like_any_other():
    rows = ROWS.copy()
    rows[::2] += np.float32(1e5)
    graph = native.build_graph(rows, L2)
    assert graph.code_bits == 32
    fs = native.FaultFileSystem()
    fs.make_directory(DIRECTORY)
    native.write_graph(fs, DIRECTORY, STAMP, graph)
    file = native.open_graph(fs, DIRECTORY, STAMP)
    assert file.search(rows, QUERIES, 10) == graph.search(rows, QUERIES, 10)
    file.verify()
    assert file.search(rows, QUERIES, 10) == graph.search(rows, QUERIES, 10)


# --- graphs over some rows of a segment ---

SUBSET = native.GraphStamp(
    segment=7, segment_crc=1234, rows=4000, dims=24, metric=L2, kind="p", number=3
)
SUBSET_ROWS = list(range(1, 4000, 2))


@pytest.fixture(scope="module")
def over_some() -> bytes:
    """The bytes of a graph file over ROWS, as the odd rows of a segment of twice as many."""
    fs = native.FaultFileSystem()
    fs.make_directory(DIRECTORY)
    graph = native.build_graph(ROWS, L2)
    graph.set_segment_rows(SUBSET_ROWS)
    native.write_graph(fs, DIRECTORY, SUBSET, graph)
    assert fs.paths() == [DIRECTORY + "/000000000007-p3.hnsw"]
    return fs.contents(native.graph_path(DIRECTORY, 7, "p", 3))


def outcome_over_some(data: bytes, stamp: object = SUBSET) -> object:
    """What became of opening it, and of a search: the rows of the segment that were found."""
    fs = native.FaultFileSystem()
    fs.make_directory(DIRECTORY)
    path = native.graph_path(DIRECTORY, 7, "p", 3)
    fs.open(path, native.Mode.CREATE).close()
    fs.set_contents(path, data)
    segment = np.zeros((4000, 24), np.float32)
    segment[1::2] = ROWS
    return outcome_of(lambda: native.open_graph(fs, DIRECTORY, stamp).search(segment, QUERIES, 10))


def test_a_graph_over_some_rows_finds_them_by_their_numbers_in_the_segment(good, over_some):
    whole = outcome(good)[0]
    some = outcome_over_some(over_some)
    assert [near[0] for near in some] == [near[0] for near in whole]
    assert [near[1] for near in some] == [[2 * row + 1 for row in near[1]] for near in whole]


def test_a_graph_over_other_rows_is_refused(good, over_some):
    facts = {"segment": 7, "segment_crc": 1234, "rows": 4000, "dims": 24, "metric": L2}
    meant = facts | {"kind": "p", "number": 3}
    assert outcome_over_some(over_some, native.GraphStamp(**meant)) not in ("Corruption", "Format")
    for name, value in {"number": 4, "segment_crc": 1, "rows": 1999, "dims": 23}.items():
        stamp = native.GraphStamp(**meant | {name: value})
        forged = bytearray(over_some)
        if name == "number":  # the same file under the name of another partition
            stamp = native.GraphStamp(**meant)
            struct.pack_into("<Q", forged, 16, 4)
        assert outcome_over_some(sign(forged), stamp) == "Corruption"
    assert outcome_over_some(good) == "Format"
    assert outcome(over_some, native.GraphStamp(**facts)) == "Format"


@pytest.mark.parametrize(
    ("place", "number"), [(0, 3), (5, 4000), (5, 0xFFFFFFFF), (1999, 0), (7, 13)]
)
def test_rows_of_nodes_that_are_out_of_order_or_not_there_are_refused(over_some, place, number):
    forged = bytearray(over_some)
    struct.pack_into("<I", forged, 64 + 4 * place, number)
    assert outcome_over_some(sign(forged)) == "Corruption"
    assert outcome_over_some(bytes(forged)) == "Corruption"  # not signed again
