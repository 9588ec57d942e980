"""However a small workload is cut short, the hub holds all it acknowledged, whole, and goes on.

Goal: no crash loses, tears or makes up anything. Method: every workload of up to three operations,
on five kinds of hub, and a choice of those with tags, restores, forks and notes, crashes before
each call that changes the disk, in the middle of each write and after the last, under every model
of what a disk may keep (`small.h`). What is reopened must equal the state after some prefix of the
operations that includes all that had to be durable.

The run in CI takes a sample of that: of the long workloads one in LONG_ONE_IN, of those of two
operations on the hubs that take longest to look through one in SLOW_ONE_IN, and of the outcomes of
each crash, in turn, as many as OUTCOMES says. `EHUB_CRASH_THOROUGH=1` takes all.
"""

from __future__ import annotations

import itertools
import os

import pytest

from ehub._native import _testing

BASES = ("new", "log", "sealed", "killed", "indexed")
LETTERS = "sodmlckxap"  # what rows are written and rewritten by
PAST = "trfwzvne"  # tags, restores, forks, notes, erasing: of versions and points in time
# Of those, all words of one letter, and chosen ones of three: a rewriting, a crash and a second
# change between the making of a time and its use; forks of restored tables; drops of
# what is shared.
PAST_WORDS = (
    "tor",
    "tcr",
    "trc",
    "tkr",
    "rfc",
    "rtr",
    "fwc",
    "fxc",
    "fvk",
    "fck",
    "wrf",
    "trt",
    "zcf",
    "nfn",
    "tec",
    "toe",
    "ler",
    "wer",
    "eoc",
    "ekt",
)
FULL, NORMAL, OFF = range(3)

THOROUGH = os.environ.get("EHUB_CRASH_THOROUGH") == "1"
LONG_ONE_IN = 1 if THOROUGH else 24
SLOW_ONE_IN = 1 if THOROUGH else 2
SLOW = ("log", "indexed")  # which take turns, so that each workload is on one of them
ALL_OUTCOMES = 12
OUTCOMES = {1: 12, 2: 1, 3: 1}  # of workloads of so many operations
PAST_ONE_IN = 1 if THOROUGH else 8  # of the words of two with a letter of PAST
WEAK_ONE_IN = 1 if THOROUGH else 8  # at weaker durability, of the workloads of two
RECOVERIES_ONE_IN = 200
OPENINGS_ONE_IN = 1 if THOROUGH else 16  # the recoveries crashed where nothing else is done

REPRODUCE = "reproduce one with _testing.crash_small_reproduce(line)"


def explore(base: str, durability: int, workloads: list[str]) -> dict:
    """Crash these workloads, all of one length."""
    outcomes = ALL_OUTCOMES if THOROUGH else OUTCOMES[len(workloads[0])]
    return _testing.crash_small(base, durability, workloads, outcomes, RECOVERIES_ONE_IN)


def workloads_of(first: str, length: int) -> list[str]:
    """Every workload of writes of this length that begins so."""
    return [first + "".join(rest) for rest in itertools.product(LETTERS, repeat=length - 1)]


def past_workloads(first: str) -> list[str]:
    """The words of two that begin so, if either letter is one of PAST."""
    return [first + second for second in LETTERS + PAST if first in PAST or second in PAST]


@pytest.mark.parametrize("first", LETTERS)
@pytest.mark.parametrize("base", BASES)
def test_every_acknowledged_batch_survives_any_crash(base, first, survive):
    pairs = workloads_of(first, 2)
    if base in SLOW:
        pairs = pairs[SLOW.index(base) % SLOW_ONE_IN :: SLOW_ONE_IN]
    for workloads in ([first], pairs):
        survive(explore(base, FULL, workloads), REPRODUCE)
    turn = BASES.index(base) % LONG_ONE_IN
    long_ones = workloads_of(first, 3)[turn::LONG_ONE_IN]
    assert survive(explore(base, FULL, long_ones), REPRODUCE)["points"] >= 50


@pytest.mark.parametrize("first", LETTERS + PAST)
@pytest.mark.parametrize("base", BASES)
def test_versions_and_points_in_time_survive_any_crash(base, first, survive):
    if first in PAST:
        survive(explore(base, FULL, [first]), REPRODUCE)
    turn = (BASES.index(base) + (LETTERS + PAST).index(first)) % PAST_ONE_IN
    survive(explore(base, FULL, past_workloads(first)[turn::PAST_ONE_IN]), REPRODUCE)
    chosen = [word for word in PAST_WORDS if word[0] == first]
    if chosen:
        survive(explore(base, FULL, chosen), REPRODUCE)


@pytest.mark.parametrize("durability", [NORMAL, OFF], ids=["normal", "off"])
@pytest.mark.parametrize("base", ["new", "sealed", "killed"])
def test_at_weaker_durability_a_cut_leaves_a_prefix_and_a_kill_all(base, durability, survive):
    workloads = [word for first in LETTERS for word in workloads_of(first, 2)]
    workloads += [word for first in PAST for word in past_workloads(first)[::PAST_ONE_IN]]
    survive(explore(base, durability, workloads[durability::WEAK_ONE_IN]), REPRODUCE)


@pytest.mark.parametrize("base", BASES)
def test_a_crash_while_the_hub_opens_or_closes_changes_nothing(base, survive):
    survive(_testing.crash_small(base, FULL, [""], ALL_OUTCOMES, OPENINGS_ONE_IN), REPRODUCE)
