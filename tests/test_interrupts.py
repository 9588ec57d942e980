"""Ctrl-C in a long call of the engine: it comes within a second, and the hub is as it was."""

from __future__ import annotations

import gc
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from held_up import held_up

import ehub
from ehub import interrupts, version
from ehub._native import _store

ROWS, DIMS = 100_000, 64

PROGRAM = """
import sys, threading, time
import numpy as np
import ehub

hub = ehub.open(sys.argv[1])
ROWS = 100_000
items = hub.get_space("items")
queries = np.random.default_rng(2).standard_normal((50_000, items.dims), np.float32)
keys = list(range(1, ROWS, 10))
work = {
    "search": lambda: items.multi_nearest_neighbors(10, vectors=queries, exact=True),
    "search by keys": lambda: items.multi_nearest_neighbors(10, keys=keys, exact=True),
    "kmeans": lambda: items.kmeans(5_000, iterations=50),
    "optimize": items.optimize,
    "wait_indexed": items.wait_indexed,
    "compact": items.compact,
}[sys.argv[2]]
print("begins", flush=True)
try:
    work()
except KeyboardInterrupt:
    print("interrupted", flush=True)
else:
    print("done", flush=True)
until = time.monotonic() + 1.5
# A step of k-means goes on.
while sys.argv[2] != "kmeans" and "ehub-work" in [one.name for one in threading.enumerate()]:
    if time.monotonic() > until:
        print("it goes on", flush=True)
        break
    time.sleep(0.01)
print(len(items), flush=True)
hub.close()
print("closed", flush=True)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("interrupted") / "hub"
    with ehub.open(place, durability="off") as hub:
        items = hub.create_space("items", dims=DIMS, metric="l2", key_type="int")
        vectors = np.random.default_rng(1).standard_normal((ROWS, DIMS), np.float32)
        for begin in range(0, ROWS, 10_000):
            items.multiset(np.arange(begin, begin + 10_000), vectors[begin : begin + 10_000])
        items.multidelete(np.arange(0, ROWS, 10))
    return place


def interrupted(path, work):
    """What a program says that is interrupted in its work, how long that took, and its end."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), work], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begins\n"
        time.sleep(0.4)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stdout.readline().strip()
        taken = time.monotonic() - began
        rest = process.stdout.read().split()
        return said, taken, rest, time.monotonic() - began


@pytest.mark.parametrize(
    "work", ["search", "search by keys", "kmeans", "optimize", "wait_indexed", "compact"]
)
def test_ctrl_c_comes_within_a_second_and_the_hub_closes_soon(path, work):
    said, taken, rest, whole = interrupted(path, work)
    if work == "compact" and said == "done":  # a quick disk
        assert rest == ["90000", "closed"]
        return
    assert said == "interrupted"
    assert taken < 1.5
    assert rest == ["90000", "closed"]
    assert whole < 15


def test_the_hub_is_sound_after_all_of_it(path, tmp_path):
    with ehub.open(shutil.copytree(path, tmp_path / "copy")) as hub:
        items = hub.get_space("items")
        assert len(items) == 90_000
        assert hub.verify().findings == ()
        items.optimize()
        assert items.index_stats().rows_scanned == 0


def at_work() -> set[threading.Thread]:
    """The threads in which calls of the engine run."""
    return {one for one in threading.enumerate() if one.name == "ehub-work"}


class TimeOut(Exception):
    """What a signal's handler raises."""


def test_any_signal_handler_stops_a_search(tmp_path):
    def late(number, frame):
        raise TimeOut

    with ehub.open(tmp_path / "hub", durability="off") as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        vectors = np.random.default_rng(1).standard_normal((50_000, DIMS), np.float32)
        items.multiset(np.arange(50_000), vectors)
        before, others = signal.signal(signal.SIGALRM, late), at_work()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(TimeOut):
                items.multi_nearest_neighbors(10, vectors=vectors, exact=True)
        finally:
            signal.signal(signal.SIGALRM, before)
        # The engine is done with it soon, too.
        for thread in at_work() - others:
            thread.join(20)
            assert not thread.is_alive()


def futures() -> list[Future]:
    return [one for one in gc.get_objects() if type(one) is Future]


def test_a_call_that_failed_keeps_nothing_of_what_it_was_given(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type="int")
        items.multiset(range(300), np.ones((300, 2), np.float32))
        gc.collect()
        before = futures()  # what tests before this one have left
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(ehub.NotFoundError):
                    items.multi_nearest_neighbors(1, keys=range(1, 301))
            assert not [one for one in futures() if not any(one is other for other in before)]
        finally:
            gc.enable()


def test_where_no_thread_is_to_be_had_it_is_done_in_this_one(tmp_path, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type="int")
        items.multiset(range(300), np.ones((300, 2), np.float32))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert len(items.multi_nearest_neighbors(1, keys=range(300))) == 300


def test_an_error_in_the_engine_is_raised_as_ever(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type="int")
        items.multiset(range(300), np.ones((300, 2), np.float32))
        with pytest.raises(ehub.NotFoundError, match="no key 300"):
            items.multi_nearest_neighbors(1, keys=range(1, 301))
        assert len(items.multi_nearest_neighbors(1, keys=range(300))) == 300
    with pytest.raises(ehub.ClosedError):
        items.optimize()


# --- what is in the way of the work in these tests: a file that it cannot open ---


@pytest.fixture
def hub(tmp_path):
    # Without threads that would rewrite segments by themselves.
    store = _store.Store(str(tmp_path / "hub"), background=False, graph_rows_min=1 << 20)
    with ehub.Hub(store) as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(20_000), np.ones((20_000, DIMS), np.float32))
        yield hub


@pytest.fixture
def blocked(hub):
    """Whoever reads CURRENT of the open hub waits, until the test is over."""
    others = at_work()
    with held_up(Path(hub.path, "CURRENT")):
        yield
    for thread in at_work() - others:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def times_out():
    """A signal's handler that raises TimeOut; call it with the seconds until the signal comes."""

    def late(number, frame):
        raise TimeOut

    before = signal.signal(signal.SIGALRM, late)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("blocked")
def test_a_check_of_all_files_can_be_interrupted(hub, times_out):
    times_out(0.2)
    with pytest.raises(TimeOut):
        hub.verify()


@pytest.mark.usefixtures("blocked")
def test_a_checkpoint_can_be_interrupted(hub, times_out):
    # It waits for a check of the files.
    check = threading.Thread(target=hub.verify, name="ehub-work")
    check.start()
    time.sleep(0.1)
    times_out(0.2)
    with pytest.raises(TimeOut):
        hub.checkpoint()


@pytest.mark.parametrize("call", ["average", "multi_average", "multiset", "averages"])
def test_what_takes_long_is_done_where_it_can_be_interrupted(hub, call, monkeypatch):
    items = hub.get_space("items")
    threads = []
    begun = interrupts.begun
    monkeypatch.setattr(interrupts, "begun", lambda thread: threads.append(thread) or begun(thread))
    monkeypatch.setattr(version, "LONG_WRITE_BYTES", 1 << 20)
    keys = np.tile(np.arange(20_000), 6)
    if call == "average":
        assert items.average(keys)[0] == 1
    elif call == "multi_average":
        assert items.multi_average(keys, offsets=[0, len(keys)])[0, 0] == 1
    elif call == "averages":
        items.create_average("mean", {"all": [1, 2]}).optimize()
    else:
        items.multiset(np.arange(20_000), np.ones((20_000, DIMS), np.float32))
    assert [thread.name for thread in threads] == ["ehub-work"]


# --- what ends soon when it is told to ---


@pytest.fixture
def stop():
    stop = _store.Stop()
    stop.set()
    return stop


def test_a_compaction_that_is_stopped_leaves_the_segments_as_they_are(hub, stop):
    items = hub.get_space("items")
    hub.checkpoint()
    items.multidelete(np.arange(0, 20_000, 2))
    before = [(segment.id, segment.rows) for segment in items.stats().segments]
    with pytest.raises(ehub.DeadlineError):
        items._table.compact(stop)
    assert [(segment.id, segment.rows) for segment in items.stats().segments] == before
    assert len(items) == 10_000
    assert hub.verify().ok
    items.compact()
    assert [segment.rows for segment in items.stats().segments if segment.id] == [10_000]


def test_a_checkpoint_that_is_stopped_folds_the_log_and_rewrites_nothing(hub, stop):
    items = hub.get_space("items")
    hub.checkpoint()
    items.multidelete(np.arange(0, 20_000, 2))
    hub._store.checkpoint(stop)
    assert [segment.rows for segment in items.stats().segments if segment.id] == [20_000]
    assert hub._store.write_stats()["log_bytes_due"] == 0
    hub.checkpoint()
    assert [segment.rows for segment in items.stats().segments if segment.id] == [10_000]


def test_a_check_that_is_stopped_says_nothing(hub, stop):
    with pytest.raises(ehub.DeadlineError):
        hub._store.verify(stop)
    assert hub.verify().ok


def test_a_write_that_is_stopped_stores_nothing(hub, stop):
    items = hub.get_space("items")
    packed = items._pack(np.arange(10_000, 30_000))
    with pytest.raises(ehub.DeadlineError):
        items._table.multiset(packed, np.full((20_000, DIMS), 2, np.float32), stop=stop)
    assert len(items) == 20_000
    items.multiset(np.arange(20_000, 30_000), np.full((10_000, DIMS), 3, np.float32))
    assert items.get(15_000)[0] == 1
    assert items.get(29_999)[0] == 3
    assert hub.verify().ok
    path = hub.path
    hub.close()
    with ehub.open(path) as again:
        assert len(again.get_space("items")) == 30_000
        assert again.verify().ok
