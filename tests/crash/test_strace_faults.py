"""A sync that the kernel fails makes the hub read-only; reopened, it has all it acknowledged.

Goal: the real binary meets a real EIO from fdatasync. Method: strace runs a small writer and
injects the error at the n-th call, for several n; skipped where strace cannot trace.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import ehub

DIMS = 8

# Writes until a write fails, then tells what it could still do.
WRITER = """
import json, sys
import numpy as np
import ehub

report = {"acknowledged": 0, "first": "", "second": "", "read": -1}
try:
    hub = ehub.open(sys.argv[1])
except ehub.StorageError as error:
    print(json.dumps(report | {"first": type(error).__name__, "second": "NotFoundError"}))
    sys.exit()
try:
    items = hub.create_space("items", dims=8, metric="l2")
    for n in range(40):
        rows = 3000 if n % 7 == 6 else 5
        keys = [f"{n}-{row}" for row in range(rows)]
        items.multiset(keys, np.full((rows, 8), n, np.float32))
        report["acknowledged"] = n + 1
except (ehub.StorageError, ehub.ReadOnlyError) as error:
    report["first"] = type(error).__name__
    try:
        hub.get_space("items").set("another", np.zeros(8, np.float32))
    except (ehub.ReadOnlyError, ehub.NotFoundError) as again:
        report["second"] = type(again).__name__
    if "items" in hub:
        report["read"] = len(hub.get_space("items"))
print(json.dumps(report))
"""


def rows_of(batches: int) -> int:
    """How many rows the first batches have together."""
    return sum(3000 if n % 7 == 6 else 5 for n in range(batches))


def strace(call: str, when: int, path: str) -> dict:
    """What the writer reports when call number `when` fails."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    tracer = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"]
    tracer += ["-e", f"inject={call}:error=EIO:when={when}"]
    done = subprocess.run(
        [*tracer, sys.executable, "-c", WRITER, path],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("when", [1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 20, 30])
def test_after_a_failed_sync_the_hub_is_read_only_until_it_is_opened_again(when, tmp_path):
    path = tmp_path / "hub"
    report = strace("fdatasync", when, str(path))
    assert report["first"] in ("StorageError", "ReadOnlyError")
    assert report["second"] in ("ReadOnlyError", "NotFoundError")
    if report["read"] >= 0:
        assert report["read"] == rows_of(report["acknowledged"])
    with ehub.open(path) as hub:
        check(hub, report["acknowledged"])
        assert hub.verify().findings == ()


def check(hub: ehub.Hub, acknowledged: int) -> None:
    """Every acknowledged batch is there; the one that failed is there whole or not at all."""
    if acknowledged == 0:
        return
    items = hub.get_space("items")
    assert len(items) in (rows_of(acknowledged), rows_of(acknowledged + 1))
    for n in range(acknowledged):
        rows = 3000 if n % 7 == 6 else 5
        vectors = items.multiget([f"{n}-{row}" for row in range(rows)])
        assert (vectors == n).all()
    assert np.isfinite(items.to_numpy()[1]).all()
