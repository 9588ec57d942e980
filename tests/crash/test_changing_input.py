"""Arrays that another thread changes during a write never make the hub disagree with itself.

Goal: a torn row at worst, in the caller's own batch; files match their checksums, the log says what
readers saw, and a key leads to its row. Method: a child writes while a thread changes its arrays,
notes what it reads back, and kills itself; then the hub is opened, compared and verified.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub

WRITER = """
import os, signal, sys, threading
import numpy as np
import ehub

path, changed, rows, checkpoints = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"
hub = ehub.open(path)
items = hub.create_space("items", dims=64, metric="l2", key_type="int")
keys, vectors = np.arange(rows), np.ones((rows, 64), np.float32)

def change():
    for number in range(1, 10**9):
        if changed == "keys":
            keys[:] = range(number, number + rows)
        else:
            vectors[:] = number % 50

threading.Thread(target=change, daemon=True).start()
for _ in range(200_000 // rows if rows > 1000 else 200):
    items.multiset(keys, vectors)
if checkpoints:
    hub.checkpoint()
read = items.to_numpy()
np.savez(path + ".npz", keys=read[0], vectors=read[1])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("rows", [100, 20_000], ids=["through the log", "through a file"])
@pytest.mark.parametrize("changed", ["keys", "vectors"])
def test_what_a_thread_changes_during_a_write_is_stored_as_it_was_seen(
    tmp_path, changed, rows, checkpoints
):
    path = tmp_path / "hub"
    child = subprocess.run(
        [sys.executable, "-c", WRITER, path, changed, str(rows), str(checkpoints)],
        capture_output=True,
        timeout=300,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    check(path, np.load(f"{path}.npz"))


def check(path: Path, seen: np.lib.npyio.NpzFile) -> None:
    """The hub holds what its writer read, whole and sound."""
    with ehub.open(path) as hub:
        items = hub.get_space("items")
        keys, vectors = items.to_numpy()
        assert len(items) == len(keys)
        np.testing.assert_array_equal(keys, seen["keys"])
        np.testing.assert_array_equal(vectors, seen["vectors"])
        np.testing.assert_array_equal(items.multiget(keys), vectors)
        hub.checkpoint()
        assert hub.verify().findings == ()
