"""A call to the disk that fails is reported, changes nothing, and is never followed by a loss.

Goal: no error path that nobody has walked. Method: the n-th call fails, for n = 0, 1, 2, ... until
a run passes untouched (`nth_failure.h`), for each fault, once and from then on for ever; then disks
of many sizes fill up (`disk_limit.h`).

The run in CI takes each fault of a run once or for ever, in turn; `EHUB_CRASH_THOROUGH=1` both.
"""

from __future__ import annotations

import itertools
import os

import pytest

from ehub._native import _testing

EIO, ENOSPC, SHORT_WRITE, SYNC_LOST = range(4)
FAULTS = {"EIO": EIO, "ENOSPC": ENOSPC, "short write": SHORT_WRITE, "sync lost": SYNC_LOST}

# Every operation, on rows in memory and on sealed ones, and what follows a failure of each.
RUNS = [
    ("new", "slcdmok"),
    ("new", "sssssss"),
    ("sealed", "lmclsdkxs"),
    ("killed", "mcmcmcmck"),
    ("killed", "acslxlc"),
    ("indexed", "lcdmclk"),
    ("sealed", "trfwn"),
    ("killed", "trcfzcv"),
    ("sealed", "tefce"),
]

THOROUGH = os.environ.get("EHUB_CRASH_THOROUGH") == "1"
TRIED = [
    (fault, forever, *run)
    for (i, fault), forever, (j, run) in itertools.product(
        enumerate(FAULTS), (False, True), enumerate(RUNS)
    )
    if THOROUGH or forever == bool((i + j) % 2)
]

REPRODUCE = "the line names base, workload, fault, whether for ever, whether reads count, and n"
FULL_DISK = "the line names the bytes of the disk and how room was made"


@pytest.mark.parametrize(("fault", "forever", "base", "workload"), TRIED)
def test_a_call_that_fails_changes_nothing(fault, forever, base, workload, survive):
    report = _testing.crash_fail_calls(base, workload, FAULTS[fault], forever, False)
    assert survive(report, REPRODUCE, "failed_calls")["points"] >= 30


@pytest.mark.parametrize(("base", "workload"), RUNS[2:])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for ever"])
def test_a_read_that_fails_gives_no_wrong_answer(forever, base, workload, survive):
    report = _testing.crash_fail_calls(base, workload, EIO, forever, True)
    assert survive(report, REPRODUCE, "failed_calls")["points"] >= 100


@pytest.mark.parametrize("way", ["grow", "compact", "drop"])
def test_a_full_disk_refuses_cleanly_and_goes_on_when_there_is_room(way, survive):
    report = _testing.crash_fill_disks(100_000, 3_000_000, 30_011, way)
    survive(report, FULL_DISK, "full_disks")


def test_dropping_a_space_frees_every_disk_that_had_room_for_the_reserve(survive):
    report = _testing.crash_fill_disks(1_800_000, 3_000_000, 30_011, "drop")
    tried = survive(report, FULL_DISK, "full_disks")
    assert tried["images"] == tried["points"] > 30
