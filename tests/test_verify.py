"""verify() reads every byte of a hub and names each damaged file and place, while it is in use."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import ehub

BLOCK = 64 << 10
DIMS = 64


def overwrite(file: Path, at: int, content: bytes = b"ROT!") -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, DIMS), np.float32)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def items(hub):
    return hub.create_space("items", DIMS, metric="l2", key_type="int")


def only_file(hub: ehub.Hub, pattern: str) -> Path:
    [file] = Path(hub.path).glob(pattern)
    return file


@pytest.mark.parametrize("read_only", [False, True])
def test_vectors_that_are_not_sealed_yet_are_checked(read_only, hub, items):
    items.multiset(np.arange(20_000), rows(20_000))
    file = only_file(hub, "segments/*.f32")
    with ehub.open(hub.path, read_only=True) as reader:
        checked = reader if read_only else hub
        assert checked.verify().ok
        overwrite(file, 61 * BLOCK + 7)
        [found] = checked.verify().findings
    assert found.path == str(file)
    assert f"from byte {61 * BLOCK} to {62 * BLOCK}" in found.what


def test_a_growing_file_that_was_cut_is_noticed(hub, items):
    items.multiset(np.arange(1100), rows(1100))
    file = only_file(hub, "segments/*.f32")
    os.truncate(file, 3 * BLOCK + 100)
    [found] = hub.verify().findings
    assert found.path == str(file)
    file.unlink()
    [found] = hub.verify().findings
    assert "missing" in found.what


def test_files_that_grow_meanwhile_are_sound(hub, items):
    """Writers append while files are checked; batches end in the middle of blocks."""
    done = threading.Event()

    def write() -> None:
        for batch in range(150):
            items.multiset(np.arange(1333) + batch * 7, rows(1333))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            assert hub.verify().ok
    finally:
        writer.join()
    assert hub.verify().ok


def test_every_run_of_damaged_blocks_is_a_finding(hub, items):
    items.multiset(np.arange(4000), rows(4000))
    hub.checkpoint()
    vectors, segment = only_file(hub, "segments/*.f32"), only_file(hub, "segments/*.seg")
    for block in (1, 2, 3, 7, 15):
        overwrite(vectors, block * BLOCK)
    overwrite(segment, 40_000)
    found = {(finding.path, finding.what.split(":")[0]) for finding in hub.verify().findings}
    assert (str(vectors), f"damaged from byte {BLOCK} to {4 * BLOCK}") in found
    assert (str(vectors), f"damaged from byte {7 * BLOCK} to {8 * BLOCK}") in found
    assert (str(vectors), f"damaged from byte {15 * BLOCK} to {4000 * DIMS * 4}") in found
    assert {path for path, _ in found} == {str(vectors), str(segment)}
    assert len(found) == 4


def test_findings_of_a_file_are_bounded_and_the_rest_is_counted(hub):
    wide = hub.create_space("wide", 16_384, metric="l2", key_type="int")
    wide.multiset(np.arange(300), np.ones((300, 16_384), np.float32))
    file = only_file(hub, "segments/*.f32")
    for block in range(0, 300, 2):
        overwrite(file, block * BLOCK)
    findings = hub.verify().findings
    assert len(findings) == 101
    assert findings[-1] == ehub.Finding(str(file), "50 more places are damaged")


def test_a_damaged_copy_of_the_manifest_is_found_and_a_checkpoint_heals_it(tmp_path):
    ehub.open(tmp_path).close()
    for at in (30, -5):
        manifest = max(tmp_path.glob("manifest-*"))
        overwrite(manifest, at % manifest.stat().st_size, b"?")
        with ehub.open(tmp_path) as hub:
            [found] = hub.verify().findings
            assert found.path == str(manifest)
            hub.checkpoint()
            assert hub.verify().ok


def test_a_batch_that_has_gone_from_the_log_is_found(hub, items):
    items.set(1, np.ones(DIMS))
    items.set(2, np.ones(DIMS))
    log = max(Path(hub.path).glob("wal/*.log"))
    content = log.read_bytes()
    overwrite(log, content.rindex(b"EHWR") + 60)
    [found] = hub.verify().findings
    assert found.path == str(log)
    assert "batch 3 was acknowledged" in found.what
