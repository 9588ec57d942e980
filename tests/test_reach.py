"""Every row of a graph can be walked to, however few links a row has."""

from __future__ import annotations

import numpy as np
import pytest

import ehub


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_rows_with_few_links_leave_nobody_out(tmp_path, metric):
    # Of many dims, a few rows are near to most others and fill all links.
    vectors = np.random.default_rng(1).standard_normal((6_000, 100), dtype=np.float32)
    with ehub.open(tmp_path, durability="off") as hub:
        space = hub.create_space("s", 100, metric=metric, key_type="int", M=2)
        space.multiset(np.arange(len(vectors)), vectors)
        space.optimize()
        stats = space.index_stats()
    assert (stats.rows_indexed, stats.unreachable) == (len(vectors), 0)
