"""A damaged file gives the right data or a typed error, and repair() keeps all that was not hit.

Goal: no wrong answer, no hang and no dead process, whatever became of a file. Method: each file of
a closed hub and of a killed one is truncated, flipped, zeroed, lengthened and removed, at many
places in turn (`damage.h`), in memory; some of it again on a real disk, where a mapping that
reaches beyond its file would kill the process. The run in CI takes every other part of each hub;
`EHUB_CRASH_THOROUGH=1` takes all.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub._native import _testing

THOROUGH = os.environ.get("EHUB_CRASH_THOROUGH") == "1"
HUBS = ["clean", "indexed", "killed", "past", "killed past"]
PARTS = 7  # odd, so that each has damages of every kind
TRIED = [
    (hub, part)
    for (i, hub), part in itertools.product(enumerate(HUBS), range(PARTS))
    if THOROUGH or part % 2 == i % 2
]
DIMS = 64


@pytest.mark.parametrize(("hub", "part"), TRIED)
def test_damage_is_noticed_and_repaired(hub, part, survive):
    report = _testing.crash_damage(hub, part, PARTS)
    reproduce = "the line names the hub, the file, what was done to it, and where"
    assert survive(report, reproduce, "damages")["points"] >= 100


@pytest.fixture
def patient(tmp_path) -> Path:
    """A closed hub with sealed rows and rows in the log; beside it what is right."""
    path = tmp_path / "patient"
    keys = np.array([f"key {row:05}" for row in range(2000)])
    vectors = np.random.default_rng(7).random((len(keys), DIMS), np.float32)
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2")
        items.multiset(keys[:1500].tolist(), np.zeros((1500, DIMS), np.float32))
        items.multiset(keys[:1990].tolist(), vectors[:1990])
        hub.checkpoint()
        items.multiset(keys[1990:].tolist(), vectors[1990:])
    np.savez(tmp_path / "right.npz", keys=keys, vectors=vectors)
    return path


def truncated(file: Path, part: float) -> None:
    """Leave the first part of a file."""
    os.truncate(file, int(file.stat().st_size * part))


def flipped(file: Path, part: float) -> None:
    """Flip a bit of the byte that lies so far in."""
    content = bytearray(file.read_bytes())
    content[min(len(content) - 1, int(len(content) * part))] ^= 4
    file.write_bytes(content)


def damaged_copies(patient: Path) -> list[Path]:
    """Copies of the hub, each with one of its files damaged at one place."""
    copies = []
    files = [path.relative_to(patient) for path in sorted(patient.rglob("*")) if path.is_file()]
    for file in files:
        for damage in (truncated, flipped):
            for part in (0.0, 0.3, 0.7, 0.999):
                copy = patient.with_name(f"{damage.__name__} {part} {file.name}")
                shutil.copytree(patient, copy)
                if (copy / file).stat().st_size:
                    damage(copy / file, part)
                copies.append(copy)
    return copies


def test_a_damaged_hub_on_disk_is_refused_or_right(patient):
    copies = damaged_copies(patient)
    reader = Path(__file__).with_name("damage_reader.py")
    done = subprocess.run(
        [sys.executable, str(reader), str(patient.with_name("right.npz")), *map(str, copies)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=200,
        check=False,
    )
    verdicts = done.stdout.splitlines()
    names = [copy.name for copy in copies]
    assert len(verdicts) == len(names), f"dies at {names[len(verdicts)]}: {done.stderr}"
    assert done.returncode == 0, done.stderr
    wrong = [pair for pair in zip(names, verdicts, strict=True) if pair[1].startswith("wrong")]
    assert wrong == []
    assert any(verdict.startswith("refused") for verdict in verdicts)


def test_a_repaired_hub_on_disk_keeps_what_was_not_hit(patient):
    right = np.load(patient.with_name("right.npz"))
    segment = max(patient.rglob("*.f32"), key=lambda path: path.stat().st_size)
    flipped(segment, 0.5)
    report = ehub.repair(patient)
    assert report.rows_dropped <= (64 << 10) // (DIMS * 4) + 1
    assert report.rows_kept == 2000 - report.rows_dropped
    with ehub.open(patient) as hub:
        vectors, found = hub.get_space("items").multiget(right["keys"].tolist(), default=None)
        assert found.sum() == report.rows_kept
        assert vectors[found].tobytes() == right["vectors"][found].tobytes()
        assert hub.verify().findings == ()
