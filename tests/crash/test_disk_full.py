"""A full disk refuses a write cleanly: nothing acknowledged is lost, reading goes on, room helps.

Goal: the promise of a full disk on real file systems. Method: a hub on a small tmpfs and on a
small ext4 in a loop device is filled until a write fails; then room is made, and it goes on.
Mounting needs root; without it this is skipped.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub._native import _store

DIMS = 256
BATCH = 500  # rows: half a megabyte, straight to a segment file
DISK_BYTES = 24 << 20


def run(*command: object) -> None:
    """Run a command, or skip the test if it cannot be had here."""
    try:
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode().strip()
        pytest.skip(f"no small disk can be mounted here: {error} {said}")


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A mounted disk of DISK_BYTES."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place)
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", image)
        run("mount", "-o", "loop", image, place)
    yield place
    # Lazily: what a failed test still has mapped would keep it busy.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def batch(number: int) -> tuple[list[str], np.ndarray]:
    """Batch `number`: keys and vectors that follow from it."""
    keys = [f"{number}-{row}" for row in range(BATCH)]
    return keys, np.random.default_rng(number).random((BATCH, DIMS), np.float32)


def fill(items: ehub.Space) -> int:
    """Write batches until the disk is full; return how many were acknowledged."""
    for number in range(10 * DISK_BYTES // (BATCH * DIMS * 4)):
        try:
            items.multiset(*batch(number))
        except ehub.StorageError as error:
            if error.errno != errno.ENOSPC:
                raise
            return number
    raise AssertionError("the disk never became full")


def fill_segments(hub: ehub.Hub, items: ehub.Space) -> int:
    """The same in segments of six batches each."""
    full = False
    while not full:
        try:
            items.multiset(*batch(len(items) // BATCH))
            if len(items) % (6 * BATCH) == 0:
                hub.checkpoint()
        except ehub.StorageError as error:
            if error.errno != errno.ENOSPC:
                raise
            full = True
    return len(items) // BATCH


def check(items: ehub.Space, batches: range) -> None:
    """Every one of these batches is there, bit for bit, and nothing else of its kind."""
    for number in batches:
        keys, vectors = batch(number)
        assert items.multiget(keys).tobytes() == vectors.tobytes()


@contextmanager
def opened(path: Path) -> Iterator[ehub.Hub]:
    """A hub on a disk that may be full when it is closed: closing may fail, and loses nothing."""
    hub = ehub.open(path)
    try:
        yield hub
    finally:
        try:
            hub.close()
        except ehub.StorageError as error:
            if error.errno != errno.ENOSPC:
                raise


def lay_ballast(disk: Path) -> Path:
    """Something beside the hub that can be removed to make room."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (4 << 20))
    return ballast


def test_a_full_disk_loses_nothing_and_is_readable(disk):
    ballast = lay_ballast(disk)
    with opened(disk / "hub") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        written = fill(items)
        assert written > 5
        check(items, range(written))
        assert len(items) == written * BATCH
        keys, vectors = batch(1)
        assert items.nearest_neighbors(1, vector=vectors[7])[0].key == keys[7]
    with ehub.open(disk / "hub", read_only=True) as hub:
        check(hub.get_space("items"), range(written))
    ballast.unlink()
    check_reopened(disk / "hub", written, 0)


def test_a_hub_that_met_a_full_disk_goes_on_when_there_is_room(disk):
    ballast = lay_ballast(disk)
    with opened(disk / "hub") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        written = fill(items)
        ballast.unlink()
        items.multiset(*batch(written))
        items.set("a single one", np.ones(DIMS, np.float32))
        check(items, range(written + 1))
    check_reopened(disk / "hub", written + 1, 1)


def test_dropping_a_space_frees_a_full_disk(disk):
    with opened(disk / "hub") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        ballast = hub.create_space("ballast", dims=DIMS, metric="l2")
        for number in range(8):
            ballast.multiset(*batch(1000 + number))
        written = fill(items)
        hub.delete_space("ballast")
        hub.checkpoint()
        items.multiset(*batch(written))
        check(items, range(written + 1))
    check_reopened(disk / "hub", written + 1, 0)


@pytest.mark.parametrize("by_key", [True, False])
def test_emptying_a_space_frees_a_full_disk(disk, by_key):
    with opened(disk / "hub") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        others = hub.create_space("others", dims=DIMS, metric="l2")
        others.multiset(*batch(0))
        written = fill(items)
        if by_key:
            assert sum(items.multidelete(batch(n)[0]) for n in range(written)) == written * BATCH
        else:
            assert items.delete_all() == written * BATCH
        items.compact()
        for number in range(written - 1):
            items.multiset(*batch(number))
        check(items, range(written - 1))
        check(others, range(1))
    check_reopened(disk / "hub", written - 1, 0)


def test_deleting_goes_on_where_a_compaction_does_not_fit(disk):
    """What lives is copied before what is dead can go: that needs room for it."""
    ballast = lay_ballast(disk)
    with opened(disk / "hub") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        written = fill(items)
        kept = written // 2
        for number in range(kept, written):
            items.multidelete(batch(number)[0])
            with pytest.raises(ehub.StorageError) as full:
                items.compact()
            assert full.value.errno == errno.ENOSPC
        check(items, range(kept))
        hub.checkpoint()
        for number in range(6, kept):
            items.multidelete(batch(number)[0])
        ballast.unlink()
        items.compact()
        for number in range(6, written - 1):
            items.multiset(*batch(number))
        check(items, range(written - 1))
    check_reopened(disk / "hub", written - 1, 0)


def test_deletes_scattered_over_all_segments_make_room(disk):
    """Segment by segment, where there is no room for a copy of what lives in all of them."""
    ballast = lay_ballast(disk)
    store = _store.Store(str(disk / "hub"), background=False, graph_rows_min=1 << 20)
    with ehub.Hub(store) as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        written = fill_segments(hub, items)
        ballast.unlink()
        for number in range(written):
            items.multidelete(batch(number)[0][::2])
        items.compact()
        assert sum(segment.rows_dead for segment in items.stats().segments) == 0
        for number in range(written, written + written // 3):
            items.multiset(*batch(number))
        check(items, range(written, written + written // 3))
        for number in range(written):
            keys, vectors = batch(number)
            assert items.multiget(keys[1::2]).tobytes() == vectors[1::2].tobytes()
        assert hub.verify().findings == ()


@pytest.fixture
def full_index(tmp_path):
    """A hub whose directory of index files is a disk of its own, and has no room for any."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "hub" / "index"
    place.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def test_a_disk_too_full_for_the_index_refuses_nothing(full_index):
    store = _store.Store(str(full_index.parent), background=False, graph_rows_min=100)
    with ehub.Hub(store) as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        for number in range(12):
            items.multiset(*batch(number))
            hub.checkpoint()
        items.compact()
        check(items, range(12))
        keys, vectors = batch(7)
        assert items.nearest_neighbors(1, vector=vectors[5])[0].key == keys[5]
        assert items.index_stats().segments == 0
        assert list(full_index.iterdir()) == []
        with pytest.raises(ehub.StorageError) as caught:
            items.wait_indexed()
        assert caught.value.errno == errno.ENOSPC
        assert not hub.read_only
        run("mount", "-o", "remount,size=64m", full_index)
        items.wait_indexed()
        assert items.index_stats().rows_indexed == 12 * BATCH
        assert items.nearest_neighbors(1, vector=vectors[5])[0].key == keys[5]
        assert hub.verify().findings == ()
    check_reopened(full_index.parent, 12, 0)


def check_reopened(path: Path, batches: int, more: int) -> None:
    """The hub opens with so many batches, and `more` rows."""
    with ehub.open(path) as hub:
        items = hub.get_space("items")
        check(items, range(batches))
        assert len(items) == batches * BATCH + more
        assert hub.verify().findings == ()
