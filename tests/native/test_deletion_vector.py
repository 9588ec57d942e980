"""A deletion vector knows since when each row is dead, and what it writes reads back so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing as native

SEQ_MAX = 2**64 - 1

rows_and_seqs = st.dictionaries(
    st.integers(0, 300) | st.integers(0, 2**20), st.integers(1, 50) | st.integers(1, SEQ_MAX)
)


def vector_of(deaths: dict[int, int]):
    vector = native.DeletionVector()
    for row, seq in deaths.items():
        assert vector.kill(row, seq)
    return vector


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@given(rows_and_seqs, st.lists(st.integers(0, 2**30 - 1)), st.integers(0, SEQ_MAX))
def test_it_answers_as_a_dict_does(deaths, others, seq):
    vector = vector_of(deaths)
    assert vector.dead_count() == len(deaths)
    for row in [*deaths, *others]:
        assert vector.death(row) == deaths.get(row, 0)
        assert vector.dead_at(row, seq) == (row in deaths and deaths[row] <= seq)


def test_the_first_death_counts():
    vector = vector_of({5: 10})
    assert not vector.kill(5, 9)
    assert (vector.death(5), vector.dead_count()) == (10, 1)


@given(rows_and_seqs, st.integers(0, 2**20 + 5), st.integers(0, SEQ_MAX), st.binary(max_size=3))
def test_what_it_writes_reads_back(deaths, rows, seq, rest):
    expected = {row: death for row, death in deaths.items() if row < rows and death <= seq}
    encoded = vector_of(deaths).encode(rows, seq)
    decoded = native.DeletionVector()
    assert decoded.decode(rows, encoded + rest) == (True, len(rest))
    assert decoded.dead_count() == len(expected)
    for row in deaths:
        assert decoded.death(row) == expected.get(row, 0)
    assert decoded.encode(rows, SEQ_MAX) == encoded


@given(rows_and_seqs)
def test_a_cut_one_is_malformed(deaths):
    encoded = vector_of(deaths).encode(2**20 + 1, SEQ_MAX)
    for length in range(0, len(encoded), max(1, len(encoded) // 50)):
        good, _ = native.DeletionVector().decode(2**20 + 1, encoded[:length])
        assert not good


@pytest.mark.parametrize(
    "malformed",
    [
        varint(11),  # more dead rows than rows
        varint(2**64 - 1),
        varint(1) + varint(10) + varint(2),  # a row beyond the last
        varint(1) + varint(2**64 - 1) + varint(2),
        varint(2) + varint(9) + varint(2) + varint(0) + varint(0),  # one after the last
        varint(2) + varint(0) + varint(2) + varint(2**64 - 1) + varint(0),
        varint(1) + varint(3) + varint(0),  # dead since never
        varint(2) + varint(3) + varint(2) + varint(0) + varint(1),  # back to never
        b"\x80" * 10,
        b"",
    ],
)
def test_malformed_bytes_are_refused(malformed):
    good, _ = native.DeletionVector().decode(10, malformed)
    assert not good


def test_a_row_cannot_die_twice_by_reading():
    vector = vector_of({3: 7})
    good, _ = vector.decode(10, vector_of({3: 8}).encode(10, SEQ_MAX))
    assert not good


def test_random_bytes_give_a_valid_state_or_are_refused():
    rng = random.Random(1)
    accepted = 0
    for _ in range(5000):
        encoded = bytes(
            [rng.randrange(6), *(rng.choice([0, 1, 2, 5, 0x80, 0xFF]) for _ in range(12))]
        )
        vector = native.DeletionVector()
        good, left = vector.decode(20, encoded)
        if good:
            accepted += 1
            used = encoded[: len(encoded) - left]
            assert vector.dead_count() == used[0]
            again = native.DeletionVector()
            assert again.decode(20, vector.encode(20, SEQ_MAX)) == (True, 0)
            assert [again.death(row) for row in range(20)] == [
                vector.death(row) for row in range(20)
            ]
    assert accepted > 100
