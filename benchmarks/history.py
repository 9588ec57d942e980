"""Points in time of a space: snapshots, tags, going back, and searching what was.

Nothing is synced while the calls are timed (`durability="off"`), so that what counts is the work
beyond the durable write, which a disk sets. A snapshot is searched after a tenth of the rows was
overwritten and all was indexed again, beside the version as it is, both with the smallest `ef`
that finds as much, in turns.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ehub
from benchmarks.harness import SEED, Claim, at_most, scratch, settle, timed
from benchmarks.subsets import DIMS, ef_for, fill, in_turn, made

ROWS = 1_000_000
OVERWRITTEN = 10  # one row in so many
TAGS = 1000
SNAPSHOTS = 200
RESTORES = 5  # there and back


def bytes_on_disk(directory: Path) -> int:
    """What the files of a hub take."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def snapshot_claim(items: ehub.Space) -> Claim:
    """Holding a point in time."""
    times = []
    for _ in range(SNAPSHOTS):
        held: list[ehub.Snapshot] = []
        times.append(timed(lambda held=held: held.append(items.snapshot())) * 1e6)
        held[0].close()
    name = f"snapshot() of {len(items):,} rows"
    return at_most(name, statistics.median(times), 1000, "us")


def tag_claims(hub: ehub.Hub, directory: Path, items: ehub.Space) -> list[Claim]:
    """Giving points in time names, none of which changes a row; and taking them back."""
    hub.checkpoint()
    before = bytes_on_disk(directory)
    times = [timed(lambda i=i: items.tag(f"tag-{i}")) * 1e6 for i in range(TAGS)]
    logged = bytes_on_disk(directory) - before
    hub.checkpoint()
    stored = bytes_on_disk(directory) - before
    if len(items.tags()) != TAGS:
        raise AssertionError("a tag is missing")
    for tag in items.tags():
        items.untag(tag.name)
    return [
        at_most(f"tag() of {len(items):,} rows, without its sync", statistics.median(times),
                1000, "us", f"the slowest of {TAGS:,}: {max(times):.0f} us"),
        at_most(f"{TAGS:,} tags on disk", max(1, stored), 1_000_000, "B",
                f"before the checkpoint the log had grown by {logged:,}, in steps"),
    ]  # fmt: skip


def search_claim(items: ehub.Space, then: ehub.Snapshot, queries: NDArray[np.float32]) -> Claim:
    """Searching what was, beside what is."""
    views = []
    notes = []
    for view in (then, items):
        exact = view.multi_nearest_neighbors(10, vectors=queries, exact=True)
        ef, found = ef_for(view, queries, [set(near.keys.tolist()) for near in exact])
        views.append((view, ef))
        notes.append(f"recall {found:.3f} at ef {ef}")
    times = in_turn(views, queries)
    name = f"search in a snapshot of {len(then):,} rows, a tenth overwritten since, to the head"
    return Claim(name, *times, "us", times[0] / times[1], 1.3, False, " and ".join(notes))


def restore_claim(items: ehub.Space, keys: NDArray[np.int64]) -> Claim:
    """Going back and forth; the vectors must be those of the time."""
    times = []
    expected = {name: items.at(name).multiget(keys) for name in ("before", "after")}
    for _ in range(RESTORES):
        for name in ("before", "after"):
            times.append(timed(lambda name=name: items.restore(name)) * 1e3)
            if not np.array_equal(items.multiget(keys), expected[name]):
                raise AssertionError("a restored row is another")
    name = f"restore() of {len(items):,} rows, a tenth overwritten since, without its sync"
    return at_most(name, statistics.median(times), 50, "ms", f"the slowest: {max(times):.1f} ms")


def claims(scale: float = 1.0) -> list[Claim]:
    """What the suite measures."""
    rows = int(ROWS * scale)
    overwritten = rows // OVERWRITTEN
    vectors, queries = made(rows + overwritten)
    keys = np.random.default_rng(SEED).permutation(rows)[:overwritten]
    with scratch() as directory, ehub.open(directory / "hub", durability="off") as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        fill(items, vectors, np.arange(rows), label=False)
        items.optimize()
        settle()
        found = [snapshot_claim(items), *tag_claims(hub, directory / "hub", items)]
        items.tag("before")
        with items.snapshot() as then:
            items.multiset(keys, vectors[rows:])
            items.tag("after")
            items.optimize()
            settle()
            found.append(search_claim(items, then, queries))
        return [*found, restore_claim(items, keys)]
