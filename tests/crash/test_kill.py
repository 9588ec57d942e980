"""A process that is killed at any moment loses nothing that it acknowledged, and tears nothing.

Goal: the promise at the whole stack: Python threads, the native module, the real file system.
Method: a writer with several threads says on a pipe which operation began and which was
acknowledged, and is killed by SIGKILL at a random moment, sometimes while it still opens the hub.
Then each thread's keys must hold, bit for bit, what its acknowledged operations left, or that and
the one operation that had begun; everything is checked by a process that opens the hub as the next
writer, and it is killed too, or by this one, which closes it.

`EHUB_KILL_CYCLES=5000` kills so often.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import kill_plan
import numpy as np
import pytest
from kill_client import KillServer

import ehub

CYCLES = int(os.environ.get("EHUB_KILL_CYCLES", "200"))
PARTS = 4


class Journal:
    """What the hub must hold, from what the writers said."""

    def __init__(self) -> None:
        self.states = [kill_plan.State() for _ in range(kill_plan.THREADS)]
        self.begun: list[kill_plan.Operation | None] = [None] * kill_plan.THREADS
        self.acknowledged = 0

    def read(self, lines: list[str], seed: int) -> None:
        """Follow a writer's report."""
        for line in lines:
            word, *numbers = line.split()
            if word not in ("begin", "done"):
                continue
            thread, n = map(int, numbers)
            if word == "begin":
                self.begun[thread] = kill_plan.operation(seed, thread, n)
            else:
                self.acknowledge(thread)

    def acknowledge(self, thread: int) -> None:
        """The operation that a thread began has happened."""
        self.states[thread] = self.states[thread].after(self.begun[thread])
        self.begun[thread] = None
        self.acknowledged += 1

    def check(self, vectors: np.ndarray, found: np.ndarray, rows: int) -> None:
        """The hub holds what was acknowledged; learn from it which of the others happened."""
        for thread in range(kill_plan.THREADS):
            part = slice(thread * kill_plan.KEYS, (thread + 1) * kill_plan.KEYS)
            if not self.states[thread].equals(vectors[part], found[part]):
                begun = self.begun[thread]
                assert begun is not None, f"thread {thread} lost what was acknowledged"
                self.states[thread] = self.states[thread].after(begun)
                same = self.states[thread].equals(vectors[part], found[part])
                assert same, f"thread {thread}: neither before nor after its last {begun.kind}"
        self.begun = [None] * kill_plan.THREADS
        assert rows == found.sum()


def check_by_dump(server: KillServer, path: Path, journal: Journal) -> None:
    """Open the hub in a process that is killed afterwards."""
    file = path.with_name("dump.npz")
    pid = server.start("dump", path, file)
    server.wait_for("dumped")
    server.kill(pid)
    with np.load(file) as dump:
        journal.check(dump["vectors"], dump["found"], int(dump["rows"]))


def check_here(path: Path, journal: Journal, *, verify: bool) -> None:
    """Open the hub in this process and close it."""
    keys = [
        kill_plan.key(thread, row)
        for thread in range(kill_plan.THREADS)
        for row in range(kill_plan.KEYS)
    ]
    with ehub.open(path) as hub:
        if "items" not in hub:
            assert journal.acknowledged == 0
            return
        items = hub.get_space("items")
        vectors, found = items.multiget(keys, default=None)
        journal.check(vectors, found, len(items))
        if verify:
            assert hub.verify().findings == ()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_killed_writer_loses_nothing_it_acknowledged(part, server, tmp_path, record_property):
    random = Random(part)
    journal = Journal()
    path = tmp_path / "hub"
    for cycle in range(CYCLES // PARTS):
        seed = part * 1_000_000 + cycle
        seconds = random.choice([0.002, 0.02, 0.1, 0.2, 0.3])
        journal.read(server.run("write", path, seed, seconds=seconds), seed)
        try:
            if random.random() < 0.5:
                check_by_dump(server, path, journal)
            else:
                check_here(path, journal, verify=cycle % 5 == 0)
        except Exception as error:
            raise AssertionError(f"part {part}, cycle {cycle}") from error
        record_property("cycles", cycle + 1)
    assert journal.acknowledged > CYCLES // PARTS


def test_a_reader_beside_writers_that_are_killed_sees_whole_batches(
    server, tmp_path, record_property
):
    path = tmp_path / "hub"
    with ehub.open(path) as hub:
        hub.create_space("items", dims=kill_plan.DIMS, metric="l2")
    reader = server.start("read", path)
    said: list[str] = []
    for seed in range(15):
        said += server.run("write", path, seed, seconds=0.2)
        record_property("cycles", seed + 1)
    said += server.kill(reader)
    assert [line for line in said if line.startswith("torn")] == []
    assert [line for line in said if line.startswith("read ")]
