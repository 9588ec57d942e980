"""File descriptors and threads that run out are errors that pass, and a hub needs few of them.

Goal: no hub that is read-only, or cannot be opened, because a limit of the process was met for a
moment. Method: children with a low limit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ehub


def run(script: str, path: Path) -> list[str]:
    """The lines that a child prints."""
    child = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout.splitlines()


SPENT = """
import errno, os, resource, sys
import numpy as np
import ehub

vectors = np.ones((300, 220), np.float32)  # more than 256 KiB: a file of its own
hub = ehub.open(sys.argv[1])
spaces = [hub.create_space(str(n), dims=220, metric="l2", key_type="int") for n in range(9)]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, hard))
refused = []
for space in spaces:
    try:
        space.multiset(np.arange(300), vectors)
    except ehub.StorageError as error:
        assert error.errno == errno.EMFILE, error
        refused.append(space)
try:
    hub.checkpoint()
except ehub.StorageError as error:
    assert error.errno == errno.EMFILE, error
spaces[0].set(1000, vectors[0])  # needs no descriptor
print(len(refused))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for space in refused:
    space.multiset(np.arange(300), vectors)
hub.checkpoint()
hub.close()
"""


def test_a_hub_without_descriptors_refuses_what_needs_one_and_goes_on_with_them(tmp_path):
    [refused] = run(SPENT, tmp_path / "hub")
    assert int(refused) > 0
    with ehub.open(tmp_path / "hub") as hub:
        assert [len(hub.get_space(str(n))) for n in range(9)] == [301] + [300] * 8
        assert hub.verify().findings == ()


MANY = """
import os, resource, sys
import numpy as np
import ehub

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
vectors = np.ones((300, 220), np.float32)
with ehub.open(sys.argv[1], durability="off") as hub:
    for n in range(1000):
        hub.create_space(str(n), dims=220, key_type="int").multiset(np.arange(300), vectors)
    print(len(hub.spaces()))
"""


def test_a_thousand_spaces_with_a_large_batch_each_need_fewer_descriptors(tmp_path):
    assert run(MANY, tmp_path / "hub") == ["1000"]


NO_THREADS = """
import errno, resource, sys
import numpy as np
import ehub

vectors = np.random.default_rng(1).random((50_000, 64), np.float32)
hub = ehub.open(sys.argv[1], durability="off")
items = hub.create_space("items", dims=64, metric="l2", key_type="int")
items.multiset(np.arange(len(vectors)), vectors)
before = items.multi_nearest_neighbors(3, vectors=vectors[:50])
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
# No room for the stack of a thread, which is 8 MiB; glibc keeps a few for threads to come.
resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), hard))
after = items.multi_nearest_neighbors(3, vectors=vectors[:50])
assert [n.keys.tolist() for n in before] == [n.keys.tolist() for n in after]
hubs = []
try:
    for n in range(4):
        hubs.append(ehub.open(f"{sys.argv[1]}-{n}"))
except ehub.StorageError as error:
    print(error.errno == errno.EAGAIN)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
ehub.open(f"{sys.argv[1]}-{len(hubs)}").close()
hub.close()
"""


def test_without_threads_searches_go_on_and_opening_says_why_not(tmp_path):
    assert run(NO_THREADS, tmp_path / "hub") == ["True"]
