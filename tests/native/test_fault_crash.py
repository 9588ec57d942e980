"""Each crash model leaves every state it may leave, and no other; so it finds missing syncs.

Over many seeds, the states seen are compared with the set of all that the model allows.
"""

from __future__ import annotations

import itertools

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
    create,
    disk_with,
    state,
)

from ehub._native import _testing as native

Crash = native.CrashModel
Fault = native.Fault
Mode = native.Mode

MODELS = list(Crash.__members__.values())


def outcomes(disk: native.FaultFileSystem, model: Crash, path: str) -> set[bytes]:
    """What a file may hold after such a crash."""
    return {after(disk, model, seed).contents(path) for seed in range(SEEDS)}


# What every crash keeps, and what none does.


@pytest.mark.parametrize("model", MODELS)
def test_synced_bytes_under_synced_names_survive_every_crash(model):
    disk = disk_with()
    file = create(disk, "/d/new", A + B)
    file.write(3, b"xyz")
    file.truncate(600)
    file.sync()
    disk.sync_directory("/d")
    expected = state(disk)
    for seed in range(20):
        assert state(after(disk, model, seed)) == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_crash_is_the_same_for_the_same_seed(model):
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(100, B + C + D)
    create(disk, "/d/g", D * 3)
    disk.rename("/d/g", "/d/h")
    for seed in range(20):
        assert state(after(disk, model, seed)) == state(after(disk, model, seed))


@pytest.mark.parametrize("model", POWER_CUTS)
def test_after_a_power_cut_all_that_is_left_is_durable(model):
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(100, B + C)
    disk.rename("/d/f", "/d/g")
    survivor = after(disk, model, 7)
    assert state(after(survivor, Crash.DROP_UNSYNCED)) == state(survivor)


@pytest.mark.parametrize("model", MODELS)
def test_a_crash_invalidates_files_and_locks_but_not_mappings(model):
    disk = disk_with(b"before")
    file = disk.open("/d/f", Mode.WRITE)
    assert file.try_lock(True)
    mapping = file.map(6)
    disk.crash(model, 0)
    for call, *arguments in [(file.read, 0, 1), (file.write, 0, b"x"), (file.truncate, 0)]:
        assert_eio(call, *arguments)
    for call, *arguments in [(file.sync,), (file.size,), (file.map, 1), (file.try_lock, True)]:
        assert_eio(call, *arguments)
    assert_eio(file.linked)
    file.unlock()
    again = disk.open("/d/f", Mode.WRITE)
    assert again.try_lock(True)
    file.close()
    assert not disk.open("/d/f", Mode.WRITE).try_lock(False)
    assert mapping.bytes(0, 6) == b"before"
    assert disk.mutating_calls() == 0


# Each model.


def test_killing_the_process_keeps_everything_and_syncs_nothing():
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(0, B)
    create(disk, "/d/g", C)
    killed = after(disk, Crash.KILL_PROCESS)
    assert state(killed) == (("/d/f", B), ("/d/g", C))
    assert state(after(killed, Crash.DROP_UNSYNCED)) == (("/d/f", A),)


def test_dropping_keeps_neither_bytes_nor_names_nor_sizes():
    disk = disk_with(A + B)
    file = disk.open("/d/f", Mode.WRITE)
    file.write(0, C)
    file.write(3 * SECTOR, D)
    file.truncate(SECTOR)
    create(disk, "/d/g", C).sync()
    disk.rename("/d/f", "/d/h")
    assert state(after(disk, Crash.DROP_UNSYNCED)) == (("/d/f", A + B),)


def test_syncing_the_file_alone_does_not_keep_its_name():
    disk = disk_with()
    create(disk, "/d/g", A).sync()
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f"]


def test_syncing_the_directory_alone_does_not_keep_the_bytes():
    disk = disk_with()
    create(disk, "/d/g", A)
    disk.sync_directory("/d")
    assert state(after(disk, Crash.DROP_UNSYNCED)) == (("/d/f", b""), ("/d/g", b""))


def test_a_prefix_is_one_of_the_states_the_process_saw_and_each_may_be_left():
    disk = disk_with(A)
    seen = [state(disk)]
    first = disk.open("/d/f", Mode.WRITE)
    second = disk.open("/d/g", Mode.CREATE)
    for step in [
        lambda: second.write(0, C),
        lambda: first.write(10, b"changed"),
        lambda: disk.rename("/d/g", "/d/h"),
        lambda: first.truncate(12),
        lambda: second.write(SECTOR, D),
        lambda: disk.remove("/d/f"),
    ]:
        seen.append(state(disk))
        step()
    seen.append(state(disk))
    assert {state(after(disk, Crash.KEEP_PREFIX, seed)) for seed in range(SEEDS)} == set(seen)


def test_random_sectors_are_kept_one_by_one():
    disk = disk_with(A * 3)
    disk.open("/d/f", Mode.WRITE).write(0, B * 3)
    assert outcomes(disk, Crash.RANDOM_SECTORS, "/d/f") == {
        b"".join(sectors) for sectors in itertools.product([A, B], repeat=3)
    }


def test_random_sectors_are_those_of_the_disk_not_of_the_write():
    disk = disk_with(A * 2)
    disk.open("/d/f", Mode.WRITE).write(500, b"x" * 20)
    head, tail = A[:500] + b"x" * 12, b"x" * 8 + A[8:]
    assert outcomes(disk, Crash.RANDOM_SECTORS, "/d/f") == {A + A, head + A, A + tail, head + tail}


def test_random_sectors_lose_sizes_apart_from_bytes():
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(SECTOR, B)
    assert outcomes(disk, Crash.RANDOM_SECTORS, "/d/f") == {A, A + bytes(SECTOR), A + B}


def test_random_sectors_may_forget_a_truncate():
    disk = disk_with(A + B)
    disk.open("/d/f", Mode.WRITE).truncate(100)
    assert outcomes(disk, Crash.RANDOM_SECTORS, "/d/f") == {A + B, A[:100]}


def test_random_names_are_kept_one_by_one():
    disk = disk_with()
    for name in "ghi":
        disk.open(f"/d/{name}", Mode.CREATE)
    survivors = {tuple(after(disk, Crash.RANDOM_SECTORS, seed).list("/d")) for seed in range(SEEDS)}
    subsets = itertools.product([(), ("g",)], [(), ("h",)], [(), ("i",)])
    assert survivors == {("f", *g, *h, *i) for g, h, i in subsets}


def test_changes_of_one_name_are_kept_in_their_order():
    disk = disk_with(A)
    for content in (B, C):
        create(disk, "/d/tmp", content).sync()
        disk.rename("/d/tmp", "/d/f")
    survivors = {state(after(disk, Crash.RANDOM_SECTORS, seed)) for seed in range(SEEDS)}
    assert survivors == {
        (("/d/f", A),),
        (("/d/f", A), ("/d/tmp", B)),
        (("/d/f", B),),
        (("/d/f", B), ("/d/tmp", C)),
        (("/d/f", C),),
    }


def test_a_torn_tail_ends_the_last_write_at_a_sector_and_keeps_the_rest():
    disk = disk_with()
    file = disk.open("/d/f", Mode.WRITE)
    file.write(0, A[:300])
    file.write(300, B * 3)
    create(disk, "/d/g", C * 2)
    whole = A[:300] + B * 3
    cuts = [300, SECTOR, 2 * SECTOR, 3 * SECTOR]
    assert outcomes(disk, Crash.TORN_TAIL, "/d/f") == {whole[:cut] for cut in cuts}
    assert outcomes(disk, Crash.TORN_TAIL, "/d/g") == {b"", C}


def test_a_torn_overwrite_leaves_the_old_bytes_behind_the_tear():
    disk = disk_with(A * 3)
    disk.open("/d/f", Mode.WRITE).write(0, B * 3)
    assert outcomes(disk, Crash.TORN_TAIL, "/d/f") == {A * 3, B + A * 2, B * 2 + A}


def test_sizes_without_data_read_as_zeros_and_overwrites_as_before():
    disk = disk_with(A)
    file = disk.open("/d/f", Mode.WRITE)
    file.write(100, B + C)
    create(disk, "/d/g", D)
    disk.rename("/d/g", "/d/h")
    assert state(after(disk, Crash.SIZE_WITHOUT_DATA)) == (
        ("/d/f", A + bytes(100 + SECTOR)),
        ("/d/h", bytes(SECTOR)),
    )


def test_sizes_never_shrink_by_a_write():
    disk = disk_with(A + B)
    disk.open("/d/f", Mode.WRITE).write(100, b"x")
    assert after(disk, Crash.SIZE_WITHOUT_DATA).contents("/d/f") == A + B


def test_an_emptied_file_without_data_is_all_zeros():
    disk = disk_with(A)
    create(disk, "/d/f", B)
    assert after(disk, Crash.SIZE_WITHOUT_DATA).contents("/d/f") == bytes(SECTOR)


def test_dropping_names_keeps_bytes_under_their_old_names():
    disk = disk_with(A)
    disk.open("/d/f", Mode.WRITE).write(0, B)
    disk.rename("/d/f", "/d/g")
    create(disk, "/d/f", C)
    assert state(after(disk, Crash.DROP_NAMES)) == (("/d/f", B),)


# Names.


def test_a_removed_name_comes_back_until_the_directory_is_synced():
    disk = disk_with(A)
    disk.remove("/d/f")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f"]
    disk.sync_directory("/d")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == []


def test_a_rename_to_another_directory_is_durable_whole_with_the_directory_it_went_to():
    disk = disk_with(A)
    disk.make_directory("/e")
    disk.rename("/d/f", "/e/g")
    disk.sync_directory("/d")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f"]
    disk.sync_directory("/e")
    assert state(after(disk, Crash.DROP_UNSYNCED)) == (("/e/g", A),)


def test_syncing_a_directory_syncs_the_changes_its_names_depend_on():
    disk = disk_with(A)
    disk.make_directory("/e")
    create(disk, "/d/new", B).sync()
    disk.rename("/d/new", "/e/new")
    create(disk, "/d/new", C).sync()
    disk.sync_directory("/d")
    assert state(after(disk, Crash.DROP_UNSYNCED)) == (("/d/f", A), ("/d/new", C), ("/e/new", B))


def test_what_is_in_a_directory_is_lost_with_its_name():
    disk = disk_with()
    disk.make_directory("/e")
    create(disk, "/e/g", A).sync()
    disk.sync_directory("/e")
    disk.rename("/e", "/moved")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f", "/e/g"]
    disk.sync_directory("/")
    assert after(disk, Crash.DROP_UNSYNCED).paths() == ["/d/f", "/moved/g"]


@pytest.mark.parametrize("first_crash", MODELS)
def test_a_made_directory_is_durable_even_if_an_earlier_process_died_making_it(first_crash):
    for call in range(7):
        disk = native.FaultFileSystem()
        disk.crash_at(call)
        assert_eio(disk.make_directory, "/a/b/c")
        disk.crash(first_crash, call)
        disk.make_directory("/a/b/c")
        disk.crash(Crash.DROP_UNSYNCED)
        assert disk.list("/a/b") == ["c"]


# The whole point: it finds the mistakes that it is for.


def replace_file(disk: native.FaultFileSystem, *, sync_file: bool, sync_name: bool) -> None:
    """Replace /d/f atomically, perhaps wrongly."""
    file = disk.open("/d/tmp", Mode.CREATE)
    file.write(0, B[:200])
    file.write(200, (B * 3)[200:])
    if sync_file:
        file.sync()
    disk.rename("/d/tmp", "/d/f")
    if sync_name:
        disk.sync_directory("/d")


def surviving_contents(**options: bool) -> tuple[set[bytes], set[bytes]]:
    """What /d/f holds after a crash at any call of replace_file, and after one behind its end."""
    during, finished = set(), set()
    for call, torn, model, seed in itertools.product(range(7), [False, True], MODELS, range(10)):
        disk = disk_with(A * 3, seed)
        disk.crash_at(call, torn)
        try:
            replace_file(disk, **options)
        except native.StatusError:
            left = during
        else:
            left = finished
        disk.crash(model, seed)
        left.add(disk.contents("/d/f"))
    return during, finished


def test_a_correct_replacement_is_old_or_new_during_and_new_afterwards():
    during, finished = surviving_contents(sync_file=True, sync_name=True)
    assert during == {A * 3, B * 3}
    assert finished == {B * 3}


def test_a_replacement_without_a_sync_of_the_file_is_caught():
    _, finished = surviving_contents(sync_file=False, sync_name=True)
    assert finished > {B * 3}


def test_a_replacement_without_a_sync_of_the_directory_is_caught():
    _, finished = surviving_contents(sync_file=True, sync_name=False)
    assert finished == {A * 3, B * 3}
