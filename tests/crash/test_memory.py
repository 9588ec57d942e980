"""Memory that runs out is a MemoryError, changes nothing, and stops nobody else.

Goal: no call that hangs or a process that dies for want of memory. Method: the n-th allocation
fails, for n = 0, 1, 2, ... until a run passes untouched (`nth_failure.h`); and a child with little
address space, which fails, gets more, and goes on.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import ehub
from ehub._native import _testing

RUNS = [("new", "slcdmok"), ("sealed", "lmclsdkxs"), ("killed", "acslxlc")]
RUNS += [("sealed", "trfwn"), ("new", "lrtcfw"), ("killed", "trcfzcv")]


@pytest.mark.parametrize(("base", "workload"), RUNS)
def test_an_allocation_that_fails_changes_nothing(base, workload, survive):
    if not _testing.crash_allocations_can_fail():
        pytest.skip("another library has replaced operator new")
    report = _testing.crash_fail_allocations(base, workload)
    tried = survive(report, "the line names base, workload and n", "failed_allocations")
    assert tried["points"] >= 100


LITTLE_MEMORY = """
import resource, sys
import numpy as np
import ehub

rows, dims = 200_000, 16
hub = ehub.open(sys.argv[1], durability="off")
items = hub.create_space("items", dims=dims, metric="l2", key_type="int")
keys, vectors = np.arange(rows), np.ones((rows, dims), np.float32)
first = int(sys.argv[2])
items.multiset(keys[:first], vectors[:first])
calls = {
    "multiset": lambda: items.multiset(keys, vectors),
    "multidelete": lambda: items.multidelete(keys),
    "search": lambda: items.multi_nearest_neighbors(1000, vectors=vectors[:1000]),
}
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
for name, call in calls.items():
    for spare in range(0, 64 << 20, 3 << 20):
        resource.setrlimit(resource.RLIMIT_AS, (size + spare, hard))
        try:
            call()
        except MemoryError:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            assert len(items) in (first, rows), len(items)
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    call()
    print(name, spare)
items.set(7, vectors[0])
hub.close()
"""


@pytest.mark.parametrize("first", [2000, 5000], ids=["in the log", "with a file, mapped"])
def test_a_process_with_little_memory_fails_and_goes_on(first, tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, tmp_path / "hub", str(first)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    with ehub.open(tmp_path / "hub") as hub:
        assert list(hub.get_space("items").keys()) == [7]
