"""Averages of many groups, and partitions.

`multi_average` is compared with the time in which the same rows can be read from memory once, in
the same order and on as many threads (`gather_sum.c`, over numpy's array; a row is asked for some
rows ahead, so that it is the bandwidth that counts), and with the loop that one writes in numpy.
Keys are looked up within the call. Every mean is compared with numpy's.

A partition is compared with a space of its own that holds the same rows.

A named average is brought up to date after a bulk overwrite of rows, after a small one, and after a
bulk change of groups, the writing of means to the disk included; what the write itself takes is
apart. Each is set against 5 us for each row that was overwritten or membership that was added; the
note says what it is for each member row that was read, since all members of a group are.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

import ehub
from benchmarks.harness import DIMS, SEED, Claim, at_most, faster, rows_of, scratch, settle, timed
from ehub._native import _store

GROUP = 10  # members
BATCH = 10_000
SMALL = 10  # rows of a small partition
SEARCH_DIMS = 128


def open_unindexed(directory: Path) -> ehub.Hub:
    """A hub that builds no graphs: nothing else is to run while averages are measured."""
    return ehub.Hub(_store.Store(str(directory), graph_rows_min=1 << 31))


def gather_sum(directory: Path) -> ctypes.CDLL:
    """Compiles and loads the probe of how fast rows can be read."""
    library = directory / "gather_sum.so"
    source = Path(__file__).with_name("gather_sum.c")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    loaded.gather_sum.argtypes = [pointer, size, pointer, size]
    loaded.gather_sum.restype = ctypes.c_float
    return loaded


def read_rows(probe: ctypes.CDLL, vectors: np.ndarray, rows: np.ndarray, pool: Executor) -> None:
    """Reads these rows once, on all cores."""
    parts = np.array_split(rows, len(os.sched_getaffinity(0)))
    reads = [
        pool.submit(
            probe.gather_sum, vectors.ctypes.data, vectors.shape[1], part.ctypes.data, len(part)
        )
        for part in parts
    ]
    for read in reads:
        read.result()


def require_means(means: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> None:
    """Compares every mean with numpy's."""
    for begin in range(0, len(means), 1000):
        members = rows[begin * GROUP : (begin + 1000) * GROUP]
        expected = vectors[members].reshape(-1, GROUP, vectors.shape[1]).mean(1, dtype=np.float64)
        if not np.allclose(means[begin : begin + 1000], expected, rtol=1e-5, atol=1e-6):
            raise AssertionError("a mean is wrong")


def bandwidth_claims(directory: Path, rows: int, rounds: int) -> list[Claim]:
    """All rows once, in random order, in groups of ten, beside reading them."""
    names, vectors = rows_of(rows)
    order = np.random.default_rng(SEED + 2).permutation(rows)
    offsets = np.arange(0, rows + 1, GROUP)
    chosen = [names[row] for row in order.tolist()]
    with open_unindexed(directory / "averages") as hub:
        numbered = hub.create_space("numbered", DIMS, metric="l2", key_type="int")
        named = hub.create_space("named", DIMS, metric="l2")
        for begin in range(0, rows, BATCH):
            part = slice(begin, begin + BATCH)
            numbered.multiset(np.arange(rows)[part], vectors[part])
            named.multiset(names[part], vectors[part])
        hub.checkpoint()
        settle()
        probe = gather_sum(directory)
        read, integers, strings = [], [], []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in range(rounds + 1):
                means: list[np.ndarray] = []
                read.append(timed(lambda: read_rows(probe, vectors, order, pool)) * 1e3)
                integers.append(
                    timed(lambda m=means: m.append(numbered.multi_average(order, offsets=offsets)))
                    * 1e3
                )
                strings.append(
                    timed(lambda m=means: m.append(named.multi_average(chosen, offsets=offsets)))
                    * 1e3
                )
        for mean in means:
            require_means(mean, vectors, order)
        limit = statistics.median(read[1:])
        note = f"{vectors.nbytes / limit / 1e6:.1f} GB/s"
        return [
            slower(
                f"multi_average of {rows:,} {what} keys, to reading their rows", ours, limit, note
            )
            for what, ours in (("int", integers), ("str", strings))
        ] + [loop_claim(named, names, vectors, chosen, max(1, rounds // 3))]


def slower(name: str, ours: list[float], limit: float, note: str) -> Claim:
    """Our time is at most one and a half times the limit."""
    mine = statistics.median(ours[1:])
    return Claim(name, mine, limit, "ms", mine / limit, 1.5, False, note)


def loop_claim(
    space: ehub.Space, names: list[str], vectors: np.ndarray, chosen: list[str], rounds: int
) -> Claim:
    """A mapping of groups, beside numpy's loop over the groups with the keys in a dict."""
    number = {name: row for row, name in enumerate(names)}
    groups = {g: chosen[g * GROUP : (g + 1) * GROUP] for g in range(len(chosen) // GROUP)}
    ours, theirs = [], []
    for _ in range(rounds + 1):
        ours.append(len(groups) / timed(lambda: space.multi_average(groups)))
        theirs.append(
            len(groups)
            / timed(
                lambda: np.stack(
                    [vectors[[number[key] for key in group]].mean(0) for group in groups.values()]
                )
            )
        )
    return faster(
        "multi_average of a mapping, to numpy's loop", ours[1:], theirs[1:], 10, "groups/s"
    )


def latency(space: ehub.Space, queries: np.ndarray, **options: object) -> float:
    """Milliseconds of one search: the median."""
    times = [timed(lambda q=q: space.nearest_neighbors(10, vector=q, **options)) for q in queries]
    return statistics.median(times) * 1e3


def partition_claims(directory: Path, rows: int) -> list[Claim]:
    """A tenth of an indexed space, beside a space of its own; and very many small partitions."""
    rng = np.random.default_rng(SEED + 3)
    centres = rng.standard_normal((200, SEARCH_DIMS), dtype=np.float32)
    vectors = centres[rng.integers(0, 200, rows + 1000)]
    vectors += rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors, queries = vectors[:rows], vectors[rows:]
    tenth = np.arange(rows) % 10 == 0
    labels = np.where(tenth, "tenth", "rest").astype(object)
    with ehub.open(directory / "partitions", durability="off") as hub:
        whole = hub.create_space("whole", SEARCH_DIMS, metric="l2", key_type="int")
        whole.multiset(np.arange(rows), vectors, partition=labels)
        alone = hub.create_space("alone", SEARCH_DIMS, metric="l2", key_type="int")
        alone.multiset(np.flatnonzero(tenth), vectors[tenth])
        whole.optimize()
        alone.optimize()
        settle()
        latency(whole, queries, partition="tenth")
        within, apart = [], []
        for part in np.array_split(queries, 5):
            within.append(latency(whole, part, partition="tenth"))
            apart.append(latency(alone, part))
        found = [recall(space, queries[:200], vectors[tenth], np.flatnonzero(tenth), **options)
                 for space, options in ((whole, {"partition": "tenth"}), (alone, {}))]  # fmt: skip
        note = f"recall {found[0]:.3f} and {found[1]:.3f}"
        ours, limit = statistics.median(within), statistics.median(apart)
        name = f"search in a tenth of {rows:,} x {SEARCH_DIMS}, to a space of its own"
        claims = [Claim(name, ours, limit, "ms", ours / limit, 1.2, False, note)]
    return claims + small_claims(directory, rows // 5)


def recall(
    space: ehub.Space, queries: np.ndarray, rows: np.ndarray, keys: np.ndarray, **options: object
) -> float:
    """The share of the 10 nearest that are found."""
    truth = space.multi_nearest_neighbors(10, vectors=queries, exact=True, **options)
    found = space.multi_nearest_neighbors(10, vectors=queries, **options)
    hits = sum(
        len(set(a.keys.tolist()) & set(b.keys.tolist())) for a, b in zip(found, truth, strict=True)
    )
    if any(key not in keys for key in found[0].keys):
        raise AssertionError("a row of another partition was found")
    return hits / (10 * len(queries))


def small_claims(directory: Path, small: int) -> list[Claim]:
    """Partitions of ten rows, and a large one beside them, as they lie after a checkpoint."""
    count = max(10, small // 6)  # of 60,000: 10,000
    rows = count * SMALL + 50 * count
    labels = np.array(["large"] * rows, object)
    places = np.random.default_rng(SEED + 4).permutation(rows)[: count * SMALL]
    labels[places] = [f"small {i // SMALL}" for i in range(count * SMALL)]
    vectors = np.random.default_rng(SEED + 5).standard_normal((rows, 32), dtype=np.float32)
    with open_unindexed(directory / "small") as hub:
        items = hub.create_space("items", 32, metric="l2", key_type="int")
        items.multiset(np.arange(rows), vectors, partition=labels)
        hub.checkpoint()
        items.partition("small 0").nearest_neighbors(10, vector=vectors[0])
        searches = [
            timed(
                lambda i=i: items.partition(f"small {i}").nearest_neighbors(10, vector=vectors[i])
            )
            for i in range(min(count, 2000))
        ]
        if len(items.partition("small 1").nearest_neighbors(50, vector=vectors[0])) != SMALL:
            raise AssertionError("a small partition has other rows")
        counts = [timed(items.partitions) for _ in range(5)]
    which = f"{count:,} of {SMALL} rows and one of {50 * count:,}"
    return [
        at_most(f"search in a small partition of {which}", statistics.median(searches) * 1e6, 100,
                "us"),
        at_most(f"partitions() of {which}", statistics.median(counts) * 1e3, 10, "ms"),
    ]  # fmt: skip


def named_claims(directory: Path, rows: int, rounds: int) -> list[Claim]:
    """A named average of groups of ten, each row in one group, kept up to date."""
    rng = np.random.default_rng(SEED + 6)
    _, vectors = rows_of(rows)
    members = rng.permutation(rows)
    groups = {group: members[group * GROUP : (group + 1) * GROUP] for group in range(rows // GROUP)}
    with open_unindexed(directory / "named") as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        for begin in range(0, rows, BATCH):
            items.multiset(np.arange(rows)[begin : begin + BATCH], vectors[begin : begin + BATCH])
        made = timed(lambda: items.create_average("profile", groups).refresh())
        average = items.averages("profile")
        hub.checkpoint()
        settle()
        bulk, few, added = [], [], []
        for turn in range(rounds + 1):
            bulk.append(overwritten(items, average, rng.permutation(rows)[: rows // 2], vectors))
            few.append(overwritten(items, average, rng.permutation(rows)[: rows // 100], vectors))
            joined = {g: rng.integers(0, rows, 2) for g in range(turn % 2, rows // GROUP, 2)}
            added.append(joining(average, joined))
        require_fresh(items, average)
    parts = (
        (f"after half of {rows:,} rows were overwritten", bulk),
        (f"after 1 % of {rows:,} rows were overwritten", few),
        ("when half of the groups get two new members", added),
    )
    note = f"made at {made / rows * 1e6:.2f} us a membership"
    return [
        at_most(
            f"a named average {what}, for each of them",
            statistics.median(each[0] for each in times[1:]),
            5,
            "us",
            f"{statistics.median(each[1] for each in times[1:]):.2f} us a member row read; {note}",
        )
        for what, times in parts
    ]


def overwritten(
    items: ehub.Space, average: ehub.Averages, keys: np.ndarray, vectors: np.ndarray
) -> tuple[float, float]:
    """Microseconds of a refresh: for each row overwritten, and for each member row read."""
    for begin in range(0, len(keys), BATCH):
        part = keys[begin : begin + BATCH]
        items.multiset(part, vectors[part[::-1]])
    known = average._kept.members()
    read = len(known.of(known.groups_with(known.members.find(keys.tolist())))[1])
    seconds = timed(average.refresh)
    return seconds / len(keys) * 1e6, seconds / read * 1e6


def joining(average: ehub.Averages, groups: dict[int, np.ndarray]) -> tuple[float, float]:
    """Microseconds of an update and its refresh, for each new membership and member row."""
    seconds = timed(lambda: (average.multi_update(groups), average.refresh()))
    known = average._kept.members()
    read = len(known.of(known.groups.find(groups))[1])
    return seconds / (2 * len(groups)) * 1e6, seconds / read * 1e6


def require_fresh(items: ehub.Space, average: ehub.Averages) -> None:
    """Compares some means with those made at once."""
    groups = average.groups()[::97].tolist()
    expected = items.multi_average({group: average.members(group)[0] for group in groups})
    if not np.array_equal(average.multiget(groups), expected):
        raise AssertionError("a named mean is wrong")


def claims(scale: float) -> list[Claim]:
    """All; `scale` 1 is the full size."""
    with scratch() as directory:
        found = bandwidth_claims(
            directory, max(20_000, int(1_000_000 * scale)), 9 if scale >= 1 else 2
        )
    with scratch() as directory:
        found += partition_claims(directory, max(10_000, int(300_000 * scale)))
    with scratch() as directory:
        rounds = 5 if scale >= 1 else 2
        return found + named_claims(directory, max(10_000, int(300_000 * scale)), rounds)
