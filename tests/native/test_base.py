"""Checksums are CRC-32C on every path, coded bytes come back, and failures say what failed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing as native

PATHS = [native.crc32c, native.crc32c_table] + (
    [native.crc32c_hardware] if native.crc32c_has_hardware() else []
)
every_path = pytest.mark.parametrize("checksum", PATHS, ids=lambda path: path.__name__)

# Vectors of RFC 3720, appendix B.4, and the usual check value.
VECTORS = [
    (b"", 0x00000000),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
]


def bitwise_crc32c(data: bytes, crc: int = 0) -> int:
    """The definition, one bit at a time."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def pattern(size: int) -> bytes:
    """Bytes without a short period."""
    return bytes((i * 2654435761 >> 13) & 0xFF for i in range(size))


@every_path
@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_known_vectors(checksum, data, expected):
    assert checksum(data) == expected == bitwise_crc32c(data)


@every_path
@given(data=st.binary(max_size=200), crc=st.integers(0, 2**32 - 1))
def test_every_path_follows_the_definition(checksum, data, crc):
    assert checksum(data, crc) == bitwise_crc32c(data, crc)


@every_path
def test_every_length_and_alignment_agrees_with_the_table(checksum):
    data = memoryview(pattern(4096))
    for start in range(8):
        for size in [*range(320), 767, 768, 769, 1535, 1536, 1537, 2311, 4000]:
            part = data[start : start + size]
            assert checksum(part, start) == native.crc32c_table(part, start), (start, size)


@every_path
def test_long_inputs_agree_with_the_table(checksum):
    data = memoryview(pattern(60_000))
    for size in [12_287, 12_288, 12_289, 13_056, 24_576, 36_864, 59_999]:
        assert checksum(data[:size]) == native.crc32c_table(data[:size]), size


@every_path
def test_a_checksum_may_be_continued_at_any_byte(checksum):
    data = pattern(30_000)
    whole = checksum(data)
    for cut in [0, 1, 7, 8, 9, 255, 767, 768, 12_288, 20_001, 29_999, 30_000]:
        assert checksum(data[cut:], checksum(data[:cut])) == whole, cut


def test_a_masked_checksum_is_that_of_leveldb():
    assert native.crc_mask(0) == 0xA282EAD8
    crc = native.crc32c(b"foo")
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    assert native.crc_mask(crc) == (rotated + 0xA282EAD8) & 0xFFFFFFFF != crc


FIELDS = st.one_of(
    st.tuples(st.just("u32"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("u64"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("varint"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("string"), st.binary(max_size=300)),
)


def encode(fields):
    writer = native.ByteWriter()
    for kind, value in fields:
        getattr(writer, kind)(value)
    return writer.bytes()


@given(st.lists(FIELDS, max_size=20))
def test_written_fields_are_read_back_and_use_up_all_bytes(fields):
    reader = native.ByteReader(encode(fields))
    assert [(kind, getattr(reader, kind)()) for kind, _ in fields] == fields
    assert reader.ok
    assert reader.left == 0


@given(st.lists(FIELDS, min_size=1, max_size=10), st.data())
def test_a_reader_of_cut_bytes_fails_and_stays_failed(fields, data):
    encoded = encode(fields)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    reader = native.ByteReader(encoded[:cut])
    for kind, _ in fields:
        getattr(reader, kind)()
    assert not reader.ok
    assert reader.left == 0
    assert reader.u32() == 0


def test_a_varint_longer_than_ten_bytes_is_refused():
    reader = native.ByteReader(b"\x80" * 10 + b"\x01")
    assert reader.varint() == 0
    assert not reader.ok


def test_padding_is_zero():
    writer = native.ByteWriter()
    writer.string(b"abc")
    writer.pad_to(8)
    assert writer.bytes() == b"\x03abc" + bytes(4)


def test_corruption_says_where():
    with pytest.raises(
        native.StatusError, match=r"^/hub/wal/1\.log: damaged at byte 4096: bad magic$"
    ) as raised:
        native.raise_corruption("/hub/wal/1.log", 4096, "bad magic")
    assert (raised.value.code, raised.value.errno) == ("Corruption", 0)


def test_an_io_error_names_the_call_the_path_and_the_reason():
    with pytest.raises(native.StatusError) as raised:
        native.raise_io_error("sync", "/hub/x", errno.ENOSPC)
    assert str(raised.value) == f"sync /hub/x: {os.strerror(errno.ENOSPC)}"
    assert (raised.value.code, raised.value.errno) == ("Io", errno.ENOSPC)


def test_a_failed_assertion_says_where_and_ends_the_process():
    code = "from ehub._native import _testing; _testing.assert_false(); print('went on')"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment()
    )
    assert result.returncode == -signal.SIGABRT
    assert result.stderr.endswith(": 1 + 1 == 3\n")
    assert "bind_base.cpp:" in result.stderr
    assert result.stdout == ""


def child_environment() -> dict[str, str]:
    """A child must find the package where this process has found it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
