"""Damage in one space stops neither the other spaces, nor checkpoints, nor opening the hub.

Goal: a rotten block costs the rows that are in it until `repair`, and nothing else. Method: a
sealed segment that is due to be rewritten is damaged, or removed, before anybody has read it; then
the hub is used as always, and killed and opened.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub

ROWS, DIMS = 4000, 64


def vectors_of(number: float) -> np.ndarray:
    return np.full((ROWS, DIMS), number, np.float32)


@pytest.fixture
def path(tmp_path) -> Path:
    """A closed hub with a sealed segment in each of two spaces."""
    with ehub.open(tmp_path / "hub") as hub:
        for number, name in enumerate(["hit", "sound"]):
            space = hub.create_space(name, dims=DIMS, metric="l2", key_type="int")
            space.multiset(np.arange(ROWS), vectors_of(number))
        hub.checkpoint()
    return tmp_path / "hub"


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 4
    file.write_bytes(content)


def require_contained(hub: ehub.Hub, file: Path) -> None:
    """Only the rows that were hit are missed, and all say so."""
    hit, sound = hub.get_space("hit"), hub.get_space("sound")
    for number in range(3):
        sound.multiset(np.arange(ROWS), vectors_of(10 + number))
        hit.set(10 * ROWS + number, np.ones(DIMS))
        hub.checkpoint()
        np.testing.assert_array_equal(sound.multiget(range(ROWS)), vectors_of(10 + number))
    with pytest.raises((ehub.CorruptionError, ehub.NotFoundError)):
        hit.get(ROWS - 1)
    with pytest.raises((ehub.CorruptionError, ehub.NotFoundError)):
        hit.compact()
    assert any(file.stem in finding.path for finding in hub.verify().findings)


def test_a_merge_that_meets_damage_is_left_undone(path):
    file = path / "segments" / "000000000001.f32"
    flipped(file)
    for _ in range(2):
        with ehub.open(path) as hub:
            hub.get_space("hit").multidelete(range(ROWS // 2))
            require_contained(hub, file)
    assert ehub.repair(path).rows_dropped > 0
    with ehub.open(path) as hub:
        assert hub.verify().findings == ()
        np.testing.assert_array_equal(hub.get_space("sound").multiget([5]), vectors_of(12)[:1])


@pytest.mark.parametrize("damage", [flipped, Path.unlink])
@pytest.mark.parametrize("suffix", [".f32", ".seg"])
def test_a_damaged_space_can_be_emptied_and_is_sound_then(path, suffix, damage):
    damage(path / "segments" / f"000000000001{suffix}")
    with ehub.open(path) as hub:
        hub.get_space("hit").delete_all()
        hub.checkpoint()
        assert hub.verify().findings == ()
        hub.get_space("hit").multiset(np.arange(ROWS), vectors_of(5))
    with ehub.open(path) as hub:
        np.testing.assert_array_equal(hub.get_space("hit").multiget(range(ROWS)), vectors_of(5))


DIE = """
import os, signal, sys
import ehub
hub = ehub.open(sys.argv[1])
hub.get_space("hit").multidelete(range(int(sys.argv[2])))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_hub_opens_although_its_recovery_meets_damage(path):
    subprocess.run([sys.executable, "-c", DIE, path, str(ROWS // 2)], check=False, timeout=60)
    file = path / "segments" / "000000000001.f32"
    flipped(file)
    with ehub.open(path) as hub:
        assert len(hub.get_space("hit")) == ROWS // 2
        require_contained(hub, file)
