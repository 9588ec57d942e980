"""An import that was stopped or has failed keeps whole batches, and goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from imported import ROWS, VECTORS, contents, refused, rows

import ehub
from ehub.cli import importing

PACKAGE_PARENT = Path(ehub.__file__).parent.parent


@pytest.fixture
def hub(tmp_path):
    return tmp_path / "hub"


def test_resume_writes_only_what_is_not_there(cli, hub, tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    command = ["import", hub, tmp_path / "v.npy", "--space", "s", "--batch-rows", "50", "--json"]
    assert cli(*command)[0] == 0
    report = json.loads(cli(*command, "--resume")[1])
    assert (report["rows_stored"], report["rows_skipped"]) == (0, ROWS)
    with ehub.open(hub) as store:
        space = store.get_space("s")
        space.delete(60)
        space.set(130, VECTORS[0])
        space.set(200, -VECTORS[200])
        space.set(9999, VECTORS[1])
    report = json.loads(cli(*command, "--resume")[1])
    assert (report["rows_stored"], report["rows_skipped"]) == (150, ROWS - 150)
    expected = rows(range(ROWS), VECTORS) | rows([9999], VECTORS[1:2])
    assert contents(hub) == expected


def test_a_failed_import_keeps_whole_batches_and_resumes(cli, hub, tmp_path):
    lines = [f"k{i},{i},1" for i in range(100)]
    (tmp_path / "f.csv").write_text("\n".join([*lines[:57], "bad,x,1", *lines[57:]]))
    err = refused(cli, hub, tmp_path / "f.csv", "--batch-rows", "10")
    assert "line 58" in err
    assert "50 rows are stored" in err
    assert len(contents(hub)) == 50
    (tmp_path / "f.csv").write_text("\n".join(lines))
    options = ["--space", "s", "--batch-rows", "10", "--resume"]
    code, out, _ = cli("import", hub, tmp_path / "f.csv", *options)
    assert code == 0
    assert "50 rows in space 's' (50 more were there)" in out
    assert contents(hub) == rows([f"k{i}" for i in range(100)], [[i, 1] for i in range(100)])


BIG_ROWS = 20_000
BATCH = 10


@pytest.fixture
def slow_import(hub, tmp_path):
    """An import of so many small batches that it can be stopped in the middle; and its input."""
    vectors = np.random.default_rng(2).standard_normal((BIG_ROWS, 4)).astype(np.float32)
    np.save(tmp_path / "big.npy", vectors)
    arguments = ["import", hub, tmp_path / "big.npy", "--space", "s", "--batch-rows", BATCH]
    command = [sys.executable, "-m", "ehub.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT)}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process, vectors
    process.kill()
    process.communicate()


def wait_for_rows(hub, process):
    """Return when the import has stored something, but not all."""
    process.stderr.readline()  # what it is about to import: hub and space exist now
    with ehub.open(hub, read_only=True) as store:
        while process.poll() is None:
            store.refresh()
            if len(store.get_space("s")) > 3 * BATCH:
                return
    pytest.fail(f"the import ended by itself: {process.stderr.read()}")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_import_keeps_whole_batches_and_resumes(cli, hub, tmp_path, slow_import, stop):
    process, vectors = slow_import
    wait_for_rows(hub, process)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    stored = contents(hub)
    assert BATCH <= len(stored) < BIG_ROWS
    assert len(stored) % BATCH == 0
    assert stored == rows(range(len(stored)), vectors[: len(stored)])
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert f"{len(stored):,} of {BIG_ROWS:,} rows are stored" in err
        assert "--resume" in err
        assert "Traceback" not in err
    options = ["--space", "s", "--batch-rows", "1000", "--resume", "--json"]
    code, out, _ = cli("import", hub, tmp_path / "big.npy", *options)
    assert code == 0
    assert json.loads(out)["rows_skipped"] == len(stored) // 1000 * 1000
    assert contents(hub) == rows(range(BIG_ROWS), vectors)


def test_a_second_interrupt_does_not_wait():
    with importing.deferred_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
