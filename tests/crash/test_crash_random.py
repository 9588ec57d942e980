"""A hub that crashes again and again in a long life of random operations never loses its memory.

Goal: what small workloads do not reach: many segments, compactions, logs that carry rows, crash
upon crash. Method: seeded walks of ten generations over three spaces (`random_walk.h`), each of
which ends in a crash at a random call and goes on with what is left; and the same with threads,
whose batches share writes of the log (`threaded.h`).

`EHUB_CRASH_SEEDS=5000` walks so many seeds.
"""

from __future__ import annotations

import os

import pytest

from ehub._native import _testing

SEEDS = int(os.environ.get("EHUB_CRASH_SEEDS", "480"))
PARTS = 8
OPERATIONS = (200, 500, 1000)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_hub_survives_a_long_life_of_crashes(part, survive):
    total = {"points": 0, "images": 0, "failures": []}
    for seed in range(part, SEEDS, PARTS):
        report = _testing.crash_random(seed, OPERATIONS[seed // 3 % len(OPERATIONS)])
        total = {name: total[name] + report[name] for name in total}
    survive(total, "reproduce with _testing.crash_random(seed, operations)")


# A reader's sub-index kept keys that the writer had erased.
@pytest.mark.parametrize("seed", [429])
def test_walks_that_found_something_once(seed, survive):
    survive(_testing.crash_random(seed, 1000), "")


@pytest.mark.parametrize("part", range(PARTS // 4))
def test_threads_that_write_together_lose_nothing_in_a_crash(part, survive):
    seeds = SEEDS // PARTS * 4
    report = _testing.crash_threaded(part * seeds, (part + 1) * seeds)
    survive(report, "about the same comes of _testing.crash_threaded(seed, seed + 1)")
