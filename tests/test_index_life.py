"""The index follows the writes, lives as long as its rows, and is never in anybody's way."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from indexed import embeddings, filled, normal, open_hub, recall, require_indexed

import ehub


@pytest.fixture
def hub(tmp_path):
    # Everything that is written is sealed by the next checkpoint, and everything sealed is indexed.
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    with open_hub(tmp_path / "hub", **options) as hub:
        yield hub


# --- the life of an index ---


def test_the_speed_of_a_build_is_that_of_the_spaces_own(hub):
    filled(hub, normal(60, 500, 8), "l2")
    other = hub.create_space("other", 8, metric="l2", key_type="int")
    assert hub.get_space("items").index_stats().rows_per_second > 0
    assert other.index_stats().rows_per_second == 0


def test_fresh_rows_are_scanned_and_sealed_ones_get_a_graph(hub):
    space = hub.create_space("items", 8, metric="l2", key_type="int")
    assert space.index_stats().rows == 0
    space.wait_indexed()
    space.optimize()
    rows = normal(61, 500, 8)
    space.multiset(np.arange(500), rows)
    stats = space.index_stats()
    assert (stats.rows, stats.rows_indexed, stats.rows_scanned) == (500, 0, 500)
    assert stats.rows_waiting == 500
    assert (stats.segments, stats.bytes) == (0, 0)
    space.optimize()
    stats = require_indexed(space)
    assert (stats.rows, stats.rows_indexed, stats.segments) == (500, 500, 1)
    assert stats.bytes > 500 * 8
    assert stats.ef >= 10
    assert stats.code_bits in (4, 8, 16, 32)
    assert stats.rows_per_second > 0
    assert (stats.rows_building, stats.rebuilds, stats.rows_waiting) == (0, 0, 0)


def test_rows_that_are_too_few_for_a_graph_wait_for_none(hub):
    space = hub.create_space("items", 8, metric="l2", key_type="int")
    space.multiset(np.arange(99), normal(64, 99, 8))
    stats = space.index_stats()
    assert (stats.rows_scanned, stats.rows_waiting) == (99, 0)
    space.wait_indexed()
    stats = space.index_stats()
    assert (stats.rows_scanned, stats.rows_waiting) == (99, 0)


def test_measuring_a_space_of_few_rows_is_fine(hub):
    space = hub.create_space("items", 2)
    assert space.measure_recall().recall == 1.0
    space.multiset({"a": [1, 2], "b": [2, 1]})
    assert space.measure_recall().recall == 1.0


def test_parameters_of_the_index_live_as_long_as_the_space(tmp_path):
    rows, queries = embeddings(62, 6000, 16), embeddings(63, 50, 16)
    sizes, recalls, efs = {}, {}, {}
    settings = {
        "plain": {},
        "thin": {"M": 4, "ef_construction": 10},
        "exacting": {"target_recall": 0.999},
        "hasty": {"ef": 10},
    }
    with open_hub(tmp_path / "hub", background=False) as hub:
        for name, parameters in settings.items():
            space = hub.create_space(name, 16, metric="l2", key_type="int", **parameters)
            space.multiset(np.arange(6000), rows)
    # The graphs are built by a process that was not told.
    for path in (tmp_path / "hub").glob("index/*"):
        path.unlink()
    with open_hub(tmp_path / "hub", background=False) as hub:
        for name in settings:
            space = hub.get_space(name)
            space.optimize()
            stats = require_indexed(space)
            sizes[name], efs[name] = stats.bytes, stats.ef
            recalls[name] = recall(space, rows, queries)
    assert sizes["thin"] < sizes["plain"]
    assert efs["exacting"] > efs["plain"]
    assert recalls["exacting"] >= 0.995
    assert recalls["hasty"] < recalls["exacting"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"M": 1},
        {"M": 513},
        {"ef_construction": 1},
        {"ef": 0},
        {"ef": 1_000_001},
        {"target_recall": 0},
        {"target_recall": 1},
        {"target_recall": float("nan")},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(hub, parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        hub.create_space("items", 4, **parameters)
    assert "items" not in hub


@pytest.mark.parametrize("ef", [0, -1, 1_000_001, 1.5, "10"])
def test_an_ef_out_of_range_is_refused(hub, ef):
    space = hub.create_space("items", 2)
    with pytest.raises((ValueError, TypeError), match="ef"):
        space.nearest_neighbors(1, vector=[1, 2], ef=ef)


def test_graphs_are_there_when_the_hub_is_opened_again(tmp_path):
    rows, queries = embeddings(64, 6000, 16), embeddings(65, 50, 16)
    with open_hub(tmp_path / "hub") as hub:
        space = filled(hub, rows, "l2")
        stats = require_indexed(space)
        answers = [n.keys.tolist() for n in space.multi_nearest_neighbors(10, vectors=queries)]
    with open_hub(tmp_path / "hub") as hub:
        space = hub.get_space("items")
        again = require_indexed(space)
        assert (again.bytes, again.ef, again.rebuilds) == (stats.bytes, stats.ef, 0)
        found = space.multi_nearest_neighbors(10, vectors=queries)
        assert [n.keys.tolist() for n in found] == answers
        assert hub.verify().findings == ()


@pytest.mark.parametrize("ending", ["", ".tmp"])
@pytest.mark.parametrize("taken", [0, 2])
def test_a_directory_in_the_place_of_a_graph_costs_speed_alone(tmp_path, ending, taken):
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    rows, queries = embeddings(69, 500, 8), embeddings(70, 20, 8)
    with open_hub(tmp_path / "hub", **options) as hub:
        require_indexed(filled(hub, rows, "l2"))
    (graph,) = (tmp_path / "hub" / "index").iterdir()
    graph.unlink()
    place = Path(f"{graph}{ending}")
    place.mkdir()
    (place / "note").write_text("of somebody")
    others = [Path(f"{place}.foreign"), Path(f"{place}.foreign-2")][:taken]
    for other in others:
        other.write_text("of another")
    with open_hub(tmp_path / "hub", **options) as hub:
        space = hub.get_space("items")
        assert recall(space, rows, queries) == 1.0
        space.wait_indexed()
        assert require_indexed(space).rebuilds == (0 if ending else 1)
        assert hub.verify().findings == ()
    assert graph.is_file()
    moved = Path(f"{place}.foreign-3" if taken else f"{place}.foreign")
    assert (moved / "note").read_text() == "of somebody"
    assert [other.read_text() for other in others] == ["of another"] * taken


def make_socket(path):
    os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize("ending", ["", ".tmp"])
@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_a_pipe_in_the_place_of_a_graph_costs_speed_alone_and_stays(tmp_path, ending, make):
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    with open_hub(tmp_path / "hub", **options) as hub:
        require_indexed(filled(hub, embeddings(69, 500, 8), "l2"))
    (graph,) = (tmp_path / "hub" / "index").iterdir()
    graph.unlink()
    place = Path(f"{graph}{ending}")
    make(place)
    with open_hub(tmp_path / "hub", read_only=True) as hub:
        assert len(hub.get_space("items").nearest_neighbors(3, key=5)) == 3
        hub.backup(tmp_path / "backups")
    with open_hub(tmp_path / "hub", **options) as hub:
        hub.get_space("items").wait_indexed()
        require_indexed(hub.get_space("items"))
    assert graph.is_file()
    assert not Path(f"{place}.foreign").is_file()
    assert Path(f"{place}.foreign").exists()


def test_a_directory_in_the_place_of_a_graph_is_not_backed_up(tmp_path):
    options = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100}
    with open_hub(tmp_path / "hub", **options) as hub:
        require_indexed(filled(hub, embeddings(69, 500, 8), "l2"))
    (graph,) = (tmp_path / "hub" / "index").iterdir()
    graph.unlink()
    (graph / "of somebody").mkdir(parents=True)
    with open_hub(tmp_path / "hub", read_only=True) as hub:
        hub.backup(tmp_path / "backups")
    ehub.restore(tmp_path / "backups", tmp_path / "new")
    with open_hub(tmp_path / "new") as hub:
        assert len(hub.get_space("items")) == 500


@pytest.mark.parametrize("background", [False, True])
def test_segments_of_many_writes_are_merged_and_their_graphs_with_them(tmp_path, background):
    # Segments of 200 rows, nine and more of them: merged beside the writing, without being asked.
    options = {"background": background, "graph_rows_min": 100, "carry_bytes_max": 0}
    rows, queries = normal(66, 6000, 8), normal(67, 30, 8)
    with open_hub(tmp_path / "hub", **options) as hub:
        space = hub.create_space("items", 8, metric="l2", key_type="int")
        for begin in range(0, 6000, 200):
            space.multiset(np.arange(begin, begin + 200), rows[begin : begin + 200])
            hub.checkpoint()
        assert recall(space, rows, queries) >= 0.95
        if not background:
            assert space.index_stats().segments < 20
            require_indexed(space)
        space.wait_indexed()
        require_indexed(space)
        space.multidelete(np.arange(0, 6000, 2))
        hub.checkpoint()
        space.optimize()
        stats = require_indexed(space)
        assert (stats.rows, stats.rows_indexed, stats.segments) == (3000, 3000, 1)
        assert hub.verify().findings == ()
        hub.checkpoint()
        graphs = sorted(path.name for path in (tmp_path / "hub" / "index").iterdir())
        assert len(graphs) == 1
    with open_hub(tmp_path / "hub", **options) as hub:
        chosen = np.arange(1, 6000, 2)
        assert recall(hub.get_space("items"), rows, queries, filter=chosen) == 1.0
        assert len(hub.get_space("items")) == 3000


def test_a_deleted_space_takes_its_graphs_along(hub, tmp_path):
    space = filled(hub, normal(68, 500, 4), "l2")
    assert len(list((tmp_path / "hub" / "index").iterdir())) == 1
    hub.delete_space("items")
    for call in (space.wait_indexed, space.optimize, space.index_stats):
        with pytest.raises(ehub.NotFoundError):
            call()
    hub.checkpoint()
    hub.checkpoint()
    assert list((tmp_path / "hub" / "index").iterdir()) == []


def test_a_closed_hub_has_no_index(tmp_path):
    hub = open_hub(tmp_path / "hub")
    space = hub.create_space("items", 4)
    hub.close()
    for call in (space.wait_indexed, space.optimize, space.index_stats, space.measure_recall):
        with pytest.raises(ehub.ClosedError):
            call()


# --- many at once ---

READER = """
import sys
import numpy as np
import ehub
with ehub.open(sys.argv[1], read_only=True) as hub:
    space = hub.get_space("items")
    print(space.index_stats().segments, flush=True)
    for line in sys.stdin:
        hub.refresh()
        stats = space.index_stats()
        query = np.load(sys.argv[2])[0]
        print(stats.segments, space.nearest_neighbors(1, vector=query).keys[0], flush=True)
    space.wait_indexed()
    try:
        space.optimize()
    except ehub.ReadOnlyError:
        print("read-only")
"""


@pytest.mark.parametrize("batch", [50, 5000])
def test_rows_that_take_little_get_a_graph_too(batch, tmp_path):
    rows = normal(70, 5000, 3)
    with ehub.open(tmp_path / "hub") as hub:
        space = hub.create_space("items", 3, metric="l2", key_type="int")
        for first in range(0, 5000, batch):
            space.multiset(np.arange(first, first + batch), rows[first : first + batch])
        space.optimize()
        assert space.index_stats().rows_indexed == 5000


def test_a_reader_process_gets_graphs_when_it_refreshes(tmp_path):
    rows = normal(71, 6000, 8)
    np.save(tmp_path / "rows.npy", rows)
    limits = {"graph_rows_min": 1 << 30, "large_batch_bytes": 1}
    with open_hub(tmp_path / "hub", background=False, **limits) as hub:
        space = hub.create_space("items", 8, metric="l2", key_type="int")
        space.multiset(np.arange(6000), rows)
    arguments = [sys.executable, "-c", READER, str(tmp_path / "hub"), str(tmp_path / "rows.npy")]
    environment = {**os.environ, "PYTHONPATH": str(Path(ehub.__file__).parent.parent)}
    with (
        subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as reader,
        open_hub(tmp_path / "hub", background=False) as hub,
    ):
        assert reader.stdout.readline() in ("0\n", "1\n")
        hub.get_space("items").wait_indexed()
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "1 0\n"
        reader.stdin.close()
        assert reader.stdout.read() == "read-only\n"
        assert reader.wait() == 0


MEMORY_OF_A_SEARCHED_HUB = """
import sys, time
import numpy as np
import ehub

def anonymous():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))

hub = ehub.open(sys.argv[1], read_only=sys.argv[2] == "reader")
space = hub.get_space("items")
query = np.zeros(space.dims, np.float32)
graph_bytes = space.index_stats().bytes
opened = anonymous()
first = list(space.nearest_neighbors(10, vector=query))
deadline = time.monotonic() + 20
while anonymous() - opened < 0.8 * graph_bytes and time.monotonic() < deadline:
    assert list(space.nearest_neighbors(10, vector=query)) == first
    time.sleep(0.02)
assert list(space.nearest_neighbors(10, vector=query)) == first
print(anonymous() - opened, graph_bytes)
hub.close()
"""


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_graph_that_is_searched_is_taken_into_memory(kind, tmp_path):
    with ehub.open(tmp_path / "hub", durability="off") as hub:
        space = hub.create_space("items", 64, metric="l2", key_type="int")
        space.multiset(np.arange(40_000), normal(67, 40_000, 64))
        space.optimize()
    arguments = [sys.executable, "-c", MEMORY_OF_A_SEARCHED_HUB, tmp_path / "hub", kind]
    child = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert child.returncode == 0, child.stderr
    grown, graph_bytes = map(int, child.stdout.split())
    assert graph_bytes > 8 << 20
    assert grown >= 0.8 * graph_bytes


def test_searches_go_on_while_the_index_follows_the_writes(tmp_path):
    rows, queries = embeddings(72, 16_000, 16), embeddings(73, 8, 16)
    failures: list[BaseException] = []
    stop = threading.Event()

    def search(space: ehub.Space) -> None:
        try:
            for turn in itertools.count():
                known = len(space)
                found = space.multi_nearest_neighbors(10, vectors=queries)
                assert all(len(answer) == 10 for answer in found)
                target = turn * 31 % known
                assert space.nearest_neighbors(1, vector=rows[target]).keys.tolist() == [target]
                if stop.is_set():
                    return
        except BaseException as error:  # of any kind, for the main thread
            failures.append(error)

    options = {"graph_rows_min": 500, "carry_bytes_max": 0}
    with open_hub(tmp_path / "hub", **options) as hub:
        space = hub.create_space("items", 16, metric="l2", key_type="int")
        space.multiset(np.arange(1000), rows[:1000])
        threads = [threading.Thread(target=search, args=(space,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for begin in range(1000, 16_000, 1000):
            space.multiset(np.arange(begin, begin + 1000), rows[begin : begin + 1000])
            hub.checkpoint()
        space.wait_indexed()
        space.optimize()
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert require_indexed(space).segments == 1
        assert recall(space, rows, embeddings(74, 50, 16)) >= 0.95


def settle(space: ehub.Space, outcome: list[str]) -> None:
    """Optimize, and tell how it ended."""
    try:
        space.optimize()
        outcome.append("done")
    except ehub.ClosedError:
        outcome.append("closed")


def test_a_hub_can_be_closed_while_its_index_is_built(tmp_path):
    rows = embeddings(75, 20_000, 64)
    for turn in range(3):
        hub = open_hub(tmp_path / "hub")
        name = f"items {turn}"
        space = hub.create_space(name, 64, metric="l2", key_type="int")
        space.multiset(np.arange(20_000), rows)
        outcome: list[str] = []
        settling = threading.Thread(target=settle, args=(space, outcome))
        settling.start()
        while turn and space.index_stats().rows_building == 0 and settling.is_alive():
            pass
        hub.close()
        settling.join()
        assert outcome in (["done"], ["closed"])
        with open_hub(tmp_path / "hub", read_only=True) as again:
            space = again.get_space(name)
            assert len(space) == 20_000
            assert space.nearest_neighbors(1, vector=rows[7]).keys.tolist() == [7]
