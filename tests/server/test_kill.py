"""A server that is killed in the middle of writes: what was acknowledged is there, once."""

from __future__ import annotations

from kill_ingest import attack


def test_no_acknowledged_row_is_lost_and_no_batch_applied_twice(tmp_path):
    assert attack(tmp_path / "hub", cycles=4) > 20
