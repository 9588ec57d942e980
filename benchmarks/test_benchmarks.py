"""Every benchmark runs and its results are right; the figures of so small a run mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import SUITES

STORES = ("lmdb", "rocksdict")
PEERS = {"ann": ("hnswlib",), "backup": ("obstore", "lz4"), "ingest": STORES, "reads": STORES}


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_runs_at_a_hundredth_of_its_size(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for peer in PEERS.get(suite, ()):
        pytest.importorskip(peer)
    monkeypatch.setenv("EHUB_BENCH_DIR", str(tmp_path))
    claims = SUITES[suite](0.01)
    assert claims
    assert all(claim.ours > 0 and claim.baseline > 0 for claim in claims)
