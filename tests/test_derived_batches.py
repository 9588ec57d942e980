"""Means are visible before they are on the disk; losing them to a power cut is no loss.

What is looked at is a copy of the files of an open hub in which the last batches, those of the
means, did not reach the disk, while LOCK says how far its writer had come.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from held_up import held_up

import ehub

DIMS = 32
GROUPS = 3000  # so many that their means go to a file, past the log
HEADER = struct.Struct("<IIQQQQII")


def last_record(log: Path) -> int:
    """Where the last record of a log begins."""
    content = log.read_bytes()
    found, at = [], 0
    while content[at : at + 4] == b"EHWR":
        size = HEADER.unpack_from(content, at)[5]
        found.append(at)
        at += -(-(HEADER.size + size) // 8) * 8
    return found[-1]


def zero(file: Path, begin: int) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(begin)
        opened.write(bytes(size - begin))


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        rows = np.arange(GROUPS * DIMS, dtype=np.float32).reshape(GROUPS, DIMS)
        items.multiset(np.arange(GROUPS), rows)
        average = items.create_average("each", {i: [i] for i in range(GROUPS)})
        average.multiget([0])  # as they are now
        items.multiset(np.arange(GROUPS), rows + 1)
        hub.checkpoint()
        assert average.get(1)[0] == rows[1, 0] + 1  # made anew, and written: derived, durable soon
        yield hub


@pytest.fixture
def cut(hub, tmp_path):
    """The hub after a power cut that took the stamps, and the vectors of the means."""
    path = tmp_path / "cut"
    shutil.copytree(hub.path, path)
    log = max(path.glob("wal/*.log"))
    zero(log, last_record(log))
    means = max(path.glob("segments/*.f32"))
    zero(means, 0)
    return path


def check(opened: ehub.Hub) -> None:
    items = opened.get_space("items")
    assert len(items) == GROUPS
    assert items.get(7)[0] == 7 * DIMS + 1


def test_repair_does_not_miss_means_that_a_power_cut_took(cut):
    report = ehub.repair(cut)
    assert (report.batches_dropped, report.rows_dropped) == (0, 0)
    assert list(report.dropped) == []
    with ehub.open(cut) as opened:
        check(opened)
        assert opened.get_space("items").averages("each").get(7)[0] == 7 * DIMS + 1


def test_repair_misses_a_batch_that_is_no_mean(hub, tmp_path):
    hub.get_space("items").set(1, np.zeros(DIMS, np.float32))
    path = tmp_path / "cut"
    shutil.copytree(hub.path, path)
    log = max(path.glob("wal/*.log"))
    zero(log, last_record(log))
    assert ehub.repair(path).batches_dropped == 1


def is_locked(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def recovering(cut, tmp_path):
    """A writer that has the lock of the hub, and will not know for a while what it holds.

    It knows it by another path, where CURRENT cannot be opened.
    """
    other = tmp_path / "other"
    other.mkdir()
    os.link(cut / "LOCK", other / "LOCK")
    (other / "CURRENT").write_text("")

    def write() -> None:
        with contextlib.suppress(ehub.EhubError):
            ehub.open(other).close()

    with held_up(other / "CURRENT"):
        writer = threading.Thread(target=write)
        writer.start()
        while not is_locked(cut / "LOCK"):
            time.sleep(0.01)
        yield
    writer.join()


@pytest.mark.usefixtures("recovering")
def test_a_reader_may_come_while_a_writer_recovers_what_a_power_cut_left(cut):
    with pytest.raises(ehub.LockedError):
        ehub.open(cut)
    with ehub.open(cut, read_only=True) as opened:
        check(opened)
        opened.refresh()
        check(opened)
