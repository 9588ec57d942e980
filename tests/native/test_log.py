"""What is in the log is read back whole and in order, or not at all, whatever happened to its file.

The oracle is the format itself: `record()` below packs a record as FORMAT.md says.
"""

from __future__ import annotations

import errno
import random
import struct
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehub._native import _testing as native

CrashModel, Fault, FaultFileSystem = native.CrashModel, native.Fault, native.FaultFileSystem
LogReader, LogWriter = native.LogReader, native.LogWriter

START, CARRIED, BATCH = 1, 2, 3
HEADER = struct.Struct("<4sIQQQQII")
WINDOW_BYTES = 256 << 10  # how much the reader reads at a time
SMALL_STEP_BYTES = 256 << 10
STEP_BYTES = 1 << 20
NUMBER = 7
PATH = "/000000000007.log"
CRASH_MODELS = list(CrashModel.__members__.values())


def checksum(data: bytes) -> int:
    return native.crc_mask(native.crc32c(data))


def record(number, kind, seq, synced_seq, payload, *, payload_bytes=None) -> bytes:
    """A record as it should be in the file."""
    size = len(payload) if payload_bytes is None else payload_bytes
    covered = struct.pack("<QQQQII", number, seq, synced_seq, size, checksum(payload), kind)
    header = b"EHWR" + struct.pack("<I", checksum(covered)) + covered
    return header + payload + bytes(-len(payload) % 8)


def start_record(number=NUMBER, start=(0, 0, 0)) -> bytes:
    return record(number, START, start[2], 0, struct.pack("<QQQ", *start))


def batches(count, *, first_seq=1, size=lambda i: 5 * i, fill=0):
    """Records in the order they are written; each knows that the one before it is on the disk."""
    return [
        (BATCH, first_seq + i, first_seq + i - 1, bytes([(fill + i) % 256]) * size(i))
        for i in range(count)
    ]


def open_log(contents=None, spare=None, number=NUMBER):
    """A file system with a new log, or with a file that has these contents."""
    fs = FaultFileSystem()
    if spare is not None:
        fs.open("/spare", native.Mode.CREATE).close()
        fs.set_contents("/spare", spare)
    if contents is None:
        return fs, LogWriter(fs, "", number, spare="" if spare is None else "/spare")
    fs.open(PATH, native.Mode.CREATE).close()
    fs.set_contents(PATH, contents)
    return fs, None


def write_group(log, group):
    for entry in group:
        log.add(*entry)
    log.write()


def read_batches(fs, number=NUMBER):
    """The records after the start, without their offsets."""
    records, _, _ = native.read_log(fs, "", number)
    assert records[:1] == [] or records[0][0] == START
    return [(kind, seq, synced, payload) for kind, seq, synced, _, payload in records[1:]]


def read_what_is_left(fs, number=NUMBER):
    """As read_batches(), and synced_behind; a log that is not there has nothing in it."""
    try:
        return read_batches(fs, number), native.read_log(fs, "", number)[2]
    except native.StatusError as error:
        assert error.code == "NotFound"  # noqa: PT017
        return [], 0


groups_of_records = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([CARRIED, BATCH]),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=200),
        ),
        max_size=4,
    ),
    max_size=6,
)


@given(groups_of_records, st.tuples(*[st.integers(0, 2**64 - 1)] * 3))
def test_records_lie_in_the_file_as_the_format_says_and_come_back_as_written(groups, start):
    fs = FaultFileSystem()
    log = LogWriter(fs, "", NUMBER, start)
    for group in groups:
        write_group(log, group)
    written = [entry for group in groups for entry in group]
    packed = [start_record(start=start), *(record(NUMBER, *entry) for entry in written)]
    ends = list(accumulate(len(one) for one in packed))
    contents = fs.contents(PATH)
    assert contents == b"".join(packed).ljust(len(contents), b"\0")
    records, end, synced_behind = native.read_log(fs, "", NUMBER)
    assert [(*one[:3], one[4]) for one in records[1:]] == written
    assert [one[3] for one in records] == [0, *ends[:-1]]
    assert (end, log.bytes, synced_behind) == (ends[-1], ends[-1], 0)
    assert native.decode_log_start(START, records[0][4]) == start


def test_records_of_every_size_pass_through_the_window():
    random_ = random.Random(1)
    sizes = [0, 3 * WINDOW_BYTES + 5, 17, WINDOW_BYTES, WINDOW_BYTES - 1, 2 * WINDOW_BYTES, 8]
    sizes += [random_.randrange(1 << random_.randrange(21)) for _ in range(40)]
    group = [(BATCH, seq, 0, random_.randbytes(size)) for seq, size in enumerate(sizes)]
    fs, log = open_log()
    write_group(log, group)
    assert read_batches(fs) == group


def test_a_group_is_one_write_and_an_empty_group_none():
    fs, log = open_log()
    before = fs.mutating_calls()
    log.write()
    assert fs.mutating_calls() == before
    for entry in batches(5):
        log.add(*entry)
    assert fs.mutating_calls() == before
    assert log.pending_bytes == sum(len(record(NUMBER, *entry)) for entry in batches(5))
    log.write()
    assert (fs.mutating_calls(), log.pending_bytes) == (before + 1, 0)


def test_a_log_grows_by_whole_steps_and_only_when_it_must():
    fs, log = open_log()
    sizes = {log.bytes: len(fs.contents(PATH))}
    while log.bytes < 5 * STEP_BYTES:
        write_group(log, batches(1, size=lambda _: 60_000))
        size = len(fs.contents(PATH))
        if size != list(sizes.values())[-1]:
            sizes[log.bytes] = size
    for end, size in sizes.items():
        step = SMALL_STEP_BYTES if end < STEP_BYTES else STEP_BYTES
        assert size % step == 0
        assert step <= size - end < 2 * step
    assert len(sizes) == 5


def test_a_log_is_named_by_its_number():
    assert native.log_path("/data/wal", 31) == "/data/wal/000000000031.log"
    assert native.log_path("/data/wal", 2**64 - 1) == "/data/wal/18446744073709551615.log"
    with pytest.raises(native.StatusError) as caught:
        LogReader(FaultFileSystem(), "", NUMBER)
    assert caught.value.code == "NotFound"


def small_log():
    """The bytes of a log up to its end, where each record's payload ends, and the records."""
    entries = [(START, 0, 0, struct.pack("<QQQ", 0, 0, 0)), *batches(6)]
    packed = [record(NUMBER, *entry) for entry in entries]
    starts = [0, *accumulate(len(one) for one in packed)]
    payload_ends = [
        at + HEADER.size + len(entry[3]) for at, entry in zip(starts, entries, strict=False)
    ]
    return b"".join(packed), payload_ends, entries[1:]


def test_a_log_cut_off_anywhere_gives_the_records_before_the_cut():
    contents, payload_ends, entries = small_log()
    fs, _ = open_log(contents)
    for cut in range(len(contents) + 1):
        fs.set_contents(PATH, contents[:cut])
        whole = sum(end <= cut for end in payload_ends)
        assert read_batches(fs) == entries[: max(whole - 1, 0)]


@pytest.mark.parametrize("zeros", [0, 4096])
def test_a_flipped_bit_anywhere_ends_the_log_before_the_record_that_has_it(zeros):
    contents, payload_ends, entries = small_log()
    starts = [0, *(-(-end // 8) * 8 for end in payload_ends)]
    fs, _ = open_log(contents)
    for at in range(len(contents)):
        damaged = next(i for i in range(len(payload_ends)) if at < starts[i + 1])
        if at >= payload_ends[damaged]:  # padding
            damaged = len(payload_ends)
        for bit in range(8):
            flipped = bytearray(contents)
            flipped[at] ^= 1 << bit
            fs.set_contents(PATH, bytes(flipped) + bytes(zeros))
            assert read_batches(fs) == entries[: max(damaged - 1, 0)]


def test_bytes_that_a_crash_left_after_the_end_are_not_records():
    contents, _, entries = small_log()
    random_ = random.Random(2)
    fs, _ = open_log(contents)
    for size in range(1, 300):
        fs.set_contents(PATH, contents + random_.randbytes(size))
        assert read_batches(fs) == entries


@pytest.mark.parametrize("count", range(12))
def test_records_of_the_files_earlier_life_never_come_back(count):
    fs, log = open_log(number=6)
    old = batches(10, size=lambda _: 40)
    write_group(log, old)
    allocated = len(fs.contents("/000000000006.log"))
    log = LogWriter(fs, "", NUMBER, spare="/000000000006.log")
    assert fs.paths() == [PATH]
    new = batches(count, size=lambda _: 40, fill=100)
    for entry in new:  # one by one, so that a stale record sits exactly at each new end
        write_group(log, [entry])
        assert read_batches(fs) == new[: entry[1]]
    _, end, synced_behind = native.read_log(fs, "", NUMBER)
    assert (end, synced_behind) == (log.bytes, 0)
    assert len(fs.contents(PATH)) == allocated


def test_a_spare_smaller_than_the_start_record_will_do():
    for size in (0, 1, 71, 72, 100):
        fs, log = open_log(spare=b"\xff" * size)
        write_group(log, batches(3))
        assert read_batches(fs) == batches(3)


def with_length(payload_bytes):
    return record(NUMBER, BATCH, 1, 0, b"abc", payload_bytes=payload_bytes)


WRONG_RECORDS = [
    record(NUMBER + 1, BATCH, 1, 0, b"abc"),
    *(with_length(size) for size in (0, 2, 4, 8, 100, 2**31, 2**62, 2**64 - 48, 2**64 - 1)),
    start_record(),
    record(NUMBER, BATCH, 1, 0, b"abc")[:-8],
]


@pytest.mark.parametrize("wrong", WRONG_RECORDS, ids=range(len(WRONG_RECORDS)))
def test_a_record_with_a_good_checksum_and_a_wrong_field_is_not_believed(wrong):
    contents = start_record() + record(NUMBER, BATCH, 1, 0, b"good")
    fs, _ = open_log(contents + wrong)
    assert read_batches(fs) == [(BATCH, 1, 0, b"good")]
    assert native.read_log(fs, "", NUMBER)[1] == len(contents)


def test_a_log_that_does_not_begin_with_its_start_has_no_records():
    fs, _ = open_log(record(NUMBER, BATCH, 1, 0, b"abc") + start_record())
    assert native.read_log(fs, "", NUMBER)[:2] == ([], 0)


def test_a_record_from_a_later_version_of_ehub_is_refused_by_name():
    fs, _ = open_log(start_record() + record(NUMBER, 4, 1, 0, b"abc"))
    message = f"{PATH}: the record at byte 72 has type 4"
    with pytest.raises(native.StatusError, match=message) as caught:
        native.read_log(fs, "", NUMBER)
    assert caught.value.code == "Format"


def test_only_a_well_formed_start_is_decoded():
    good = struct.pack("<QQQ", 3, 2, 1)
    assert native.decode_log_start(START, good) == (3, 2, 1)
    assert native.decode_log_start(BATCH, good) is None
    assert native.decode_log_start(START, good[:-1]) is None
    assert native.decode_log_start(START, good + b"\0") is None


def test_a_reader_beside_the_writer_sees_what_is_written_after_it_came_to_the_end():
    fs, log = open_log()
    reader = LogReader(fs, "", NUMBER)
    assert reader.next()[0] == START
    for entry in batches(100, size=lambda i: i * 700):  # grows the file, too
        assert reader.next() is None
        write_group(log, [entry])
        assert reader.next()[4] == entry[3]
    assert reader.offset == log.bytes


def test_a_finished_log_is_durable_ends_with_its_last_record_and_can_be_a_spare():
    fs, log = open_log(number=6)
    fs.sync_directory("/")
    write_group(log, old := batches(5))
    log.finish()
    assert len(fs.contents("/000000000006.log")) == log.bytes
    fs.crash(CrashModel.DROP_UNSYNCED)
    assert read_batches(fs, 6) == old
    write_group(LogWriter(fs, "", NUMBER, spare="/000000000006.log"), new := batches(3, fill=100))
    assert read_batches(fs) == new


def test_a_reader_beside_the_writer_may_find_the_log_finished():
    for size in range(WINDOW_BYTES - 200, WINDOW_BYTES + 200, 8):
        fs, log = open_log()
        reader = LogReader(fs, "", NUMBER)
        write_group(log, [(BATCH, 1, 0, bytes(size)), (BATCH, 2, 1, b"last")])
        log.finish()  # the reader still believes that the file is longer
        assert [reader.next()[1] for _ in range(3)] == [0, 1, 2]
        assert reader.next() is None


def test_a_spare_that_is_not_there_any_more_is_done_without():
    fs = FaultFileSystem()
    write_group(LogWriter(fs, "", NUMBER, spare="/000000000006.log"), batches(3))
    assert read_batches(fs) == batches(3)


# A write that fails.


def fail_next_write(fs, fault, *, forever=False):
    fs.fail_at(fs.calls(), fault, forever)


GROWING = SMALL_STEP_BYTES * 2  # more than a new log has room for


@pytest.mark.parametrize("spare_bytes", [None, 1 << 16])
@pytest.mark.parametrize("size", [0, 40, 3000, GROWING])
@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.SHORT_WRITE])
def test_nothing_of_a_group_whose_write_failed_is_ever_replayed(fault, size, spare_bytes):
    for seed in range(20):
        fs = FaultFileSystem(seed)
        if spare_bytes is not None:
            fs.open("/spare", native.Mode.CREATE).write(0, b"\xee" * spare_bytes)
        log = LogWriter(fs, "", NUMBER, spare="" if spare_bytes is None else "/spare")
        write_group(log, before := batches(2))
        end = log.bytes
        if size == GROWING and fault != Fault.EIO:
            # Where a step does not fit, the group is tried without: only a full disk refuses both.
            used = sum(len(fs.contents(path)) for path in fs.paths())
            fs.set_disk_bytes_max(used + (0 if fault == Fault.ENOSPC else 100_000))
        else:
            fail_next_write(fs, fault)
        with pytest.raises(native.StatusError) as caught:
            write_group(log, batches(4, first_seq=3, size=lambda _: size, fill=200))
        assert caught.value.code == "Io"
        assert caught.value.errno == (errno.EIO if fault == Fault.EIO else errno.ENOSPC)
        assert (log.bytes, log.pending_bytes) == (end, 0)
        assert read_batches(fs) == before
        survivors_of_a_failed_write(fs.clone(), before, seed)
        fs.set_disk_bytes_max(1 << 30)
        # The next group ends where the second record of the failed one began.
        write_group(log, after := batches(1, first_seq=3, size=lambda _: size))
        assert read_batches(fs) == before + after


def survivors_of_a_failed_write(fs, before, seed):
    for model in CRASH_MODELS:
        crashed = fs.clone()
        crashed.crash(model, seed)
        left, synced_behind = read_what_is_left(crashed)
        assert left == before[: len(left)]
        assert synced_behind < len(left) + 1 or left == before


def expect_read_only(log, group):
    with pytest.raises(native.StatusError, match="reopen the hub") as caught:
        write_group(log, group)
    assert caught.value.code == "ReadOnly"


@pytest.mark.parametrize("size", [40, GROWING])
@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.SHORT_WRITE])
def test_a_failed_write_that_cannot_be_undone_makes_the_log_read_only(fault, size):
    fs, log = open_log()
    fail_next_write(fs, fault, forever=True)
    expect_read_only(log, batches(2, size=lambda _: size))


def test_a_failed_write_whose_undoing_cannot_be_synced_makes_the_log_read_only():
    fs, log = open_log()
    fs.set_disk_bytes_max(len(fs.contents(PATH)))  # fails the write; the plan fails the sync alone
    fs.fail_at(fs.calls(), Fault.SYNC_LOST, forever=True)
    expect_read_only(log, batches(2, size=lambda _: GROWING))


@pytest.mark.parametrize("spare_bytes", [0, 1, 5000])
def test_a_group_that_fits_is_written_although_a_whole_step_does_not(spare_bytes):
    fs, log = open_log()
    group = batches(2, size=lambda _: len(fs.contents(PATH)))  # beyond what is allocated
    group_bytes = sum(len(record(NUMBER, *fields)) for fields in group)
    fs.set_disk_bytes_max(len(start_record()) + group_bytes + spare_bytes)
    write_group(log, group)
    assert read_batches(fs) == group


def test_a_full_disk_refuses_a_group_and_takes_it_when_there_is_room_again():
    fs, log = open_log()
    used = sum(len(fs.contents(path)) for path in fs.paths())
    write_group(log, small := batches(3))
    big = batches(8, first_seq=4, size=lambda _: 100_000)
    for room in (0, 1, 8, 47, 48, 49, 4096, 200_000):
        fs.set_disk_bytes_max(used + room)
        with pytest.raises(native.StatusError) as caught:
            write_group(log, big)
        assert (caught.value.code, caught.value.errno) == ("Io", errno.ENOSPC)
        assert read_batches(fs) == small
    # What fits into the blocks that the log has needs no room.
    write_group(log, more := batches(3, first_seq=4))
    assert read_batches(fs) == small + more
    fs.set_disk_bytes_max(1 << 30)
    write_group(log, big)
    assert read_batches(fs) == small + more + big
    # What the failed writes added to the file did not count as allocated.
    assert len(fs.contents(PATH)) == log.bytes, "a large group grows the file by itself"
    write_group(log, batches(1, first_seq=12))
    assert len(fs.contents(PATH)) % SMALL_STEP_BYTES == 0


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.SHORT_WRITE])
@pytest.mark.parametrize("spare", [None, b"\xee" * 1000])
def test_a_log_that_could_not_be_made_is_not_there(fault, spare):
    for call in range(4):
        for seed in range(5):
            fs = FaultFileSystem(seed)
            if spare is not None:
                fs.open("/spare", native.Mode.CREATE).close()
                fs.set_contents("/spare", spare)
            fs.fail_at(fs.calls() + call, fault)
            try:
                LogWriter(fs, "", NUMBER, (6, 4096, 12), "" if spare is None else "/spare")
            except native.StatusError:
                survivors_of_a_failed_create(fs)
            else:  # at most the step ahead did not fit
                assert fs.faults_injected() == 0 or fault != Fault.EIO
                assert native.read_log(fs, "", NUMBER)[0][0][0] == START


def survivors_of_a_failed_create(fs):
    for model in CRASH_MODELS:
        for seed in range(5):
            crashed = fs.clone()
            crashed.crash(model, seed)
            assert PATH not in crashed.paths() or native.read_log(crashed, "", NUMBER)[0] == []
    assert PATH not in fs.paths()


# A power cut.


def acknowledge(fs, groups, spare):
    """Write and sync the groups one by one; return how many records were acknowledged."""
    acknowledged = 0
    try:
        log = LogWriter(fs, "", NUMBER, spare=spare)
        fs.sync_directory("/")
        for group in groups:
            write_group(log, group)
            log.sync()
            acknowledged += len(group)
    except native.StatusError:
        assert fs.powered_off()
    return acknowledged


def groups_in_order(counts, size):
    groups, seq = [], 1
    for count in counts:
        # What a group knows to be on the disk is what came before the group.
        group = batches(count, first_seq=seq, size=size)
        groups.append([(kind, at, seq - 1, payload) for kind, at, _, payload in group])
        seq += count
    return groups


@pytest.mark.parametrize("recycled", [False, True])
@pytest.mark.parametrize("torn", [False, True])
def test_after_a_power_cut_at_any_call_the_acknowledged_records_are_a_prefix_of_what_is_read(
    torn, recycled
):
    groups = groups_in_order([1, 3, 1, 2, 5], size=lambda i: 200 * (i + 1))
    written = [entry for group in groups for entry in group]
    blank = FaultFileSystem()
    old = LogWriter(blank, "", 6)
    for group in groups_in_order([1, 3, 1, 2, 5], size=lambda i: 200 * (i + 1)):
        write_group(old, group)
    old.sync()
    blank.sync_directory("/")
    for call in range(2 * len(groups) + 6):
        fs = blank.clone()
        fs.crash_at(fs.mutating_calls() + call, torn)
        acknowledged = acknowledge(fs, groups, "/000000000006.log" if recycled else "")
        for model in CRASH_MODELS:
            for seed in range(4):
                crashed = fs.clone()
                crashed.crash(model, seed)
                left, synced_behind = read_what_is_left(crashed)
                assert left == written[: len(left)]
                assert len(left) >= acknowledged
                # A power cut is never taken for damage.
                assert synced_behind < len(left) + 1


# Damage.


def test_damage_to_a_record_that_was_on_the_disk_is_told_from_a_torn_tail():
    entries = batches(8, size=lambda i: 30 * i)
    packed = [start_record(), *(record(NUMBER, *entry) for entry in entries)]
    starts = [0, *accumulate(len(one) for one in packed)]
    contents = b"".join(packed)
    fs, _ = open_log(contents)
    for i, (_, seq, _, payload) in enumerate(entries):
        for at in (0, 5, 47, 48)[: 4 if payload else 3]:
            damaged = bytearray(contents + bytes(1000))
            damaged[starts[i + 1] + at] ^= 4
            fs.set_contents(PATH, bytes(damaged))
            records, end, synced_behind = native.read_log(fs, "", NUMBER)
            assert (len(records), end) == (i + 1, starts[i + 1])
            was_on_disk = i < len(entries) - 1  # nothing behind the last record vouches for it
            assert (synced_behind >= seq) == was_on_disk


def test_synced_behind_finds_a_record_wherever_it_lies():
    vouching = record(NUMBER, BATCH, 10, 9, b"payload")
    begin = len(start_record())
    places = [begin, begin + 8, 3 * WINDOW_BYTES + 8]
    places += [begin + WINDOW_BYTES + 8 * i for i in range(-8, 8)]
    places += [WINDOW_BYTES + 8 * i for i in range(-8, 8)]
    fs, _ = open_log(b"")
    for place in places:
        for tail in (0, 1, 100):
            contents = start_record().ljust(begin + 8, b"\1").ljust(place, b"\0") + vouching
            if place == begin:
                contents = start_record() + vouching[:-1]  # its payload is damaged
            fs.set_contents(PATH, contents + bytes(tail))
            records, end, synced_behind = native.read_log(fs, "", NUMBER)
            assert (len(records), end, synced_behind) in [(1, begin, 9), (2, begin + 56, 0)]


def test_synced_behind_takes_the_highest_claim_and_only_of_this_log():
    claims = [record(NUMBER, BATCH, 5, claim, b"") for claim in (3, 8, 4)]
    stale = record(NUMBER - 1, BATCH, 100, 99, b"")
    broken = bytearray(record(NUMBER, BATCH, 100, 99, b""))
    broken[16] ^= 1
    contents = start_record() + bytes(64) + stale + b"".join(claims) + bytes(broken)
    fs, _ = open_log(contents + b"EHWR" * 20 + b"EHWR")
    assert native.read_log(fs, "", NUMBER)[2] == 8


def test_synced_behind_does_not_move_the_reader():
    fs, log = open_log()
    reader = LogReader(fs, "", NUMBER)
    reader.next()
    assert (reader.next(), reader.synced_behind()) == (None, 0)
    write_group(log, batches(2))
    assert reader.next()[1] == 1
    assert reader.synced_behind() == 1  # the claim of the record ahead
    assert reader.next()[1] == 2
