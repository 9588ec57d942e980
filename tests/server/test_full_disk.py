"""A server whose disk is full: writes fail as such, reads go on, and nothing acknowledged is lost.

Four clients write to a hub on a small tmpfs until it is full, one of them by a stream; then there
is room again, by a file that goes or by a space that does. It needs root, to mount.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import ehub
from ehub.access import Access, Grant, entries

DISK_BYTES = 128 << 20
BALLAST_BYTES = 24 << 20  # a file, and a space
DIMS, BATCH, WRITERS = 256, 500, 4

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def disk(tmp_path):
    """A small disk; a file on it takes a part that can be given back."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not possible here")
    (place / "ballast").write_bytes(b"\1" * BALLAST_BYTES)
    yield place
    # Lazily: what a failed test still has mapped would keep it busy.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def serving(path):
    """`ehub serve`, until the end of the block, where it has to end well; its address."""
    command = [sys.executable, "-m", "ehub.server", str(path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stderr if '"address"' in line)
            log = threading.Thread(target=process.stderr.read)
            log.start()
            yield json.loads(line)["address"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            log.join()
        finally:
            process.kill()


class Writer(threading.Thread):
    """A client that writes until the disk is full, and knows what was acknowledged."""

    def __init__(self, address, token, number):
        super().__init__()
        self.number, self.batches, self.error = number, 0, None
        self._hub = ehub.connect(address, token=token)

    def batch(self, number):
        keys = np.arange(number * BATCH, (number + 1) * BATCH) * WRITERS + self.number
        return keys, np.repeat(keys[:, np.newaxis], DIMS, axis=1).astype(np.float32)

    def run(self):
        items = self._hub.get_space("items")
        try:
            while True:
                keys, vectors = self.batch(self.batches)
                if self.number:
                    items.multiset(keys, vectors)
                else:  # as a stream
                    items.multiset(zip(keys.tolist(), vectors, strict=True))
                self.batches += 1
        except Exception as error:
            self.error = error

    def keys(self):
        return set(range(self.number, self.batches * BATCH * WRITERS, WRITERS))


def fill(address, token):
    """Writers that have written until there was no room."""
    writers = [Writer(address, token, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert not writer.is_alive()
    for writer in writers:
        assert isinstance(writer.error, ehub.StorageError), repr(writer.error)
        assert writer.error.errno == errno.ENOSPC
    assert sum(writer.batches for writer in writers) > 10
    return writers


def write_soon(space, writer, seconds=30.0):
    """One more batch of a writer; a checkpoint that has begun may first take room."""
    keys, vectors = writer.batch(writer.batches)
    deadline = time.monotonic() + seconds
    while True:
        try:
            space.multiset(keys, vectors)
        except ehub.StorageError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            break
    writer.batches += 1


def require_all(space, writers):
    """All acknowledged rows, as they were written."""
    keys, vectors = space.to_numpy()
    found = set(keys.tolist())
    for writer in writers:
        assert writer.keys() <= found
    assert (vectors == keys[:, np.newaxis].astype(np.float32)).all()


@pytest.mark.parametrize("room", ["given", "made by a drop"])
def test_a_full_disk_stops_writes_alone_and_until_there_is_room(disk, room):
    path = disk / "hub"
    with ehub.open(path) as hub:
        hub.create_space("items", dims=DIMS, metric="l2", key_type="int")
        rows = BALLAST_BYTES // (4 * DIMS)
        ballast = hub.create_space("ballast", dims=DIMS, metric="l2", key_type="int")
        ballast.multiset(np.arange(rows), np.ones((rows, DIMS), np.float32))
        token, _ = Access(hub).create_key("root", [Grant("admin", "hub")])
    with serving(path) as address, ehub.connect(address, token=token) as hub:
        writers = fill(address, token)
        items = hub.get_space("items")
        require_all(items, writers)
        keys, vectors = writers[0].batch(0)
        assert items.nearest_neighbors(1, vector=vectors[7]).keys.tolist() == [keys[7]]
        assert hub.info().path
        if room == "given":
            (disk / "ballast").unlink()
        else:
            hub.delete_space("ballast")
            hub.checkpoint()
        for writer in writers:
            write_soon(items, writer)
        require_all(items, writers)
    with ehub.open(path) as hub:
        require_all(hub.get_space("items"), writers)
        assert hub.verify().findings == ()
    assert entries(path)
