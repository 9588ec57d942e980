"""Rows that come to a server: ehub's against the same hub in this process, Chroma's, milvus-lite's.

    EHUB_BENCH_CHROMA=PYTHON EHUB_BENCH_MILVUS=PYTHON python -m benchmarks.server_peers

Each variable names the Python of an environment in which the peer is installed (`pip install
chromadb`; `pip install pymilvus milvus-lite`), for they want other releases of what we use. A peer
that is not named is left out, and that is said. All take the same rows of random numbers under the
same keys, text, in batches of the same size, one after the other; each acknowledges a batch as it
does by itself, ehub when it is synced to the disk. Chroma builds its index meanwhile, so ehub's
figure is also given with the index built. Then each is asked how many rows there are, and for a
hundred of them, which must be equal to the last bit.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import ehub
from benchmarks.harness import rows_of, scratch, settle
from benchmarks.server import say, serving, stopped

ROWS = int(os.environ.get("EHUB_BENCH_ROWS", "20000"))
BATCH = 1_000
ROUNDS = 3
PROGRAMS = Path(__file__).parent / "peers"
PEERS = {
    "Chroma's server": ("EHUB_BENCH_CHROMA", "run_chroma.py", 10.0),
    "milvus-lite": ("EHUB_BENCH_MILVUS", "run_milvus_lite.py", 3.0),
}


def batches_of(rows: np.ndarray):
    """Keys and rows as they are written."""
    keys = [str(number) for number in range(len(rows))]
    for first in range(0, len(rows), BATCH):
        yield keys[first : first + BATCH], rows[first : first + BATCH]


def filled(hub, rows: np.ndarray, streamed: bool) -> tuple[float, float]:
    """Seconds until all rows are acknowledged, and until they are indexed, too."""
    items = hub.create_space("items", dims=rows.shape[1], metric="l2")
    began = time.perf_counter()
    if streamed:
        keys = (key for some, _ in batches_of(rows) for key in some)
        items.multiset(zip(keys, rows, strict=True))
    else:
        for keys, part in batches_of(rows):
            items.multiset(keys, part)
    written = time.perf_counter() - began
    items.optimize()
    indexed = time.perf_counter() - began
    sample = range(0, len(rows), max(1, len(rows) // 100))
    back = items.multiget([str(number) for number in sample])
    assert len(items) == len(rows)
    assert np.array_equal(back, rows[list(sample)])
    hub.delete_space("items")
    return written, indexed


def peer(python: str, program: str, rows: np.ndarray) -> tuple[float, str]:
    """Seconds that a peer takes, and its release."""
    with scratch() as directory:
        file = directory / "rows.npy"
        np.save(file, rows)
        (directory / "data").mkdir()
        command = [python, PROGRAMS / program, directory / "data", file, str(BATCH)]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise SystemExit(f"{program} fails: {told.stderr[-2_000:]}")
    said = json.loads(told.stdout.splitlines()[-1])
    if not said["right"]:
        raise SystemExit(f"{program}: the rows that were read are not those that were written")
    return said["seconds"], said["version"]


def main() -> None:
    """All figures, in turns."""
    _, rows = rows_of(ROWS, 384)
    print(f"{len(rows):,} rows of 384 dims, batches of {BATCH:,}; {os.cpu_count()} cores")
    there = {name: told for name, told in PEERS.items() if os.environ.get(told[0])}
    for name in set(PEERS) - set(there):
        say(f"{name}: left out, {PEERS[name][0]} names no Python", 0, "")
    taken: dict[str, list[float]] = {}
    releases = {}

    def note(name: str, seconds: float) -> None:
        taken.setdefault(name, []).append(len(rows) / seconds)

    with scratch() as directory:
        with ehub.open(directory / "served"):
            pass
        process, address = serving(str(directory / "served"))
        try:
            with ehub.open(directory / "embedded") as embedded, ehub.connect(address) as served:
                for _ in range(ROUNDS):
                    for where, hub in (("embedded", embedded), ("served", served)):
                        for how, streamed in (("a call a batch", False), ("a stream", True)):
                            settle()
                            written, indexed = filled(hub, rows, streamed)
                            note(f"ehub {where}, {how}", written)
                            note(f"ehub {where}, {how}, and indexed", indexed)
                    for name, (variable, program, _) in there.items():
                        settle()
                        seconds, releases[name] = peer(os.environ[variable], program, rows)
                        note(name, seconds)
        finally:
            stopped(process)
    report({name: statistics.median(rates) for name, rates in taken.items()}, releases)


def report(rates: dict[str, float], releases: dict[str, str]) -> None:
    """What was measured, and what it is aimed at."""
    for name, rate in rates.items():
        say(f"{name} {releases.get(name, '')}", rate, "rows/s")
    for how in ("a call a batch", "a stream"):
        served = rates[f"ehub served, {how}"]
        embedded = rates["ehub embedded, a call a batch"]
        say(f"served, {how}, against embedded calls", served / embedded, "x", "aimed at 0.4")
        for name in releases:
            ratio = served / rates[name]
            say(f"served, {how}, against {name}", ratio, "x", f"aimed at {PEERS[name][2]:g}")


if __name__ == "__main__":
    sys.exit(main())
