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


class Past:
    """Rows as sets of the times at which each was visible: the slow and obvious way."""

    def __init__(self, pinned: list[int] | None = None) -> None:
        self.pinned = pinned
        self.births: list[int] = []
        self.visible: list[set[int]] = []  # after each batch, whose number is the place
        self.vector = native.DeletionVector()

    def take(self, step: tuple[str, int]) -> None:
        """One batch; its number is the seq."""
        kind, number = step
        seq = len(self.visible) + 1
        now = set(self.visible[-1]) if self.visible else set()
        if kind == "set":
            now.add(len(self.births))
            self.births.append(seq)
        elif kind == "kill" and self.births:
            row = number % len(self.births)
            assert self.vector.kill(row, seq) == (row in now)
            now.discard(row)
        elif kind == "restore":
            then = number % seq
            times = None
            if self.pinned is not None:
                times = [time for time in self.pinned if time < seq]
                then = times[number % len(times)] if times else seq - 1
            self.vector = self.vector.restored(self.births, then, seq, times)
            now = set(self.at(then))
        self.visible.append(now)

    def at(self, seq: int) -> set[int]:
        """The rows that are visible at a time."""
        return self.visible[min(seq, len(self.visible)) - 1] if seq and self.visible else set()

    def check(self, vector, times, after: int = 0) -> None:
        """The vector says of all these times what was visible."""
        for seq in times:
            seen = {
                row
                for row, born in enumerate(self.births)
                if born <= seq and not vector.dead_at(row, seq)
            }
            assert seen == self.at(seq), (seq, after)


batches = st.lists(
    st.tuples(st.sampled_from(["set", "set", "kill", "kill", "restore"]), st.integers(0, 40)),
    max_size=40,
)


def past_of(steps) -> Past:
    past = Past()
    for step in steps:
        past.take(step)
    return past


@given(batches)
def test_after_any_restores_it_knows_what_every_time_showed(steps):
    past = past_of(steps)
    past.check(past.vector, range(len(steps) + 3))
    assert past.vector.dead_count() == len(past.births) - len(past.at(len(steps)))


@given(batches, st.integers(0, 45))
def test_what_it_writes_of_any_time_reads_back_with_its_gaps(steps, cut):
    past = past_of(steps)
    rows = sum(born <= cut for born in past.births)
    gaps = past.vector.encode_gaps(cut)
    decoded = native.DeletionVector()
    assert decoded.decode(rows, past.vector.encode(rows, cut)) == (True, 0)
    assert bool(gaps) == past.vector.is_layered()
    if gaps:
        assert decoded.decode_gaps(rows, gaps) == (True, 0)
    for seq in range(min(cut, len(steps)) + 1):
        seen = {
            row for row in range(rows) if past.births[row] <= seq and not decoded.dead_at(row, seq)
        }
        assert seen == past.at(seq)


@given(batches, st.lists(st.integers(0, 40), max_size=3), st.integers(0, 45))
def test_without_the_gaps_that_nobody_wants_pinned_times_show_what_they_showed(steps, pins, cut):
    past = Past(sorted(set(pins)))
    for step in steps:
        past.take(step)
    past.check(past.vector, [time for time in past.pinned if time <= len(steps)])
    past.check(past.vector, [len(steps)])
    pinned = [time for time in past.pinned if time < cut]
    rows = sum(born <= cut for born in past.births)
    decoded = native.DeletionVector()
    assert decoded.decode(rows, past.vector.encode(rows, cut)) == (True, 0)
    if gaps := past.vector.encode_gaps(cut, pinned):
        assert decoded.decode_gaps(rows, gaps) == (True, 0)
    for seq in [*pinned, cut]:
        seen = {
            row for row in range(rows) if past.births[row] <= seq and not decoded.dead_at(row, seq)
        }
        assert seen == past.at(seq)


def test_going_back_again_and_again_leaves_no_trace_that_nobody_wants():
    past = Past([1])
    for step in [("set", 0), *[("kill", 0), ("restore", 0)] * 50]:
        past.take(step)
    assert len(past.vector.encode_gaps(101, [1])) == 1
    assert len(past.vector.encode_gaps(101)) < 8


@given(batches, st.integers(0, 45))
def test_a_segment_is_gone_from_its_last_death_on_and_where_nothing_lives(steps, seq):
    past = past_of(steps)
    dead = past.vector.dead_count() == len(past.births) > 0
    assert past.vector.last_death() == max(
        (past.vector.death(row) for row in range(len(past.births))), default=0
    )
    gone = past.vector.is_gone(past.births, seq)
    assert gone == (dead and past.vector.last_death() <= seq)
    if gone:
        assert not any(past.at(later) for later in range(seq, len(steps) + 2))


@given(batches, st.integers(0, 45))
def test_a_fork_shows_what_its_time_showed(steps, then):
    past = past_of(steps)
    cut = len(steps) + 1
    forked = past.vector.forked(past.births, min(then, cut), cut)
    assert {row for row in range(len(past.births)) if not forked.dead_at(row, cut)} == past.at(then)


@given(batches, st.sets(st.integers(1, 45), max_size=5))
def test_a_row_lives_at_any_of_the_times_that_show_it(steps, times):
    past = past_of(steps)
    for row, born in enumerate(past.births):
        expected = any(row in past.at(seq) for seq in times)
        assert past.vector.lives_at_any(row, born, sorted(times)) == expected


@given(batches)
def test_a_copied_row_keeps_its_past(steps):
    past = past_of(steps)
    copy = native.DeletionVector()
    for row in range(len(past.births)):
        copy.copy_row(past.vector, row, row)
    past.check(copy, range(len(steps) + 3))


def gap_bytes(*gaps: tuple[int, int, int]) -> bytes:
    return varint(len(gaps)) + b"".join(varint(number) for gap in gaps for number in gap)


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        varint(1),  # more gaps than bytes
        gap_bytes((10, 1, 1)),  # a row beyond the last
        gap_bytes((9, 1, 1), (2**64 - 1, 5, 1)),  # back to an earlier row
        gap_bytes((9, 1, 1), (1, 5, 1)),
        gap_bytes((1, 0, 1)),  # dead since never
        gap_bytes((1, 5, 0)),  # for no time
        gap_bytes((1, 5, 2**64 - 5)),  # for ever
        gap_bytes((1, 5, 5), (0, 9, 2)),  # dead again before it lived
        gap_bytes((3, 5, 5)),  # its last death, at 7, is in it
    ],
)
def test_malformed_gaps_are_refused(malformed):
    assert not vector_of({3: 7}).decode_gaps(10, malformed)[0]
