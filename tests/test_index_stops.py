"""optimize() and wait_indexed() end when nobody wants them any more, and others finish the work."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from indexed import SEGMENT_DIMS as DIMS
from indexed import SEGMENT_ROWS as ROWS
from indexed import embeddings, make_two_segments, open_hub

import ehub
from ehub._native import _store

OPTIONS = {"carry_bytes_max": 0, "graph_rows_min": 1000}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_two_segments(tmp_path_factory.mktemp("stopped") / "hub", **OPTIONS)


@pytest.fixture
def items(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "hub")
    with open_hub(tmp_path / "hub", **OPTIONS) as hub:
        yield hub.get_space("items")


@pytest.fixture
def aside():
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def until(is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_building(items):
    return items.index_stats().rows_building > 0


def require_end(work, stop, seconds=1.5):
    """That the work, which goes on, ends soon after the stop that it was given."""
    assert not work.done()
    stop.set()
    with pytest.raises(ehub.DeadlineError, match="was stopped before it was done"):
        work.result(seconds)


def files(items):
    path = Path(items._table.store.path)
    return sorted(str(file) for name in ("segments", "index") for file in (path / name).iterdir())


def segments(items):
    return [segment.rows for segment in items.stats().segments if segment.id]


def test_an_optimize_that_is_stopped_leaves_all_as_it_was_and_another_does_it(items, aside):
    before = files(items)
    stop = _store.Stop()
    work = aside(items._table.optimize, stop)
    until(lambda: is_building(items))
    require_end(work, stop)
    assert items.nearest_neighbors(1, key=5, exact=True)
    assert items.index_stats().rows_indexed == 2 * ROWS
    assert segments(items) == [ROWS, ROWS]
    assert files(items) == before
    items.optimize()
    assert segments(items) == [2 * ROWS]
    assert items.index_stats().rows_indexed == 2 * ROWS
    assert items._hub.verify().ok


def test_who_left_before_it_began_has_nothing_done_for_them(items):
    stop = _store.Stop()
    stop.set()
    with pytest.raises(ehub.DeadlineError):
        items._table.optimize(stop)
    assert segments(items) == [ROWS, ROWS]


def test_the_background_goes_on_with_what_a_caller_has_left(items, aside):
    items.multiset(np.arange(3 * ROWS, 4 * ROWS), embeddings(3, ROWS, DIMS))
    stop = _store.Stop()
    work = aside(items._table.wait_indexed, stop)
    until(lambda: is_building(items))
    require_end(work, stop)
    assert items.index_stats().rows_scanned == ROWS
    until(lambda: items.index_stats().rows_scanned == 0)


def test_who_waits_for_the_work_of_another_need_not_wait_to_its_end(items, aside):
    whole = aside(items._table.optimize)
    until(lambda: is_building(items))
    for call in (items._table.optimize, items._table.wait_indexed):
        stop = _store.Stop()
        waiting = aside(call, stop)
        time.sleep(0.1)
        require_end(waiting, stop)
    assert not whole.done()
    whole.result(60)
    assert segments(items) == [2 * ROWS]


def test_who_gives_up_takes_nothing_from_another_who_waits_for_the_same(items, aside):
    stop = _store.Stop()
    work = aside(items._table.optimize, stop)
    until(lambda: is_building(items))
    others = [aside(items._table.optimize), aside(items._table.wait_indexed)]
    time.sleep(0.1)
    require_end(work, stop)
    for other in others:
        other.result(60)
    assert segments(items) == [2 * ROWS]
    assert items.index_stats().rows_indexed == 2 * ROWS
