"""The simulated disk counts and fails calls as planned, and without a plan is the real one."""

from __future__ import annotations

import errno
import itertools
import tempfile
from pathlib import Path

import pytest
from fault_disk import (
    POWER_CUTS,
    SECTOR,
    SEEDS,
    A,
    B,
    C,
    D,
    after,
    assert_eio,
    assert_fails,
    create,
    disk_with,
    state,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ehub._native import _testing as native

Crash = native.CrashModel
Fault = native.Fault
Mode = native.Mode
StatusError = native.StatusError


# Counting, and the power cut at a call.


def test_mutating_calls_are_counted_and_reading_calls_on_request():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    file.read(0, 1)
    file.size()
    disk.list("/d")
    assert (disk.calls(), disk.mutating_calls()) == (0, 0)
    file.write(0, b"")
    file.start_writeback(0, 1)
    assert disk.mutating_calls() == 0
    file.write(0, b"x")
    file.truncate(5)
    file.sync()
    disk.rename("/d/f", "/d/g")
    disk.sync_directory("/d")
    disk.remove("/d/g")
    disk.open("/d/h", Mode.OPEN_OR_CREATE)
    disk.open("/d/h", Mode.OPEN_OR_CREATE)
    disk.open("/d/h", Mode.CREATE)
    assert (disk.calls(), disk.mutating_calls()) == (8, 8)
    disk.count_reads(True)
    assert (disk.calls(), disk.mutating_calls()) == (8 + 5, 8)


def test_a_call_that_is_refused_is_counted():
    disk = disk_with()
    assert_fails("NotFound", 0, disk.remove, "/d/none")
    assert disk.mutating_calls() == 1


def test_the_power_fails_at_a_call_and_stays_off_until_the_crash():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    disk.crash_at(1)
    file.write(0, b"done")
    assert not disk.powered_off()
    assert_eio(file.write, 0, b"lost")
    assert disk.powered_off()
    for call, *arguments in [(file.read, 0, 1), (file.sync,), (disk.list, "/d")]:
        assert_eio(call, *arguments)
    assert_eio(disk.remove, "/d/f")
    assert disk.mutating_calls() == 2
    assert disk.contents("/d/f") == b"done" + A[4:]
    disk.crash(Crash.KILL_PROCESS)
    assert disk.contents("/d/f") == b"done" + A[4:]
    disk.open("/d/f", Mode.WRITE).write(0, b"power")
    assert not disk.powered_off()


@pytest.mark.parametrize("offset", [0, 100])
def test_a_torn_call_writes_whole_sectors_but_not_all(offset):
    lengths = set()
    for seed in range(SEEDS):
        disk = disk_with(seed=seed)
        disk.crash_at(0, torn=True)
        assert_eio(disk.open("/d/f", Mode.WRITE).write, offset, A * 3)
        lengths.add(len(disk.contents("/d/f")))
    last = 3 * SECTOR if offset else 2 * SECTOR
    assert lengths == {0, *range(SECTOR, last + 1, SECTOR)}


def test_a_torn_call_that_is_no_write_does_nothing():
    disk = disk_with(A)
    disk.crash_at(0, torn=True)
    assert_eio(disk.remove, "/d/f")
    assert disk.paths() == ["/d/f"]


def test_a_forgotten_plan_does_nothing():
    disk = disk_with()
    disk.crash_at(0)
    disk.fail_at(0, Fault.EIO, forever=True)
    disk.clear_plan()
    disk.open("/d/f", Mode.WRITE).write(0, A)
    assert disk.contents("/d/f") == A


# Faults.


@pytest.mark.parametrize(
    ("fault", "number"), [(Fault.EIO, errno.EIO), (Fault.ENOSPC, errno.ENOSPC)]
)
def test_a_failing_call_does_nothing_and_the_next_one_works(fault, number):
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    calls = [
        (file.write, 0, B),
        (file.truncate, 1),
        (file.sync,),
        (disk.rename, "/d/f", "/d/g"),
        (disk.remove, "/d/f"),
        (disk.sync_directory, "/d"),
        (disk.open, "/d/new", Mode.CREATE),
        (disk.make_directory, "/d/x"),
    ]
    for call, *arguments in calls:
        disk.fail_at(disk.calls(), fault)
        assert_fails("Io", number, call, *arguments)
        assert state(disk) == (("/d/f", A),)
    assert disk.faults_injected() == len(calls)
    file.write(0, B)
    assert state(disk) == (("/d/f", B),)


def test_a_fault_may_last():
    disk = disk_with()
    file = disk.open("/d/f", Mode.WRITE)
    disk.fail_at(1, Fault.EIO, forever=True)
    file.write(0, b"x")
    for _ in range(3):
        assert_eio(file.write, 0, b"y")
    assert_eio(file.sync)
    assert disk.faults_injected() == 4
    assert file.read(0, 1) == b"x"


def test_reading_calls_fail_only_if_they_count():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.READ)
    disk.fail_at(0, Fault.EIO, forever=True)
    assert file.read(0, 1) == b"a"
    disk.count_reads(True)
    assert_eio(file.read, 0, 1)
    assert_eio(file.map, 1)


def test_a_short_write_leaves_a_prefix_and_other_calls_alone():
    lengths = set()
    for seed in range(SEEDS):
        disk = disk_with(seed=seed)
        file = disk.open("/d/f", Mode.WRITE)
        disk.fail_at(0, Fault.SHORT_WRITE, forever=True)
        file.sync()
        assert disk.faults_injected() == 0
        assert_fails("Io", errno.ENOSPC, file.write, 0, b"abcd")
        written = disk.contents("/d/f")
        assert written == b"abcd"[: len(written)]
        lengths.add(len(written))
    assert lengths == {0, 1, 2, 3}


def test_what_a_failed_sync_forgot_is_lost_although_it_can_be_read_and_the_next_sync_succeeds():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    file.write(0, B)
    disk.fail_at(1, Fault.SYNC_LOST)
    assert_eio(file.sync)
    file.write(SECTOR, C)
    file.sync()
    assert file.read(0, 2 * SECTOR) == B + C
    for model in POWER_CUTS:
        assert after(disk, model).contents("/d/f") == A + C
    assert after(disk, Crash.KILL_PROCESS).contents("/d/f") == B + C


def test_bytes_written_again_after_a_failed_sync_can_be_synced():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    file.write(0, B)
    disk.fail_at(1, Fault.SYNC_LOST)
    assert_eio(file.sync)
    file.write(0, B)
    file.sync()
    assert after(disk, Crash.DROP_UNSYNCED).contents("/d/f") == B


def test_a_lost_sync_of_a_directory_fails_but_can_be_repeated():
    disk = disk_with()
    create(disk, "/d/g")
    disk.fail_at(0, Fault.SYNC_LOST, forever=True)
    assert_eio(disk.sync_directory, "/d")
    disk.open("/d/g", Mode.WRITE).write(0, A)
    disk.clear_plan()
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f"]
    disk.sync_directory("/d")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f", "/d/g"]


def test_a_full_disk_takes_what_fits():
    disk = disk_with(b"12345")
    disk.set_disk_bytes_max(10)
    file = disk.open("/d/f", Mode.WRITE)
    assert_fails("Io", errno.ENOSPC, file.write, 3, b"abcdefghij")
    assert file.read(0, file.size()) == b"123abcdefg"
    file.write(0, b"overwrites")
    assert_fails("Io", errno.ENOSPC, file.write, 10, b"x")
    assert_fails("Io", errno.ENOSPC, file.write, 20, b"x")
    assert_fails("Io", errno.ENOSPC, file.truncate, 11)
    assert file.size() == 10
    file.truncate(4)
    create(disk, "/d/g", b"123456")


def test_a_removed_file_frees_the_disk_when_it_is_closed():
    disk = disk_with(b"1234567890")
    disk.set_disk_bytes_max(10)
    file = disk.open("/d/f", Mode.READ)
    disk.remove("/d/f")
    other = create(disk, "/d/g")
    assert_fails("Io", errno.ENOSPC, other.write, 0, b"x")
    file.close()
    other.write(0, b"1234567890")


# Mappings, locks, copies, raw bytes.


def test_a_mapping_sees_growth_within_and_beyond_what_was_reserved():
    file = create(native.FaultFileSystem(), "/f", b"first")
    small = file.map(10)
    file.write(5, b"56789")
    assert small.bytes(0, 10) == b"first56789"
    file.write(10, b"x" * 100_000)
    large = file.map(1 << 20)
    file.write(0, b"FIRST")
    file.write(200_000, b"far")
    assert small.bytes(0, 10) == large.bytes(0, 10) == b"FIRST56789"
    assert large.bytes(200_000, 3) == b"far"
    file.truncate(7)
    file.truncate(10)
    assert small.bytes(0, 10) == large.bytes(0, 10) == b"FIRST56\0\0\0"


def test_a_mapping_outlives_file_name_and_file_system():
    disk = native.FaultFileSystem()
    file = create(disk, "/f", b"still here")
    mapping = file.map(1 << 16)
    disk.remove("/f")
    file.close()
    disk.crash(Crash.DROP_UNSYNCED)
    del disk, file
    assert mapping.bytes(0, 10) == b"still here"


def test_a_file_outlives_its_file_system():
    file = create(native.FaultFileSystem(), "/f", b"abc")
    assert file.read(0, 3) == b"abc"


@pytest.mark.parametrize("size", [10_000, 100_000, 5_000_000])
def test_a_new_disk_shows_nothing_of_one_that_is_gone(size):
    for _ in range(3):
        disk = native.FaultFileSystem()
        file = create(disk, "/f", b"x")
        file.write(size - 1, b"y")
        assert disk.contents("/f") == b"x" + bytes(size - 2) + b"y"
        file.truncate(1)
        file.truncate(size)
        assert disk.contents("/f") == b"x" + bytes(size - 1)
        file.write(0, b"z" * size)
        del file, disk


def test_locks_exclude_each_other_and_end_with_the_file():
    disk = disk_with()
    first, second, third = (disk.open("/d/f", Mode.READ) for _ in range(3))
    assert first.try_lock(False)
    assert second.try_lock(False)
    assert not third.try_lock(True)
    first.unlock()
    second.close()
    assert third.try_lock(True)
    assert not first.try_lock(False)
    third.close()
    assert first.try_lock(False)


def test_a_clone_shares_nothing_with_the_original():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    assert file.try_lock(True)
    file.write(0, B)
    disk.crash_at(5)
    copy = disk.clone()
    file.write(0, C)
    disk.remove("/d/f")
    assert state(copy) == (("/d/f", B),)
    assert state(after(copy, Crash.DROP_UNSYNCED)) == (("/d/f", A),)
    assert copy.mutating_calls() == 1
    other = copy.open("/d/f", Mode.WRITE)
    assert other.try_lock(True)
    for _ in range(4):
        other.write(0, D)
    assert_eio(other.sync)
    assert copy.powered_off()
    assert not disk.powered_off()


def test_disks_have_one_fingerprint_if_they_show_the_same():
    def disk(content, path="/f", size=None):
        made = native.FaultFileSystem()
        file = create(made, path, content)
        if size is not None:
            file.truncate(size)
        return made

    shown = A + bytes(10_000)
    same = disk(shown)
    assert same.fingerprint() == same.clone().fingerprint()
    assert same.fingerprint() == disk(A, size=len(shown)).fingerprint()
    others = [disk(A), disk(A, size=len(shown) + 1), disk(shown, "/g"), disk(b""), disk(bytes(9))]
    others += [disk(shown[:at] + b"!" + shown[at + 1 :]) for at in (0, 1, 511, 512, 10_511)]
    create(others[0], "/g", b"")
    assert len({one.fingerprint() for one in [same, *others]}) == 1 + len(others)


def test_raw_contents_are_durable_and_uncounted():
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(0, B)
    disk.fail_at(1, Fault.EIO, forever=True)
    disk.set_contents("/d/f", b"damaged")
    assert disk.contents("/d/f") == b"damaged"
    assert disk.mutating_calls() == 1
    assert after(disk, Crash.DROP_UNSYNCED).contents("/d/f") == b"damaged"
    assert_fails("NotFound", 0, disk.contents, "/d/none")
    assert_fails("NotFound", 0, disk.set_contents, "/d/none", b"")
    assert_fails("Io", errno.EISDIR, disk.contents, "/d")
    assert disk.paths() == ["/d/f"]


def test_a_file_has_a_largest_size():
    file = create(native.FaultFileSystem(), "/f")
    for offset in [2**40, 2**63, 2**64 - 1]:
        assert_fails("Io", errno.EFBIG, file.write, offset, b"xy")
    assert_fails("Io", errno.EFBIG, file.truncate, 2**40)
    assert_fails("Io", errno.ENOMEM, file.map, 2**40)
    file.truncate(2**30)
    assert file.read(2**30 - 1, 1) == b"\0"


# Without faults it is the real thing.

# A real file system whose syncs take no time, where there is one.
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None

PATHS = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/c", "/a/c/x", "/missing/x", "/x"]
PATH_CALLS = ["make_directory", "remove", "list", "sync_directory"]
ALL_MODES = [Mode.READ, Mode.WRITE, Mode.CREATE, Mode.OPEN_OR_CREATE]
SLOTS = 4

path_names = st.sampled_from(PATHS)
slots = st.integers(0, SLOTS - 1)
modes = st.sampled_from(ALL_MODES)
offsets = st.one_of(st.integers(0, 40), st.sampled_from([500, 1024, 4095, 70_000]))

STEPS = st.one_of(
    st.tuples(st.just("open"), slots, path_names, modes),
    st.tuples(st.just("open"), slots, st.sampled_from(["/x", "/a"]), st.just(Mode.OPEN_OR_CREATE)),
    st.tuples(st.just("close"), slots),
    st.tuples(st.just("write"), slots, offsets, st.binary(max_size=30)),
    st.tuples(st.just("read"), slots, offsets, st.integers(0, 30)),
    st.tuples(st.just("truncate"), slots, offsets),
    st.tuples(st.just("size"), slots),
    st.tuples(st.just("sync"), slots),
    st.tuples(st.just("map"), slots, offsets),
    st.tuples(st.just("see"), slots),
    st.tuples(st.just("try_lock"), slots, st.booleans()),
    st.tuples(st.just("unlock"), slots),
    st.tuples(st.just("linked"), slots),
    st.tuples(st.sampled_from(PATH_CALLS), path_names),
    st.tuples(st.just("rename"), path_names, path_names),
)


class Machine:
    """One file system, a few open files and a mapping of each; steps give comparable results."""

    def __init__(self, fs: native.FileSystem, root: str) -> None:
        self.fs = fs
        self.root = root
        self.files: dict[int, native.File] = {}
        self.mappings: dict[int, native.Mapping] = {}
        self.locked: set[int] = set()

    def step(self, name: str, *arguments):
        """Do it and say what came of it."""
        try:
            if name in (*PATH_CALLS, "rename"):
                return getattr(self.fs, name)(*(self.root + path for path in arguments))
            if hasattr(self, name):
                return getattr(self, name)(*arguments)
            return self.call(name, *arguments)
        except StatusError as error:
            return (error.code, error.errno)

    def call(self, name: str, slot: int, *arguments):
        """A method of an open file."""
        return getattr(self.files[slot], name)(*arguments) if slot in self.files else None

    def open(self, slot: int, path: str, mode: Mode) -> str:
        """Replace what the slot held."""
        self.close(slot)
        self.files[slot] = self.fs.open(self.root + path, mode)
        return "opened"

    def close(self, slot: int) -> None:
        """End the file, and so its lock, but not the mapping's memory before it is dropped."""
        if slot in self.files:
            self.files.pop(slot).close()
        self.mappings.pop(slot, None)
        self.locked.discard(slot)

    def map(self, slot: int, size: int) -> int | None:
        """Keep a mapping for later looks."""
        if slot not in self.files:
            return None
        self.mappings[slot] = self.files[slot].map(size)
        return self.mappings[slot].size_bytes

    def see(self, slot: int) -> bytes | None:
        """The mapped bytes, as far as the file reaches."""
        if slot not in self.mappings:
            return None
        mapping = self.mappings[slot]
        return mapping.bytes(0, min(mapping.size_bytes, self.files[slot].size()))

    def try_lock(self, slot: int, exclusive: bool) -> bool | None:
        """Only on files without a lock: more is a mistake of the caller."""
        if slot not in self.files or slot in self.locked:
            return None
        taken = self.files[slot].try_lock(exclusive)
        if taken:
            self.locked.add(slot)
        return taken

    def unlock(self, slot: int) -> None:
        """Allowed with or without a lock."""
        self.locked.discard(slot)
        self.call("unlock", slot)


def assert_same_files(root: str, simulated: native.FaultFileSystem) -> None:
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    assert dict(state(simulated)) == {str(path): path.read_bytes() for path in files}


@settings(max_examples=300)
@given(st.lists(STEPS, min_size=10, max_size=60))
def test_without_faults_it_behaves_like_the_real_one(steps):
    with tempfile.TemporaryDirectory(dir=FAST) as root:
        real = Machine(native.PosixFileSystem(), root)
        simulated = Machine(native.FaultFileSystem(), root)
        simulated.fs.make_directory(root)
        for number, step in enumerate([("make_directory", "/a"), *steps]):
            assert simulated.step(*step) == real.step(*step), (number, step)
        for slot in list(real.files):
            real.close(slot)
        assert_same_files(root, simulated.fs)


TREE_PATHS = ["/a", "/a/x", "/a/c", "/a/c/x", "/b", "/b/x", "/e", "/x", "/y", "/missing/x"]
TREE_FILES = ["/a/x", "/b/x", "/x"]
TREE_CALLS = [
    *(("rename", a, b) for a, b in itertools.product(TREE_PATHS, repeat=2)),
    *((name, path) for name, path in itertools.product(PATH_CALLS, TREE_PATHS)),
    *(("open", 9, path, mode) for path, mode in itertools.product(TREE_PATHS, ALL_MODES)),
]


def grow_tree(machine: Machine) -> None:
    """Three files, each held open, and directories with and without something in them."""
    for path in ["/a/c", "/b", "/e"]:
        machine.step("make_directory", path)
    for slot, path in enumerate(TREE_FILES):
        machine.step("open", slot, path, Mode.CREATE)
        machine.step("write", slot, 0, path.encode())


def test_every_call_on_every_path_of_a_tree_does_what_the_real_one_does():
    for step in TREE_CALLS:
        with tempfile.TemporaryDirectory(dir=FAST) as root:
            machines = [
                Machine(native.PosixFileSystem(), root),
                Machine(native.FaultFileSystem(), root),
            ]
            for machine in machines:
                grow_tree(machine)
            real, simulated = (machine.step(*step) for machine in machines)
            assert simulated == real, step
            for look in [("linked", slot) for slot in range(len(TREE_FILES))]:
                real, simulated = (machine.step(*look) for machine in machines)
                assert simulated == real, (step, look)
            assert_same_files(root, machines[1].fs)
