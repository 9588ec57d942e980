"""Bytes that incremental backups move, and how long a backup and a restore take.

A hub is backed up to a directory on the same disk; then each day adds 1 % of rows and is backed up
again. A day may merge segments: their vectors are known then, but their graph is a new one. What
tells files apart by their names would copy all files that are new or changed: that is the baseline.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ehub
from benchmarks.harness import DIMS, Claim, at_most, faster, rows_of, scratch, settle, timed

ROWS = 100_000
DAYS = 12
BATCH = 10_000
ROUNDS = 3

Seen = dict[str, tuple[int, int]]


def changed(hub: Path, before: Seen) -> tuple[int, Seen]:
    """The bytes of all files that are new or changed."""
    now = {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in hub.rglob("*")
        if path.is_file() and path.name != "RESERVE"
    }
    return sum(size for path, (size, _) in now.items() if before.get(path) != now[path]), now


def day_claims(directory: Path, rows: int) -> list[Claim]:
    """The first day, with fresh rows and with sealed ones; then the worst day, and all of them."""
    more = max(rows // 100, 1)
    keys, vectors = rows_of(rows + (DAYS + 1) * more)
    path = directory / "hub"
    with_graphs, without = [], []
    moved = copied = 0
    with ehub.open(path) as hub:
        items = hub.create_space("items", DIMS)
        for first in range(0, rows, BATCH):
            some = slice(first, min(first + BATCH, rows))
            items.multiset(keys[some], vectors[some])
        items.wait_indexed()
        hub.backup(directory / "backups")
        hub.backup(directory / "without graphs", index=False)
        _, seen = changed(path, {})
        for day in range(DAYS + 1):
            some = slice(rows + day * more, rows + (day + 1) * more)
            items.multiset(keys[some], vectors[some])
            if day:  # on the first, they are still in the log
                items.wait_indexed()
            made = hub.backup(directory / "backups")
            bare = hub.backup(directory / "without graphs", index=False)
            with_graphs.append(made.bytes_moved / made.bytes)
            without.append(bare.bytes_moved / bare.bytes)
            size, seen = changed(path, seen)
            moved, copied = moved + made.bytes_moved, copied + size
    what = f"moved by a backup after 1 % new rows of {rows:,}"
    note = f"worst {max(with_graphs):.4f}, mean {statistics.mean(with_graphs):.4f}"
    return [
        at_most(f"{what}, not sealed", with_graphs[0], 0.02, "of all"),
        at_most(f"{what}, sealed and indexed", with_graphs[1], 0.02, "of all"),
        at_most(f"{what}, median of {DAYS} days", statistics.median(with_graphs), 0.02, "of all"),
        at_most(f"{what}, worst of {DAYS} days without graphs", max(without), 0.02, "of all", note),
        Claim(
            f"{what}, {DAYS} days, to changed files", moved, copied, "B", moved / copied, 1, False
        ),
    ]


def rate(work: Callable[[], object], size: int) -> float:
    """Bytes per second."""
    settle()
    return size / timed(work)


def time_claims(directory: Path) -> list[Claim]:
    """Against a plain copy of the directory, which is neither checked nor durable."""
    path = directory / "hub"
    backups: list[float] = []
    restores: list[float] = []
    copies: list[float] = []
    size, _ = changed(path, {})
    with ehub.open(path, read_only=True) as hub:
        for number in range(ROUNDS):
            place, new = directory / f"place {number}", directory / f"new {number}"
            backups.append(rate(partial(hub.backup, place), size))
            restores.append(rate(partial(ehub.restore, place, new), size))
            shutil.rmtree(place)
            shutil.rmtree(new)
            copies.append(rate(partial(shutil.copytree, path, new), size))
            shutil.rmtree(new)
    ready = [seconds_to_index(directory, name) for name in ("backups", "without graphs")]
    return [
        faster("full backup, to a plain copy", backups, copies, 0.3, "B/s"),
        faster("restore, verified, to a plain copy", restores, copies, 0.3, "B/s"),
        Claim(
            "restored and indexed, with graphs in the backup to without",
            *ready, "s", ready[0] / ready[1], 1, False,
        ),
    ]  # fmt: skip


def seconds_to_index(directory: Path, name: str) -> float:
    """From the call of restore to a settled index."""
    new = directory / f"{name} restored"

    def restore() -> None:
        ehub.restore(directory / name, new)
        with ehub.open(new) as hub:
            hub.get_space("items").wait_indexed()

    settle()
    return timed(restore)


def claims(scale: float = 1.0) -> list[Claim]:
    """What the suite measures."""
    with scratch() as directory:
        return day_claims(directory, int(ROWS * scale)) + time_claims(directory)
