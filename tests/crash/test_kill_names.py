"""A process that is killed loses no name, no tag's rows and no acknowledged change of either.

Goal: the promise of test_kill.py for versions: tags, restores, forks, frozen versions, aliases,
named averages, sub-indices and erased keys. Method: one writer performs the operations of
names_plan.py and says which one began and which was acknowledged, until SIGKILL comes. Then the hub
must show, in every version and under every tag, what the acknowledged operations left, or that and
the one that had begun.

`EHUB_KILL_CYCLES=5000` kills about a quarter as often.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from random import Random

import names_hub
import names_plan
import pytest

import ehub

CYCLES = int(os.environ.get("EHUB_KILL_CYCLES", "200")) // 4
PARTS = 2
HOLD_CYCLES = 12


def follow(said: list[str], seed: int, state: names_plan.State) -> list[names_plan.State]:
    """The states that may be left: that of all acknowledged operations, and the next, if begun."""
    begun = None
    for line in said:
        word, *numbers = line.split()
        if word == "begin":
            begun = names_plan.operation(seed, int(numbers[0]), state)
        elif word == "done":
            assert begun is not None
            state, begun = names_plan.after(state, begun), None
    return [state] if begun is None else [state, names_plan.after(state, begun)]


def come_back(path: Path, allowed: list[names_plan.State], *, verify: bool) -> names_plan.State:
    """Open the hub, which must show one of these states; return it."""
    with ehub.open(path) as hub:
        state = names_hub.look(hub)
        assert state in allowed, "what was acknowledged is not there"
        names_hub.check_sets(hub, state)
        if verify:
            assert hub.verify().findings == ()
    return state


@pytest.mark.parametrize("part", range(PARTS))
def test_a_killed_writer_loses_no_name_and_no_tagged_row(part, server, tmp_path, record_property):
    random = Random(part)
    path, file = tmp_path / "hub", tmp_path / "state"
    names_hub.create(path)
    state = names_plan.State()
    acknowledged = 0
    for cycle in range(max(1, CYCLES // PARTS)):
        seed = part * 1_000_000 + cycle
        file.write_bytes(pickle.dumps(state))
        seconds = random.choice([0.02, 0.1, 0.2, 0.3])
        said = server.run("names", path, seed, file, seconds=seconds)
        acknowledged += sum(line.startswith("done") for line in said)
        try:
            state = come_back(path, follow(said, seed, state), verify=cycle % 5 == 0)
        except Exception as error:
            raise AssertionError(f"part {part}, cycle {cycle}, seed {seed}") from error
        record_property("cycles", cycle + 1)
    record_property("acknowledged", acknowledged)
    assert acknowledged > CYCLES // PARTS


def test_snapshots_of_a_reader_never_change_beside_writers_that_are_killed(
    server, tmp_path, record_property
):
    path, file = tmp_path / "hub", tmp_path / "state"
    names_hub.create(path)
    reader = server.start("hold", path)
    state, heard = names_plan.State(), []
    for seed in range(2_000_000, 2_000_000 + HOLD_CYCLES):
        file.write_bytes(pickle.dumps(state))
        said = server.run("names", path, seed, file, seconds=0.3)
        state = come_back(path, follow(said, seed, state), verify=False)
        heard += said
        record_property("cycles", seed - 2_000_000 + 1)
    heard += server.kill(reader)
    assert [line for line in heard if line.startswith("changed")] == []
    assert [line for line in heard if line.startswith("held") and not line.endswith(" 0")]
