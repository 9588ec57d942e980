"""A simulated disk with one file, what a crash would leave of it, and how its calls fail."""

from __future__ import annotations

import errno

import pytest

from ehub._native import _testing as native

Crash = native.CrashModel
Mode = native.Mode
StatusError = native.StatusError

SECTOR = 512
SEEDS = 200
POWER_CUTS = [model for model in Crash.__members__.values() if model != Crash.KILL_PROCESS]

A, B, C, D = (letter * SECTOR for letter in (b"a", b"b", b"c", b"d"))


def disk_with(content: bytes = b"", seed: int = 0) -> native.FaultFileSystem:
    """A disk with the durable file /d/f, and counters at 0."""
    disk = native.FaultFileSystem(seed)
    disk.make_directory("/d")
    file = disk.open("/d/f", Mode.CREATE)
    file.write(0, content)
    file.sync()
    disk.sync_directory("/d")
    file.close()
    disk.crash(Crash.DROP_UNSYNCED)
    return disk


def create(disk: native.FaultFileSystem, path: str, content: bytes = b"") -> native.File:
    file = disk.open(path, Mode.CREATE)
    file.write(0, content)
    return file


def state(disk: native.FaultFileSystem) -> tuple[tuple[str, bytes], ...]:
    """All files and their bytes."""
    return tuple((path, disk.contents(path)) for path in disk.paths())


def after(disk: native.FaultFileSystem, model: Crash, seed: int = 0) -> native.FaultFileSystem:
    """What a crash here and now would leave."""
    survivor = disk.clone()
    survivor.crash(model, seed)
    return survivor


def assert_fails(code: str, number: int, call, *arguments) -> None:
    with pytest.raises(StatusError) as raised:
        call(*arguments)
    assert (raised.value.code, raised.value.errno) == (code, number)


def assert_eio(call, *arguments) -> None:
    assert_fails("Io", errno.EIO, call, *arguments)
