"""Whatever becomes of an index file costs speed for a while, and nothing else.

Goal: no wrong answer and no error for a graph that is missing, damaged, foreign or half written;
it is built again, and that is counted. Method: the index file of a hub on a real disk is damaged
in every section and cut at many places; the hub is opened and searched.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ehub
from ehub._native import _store

# More rows than are scanned in any case.
ROWS, DIMS = 5000, 8
SECTIONS = 12  # with the block checksums, after the header
FOOTER_BYTES = 280


def open_hub(path: Path, **options: object) -> ehub.Hub:
    return ehub.Hub(
        _store.Store(str(path), **{"durability": "off", "background": False, **options})
    )


def vectors() -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((ROWS, DIMS), dtype=np.float32)
    rows[1000:1200] = rows[7]
    return rows


VECTORS = vectors()
QUERIES = np.random.default_rng(2).standard_normal((12, DIMS), dtype=np.float32)


def make_hub(path: Path, rows: np.ndarray) -> Path:
    """A closed hub with one indexed segment; returns its graph file."""
    with open_hub(path) as hub:
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(len(rows)), rows)
        items.optimize()
        assert items.index_stats().rows_indexed == len(rows)
    [graph] = (path / "index").iterdir()
    return graph


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """The graph file of a hub that no test changes."""
    return make_hub(tmp_path_factory.mktemp("healthy") / "hub", VECTORS)


@pytest.fixture
def graph(healthy, tmp_path) -> Path:
    """The graph file of a hub of one's own."""
    shutil.copytree(healthy.parent.parent, tmp_path / "hub")
    return tmp_path / "hub" / "index" / healthy.name


def exact(items: ehub.Space) -> list[list[int]]:
    found = items.multi_nearest_neighbors(10, vectors=QUERIES, exact=True)
    return [answer.keys.tolist() for answer in found]


def require_right(items: ehub.Space) -> None:
    """Searches agree with a scan of all rows (a walk, with so large an ef, does)."""
    found = items.multi_nearest_neighbors(10, vectors=QUERIES, ef=ROWS)
    assert [answer.keys.tolist() for answer in found] == exact(items)
    assert items.nearest_neighbors(3, vector=VECTORS[7]).keys.tolist() == [7, 1000, 1001]


def require_rebuilt(graph: Path, *, counted: int) -> None:
    """A writer answers, builds the graph again, and goes on with it when opened once more."""
    with open_hub(graph.parent.parent) as hub:
        items = hub.get_space("items")
        require_right(items)
        items.set(1, VECTORS[1])
        items.wait_indexed()
        stats = items.index_stats()
        assert (stats.rows_indexed, stats.rebuilds) == (ROWS, counted)
        require_right(items)
        assert hub.verify().findings == ()
    with open_hub(graph.parent.parent) as hub:
        items = hub.get_space("items")
        assert items.index_stats().rebuilds == 0
        assert items.index_stats().rows_indexed == ROWS
        require_right(items)


def places_of(data: bytes) -> list[int]:
    """The start, the middle and the end of each section, and places in the footer."""
    footer = len(data) - FOOTER_BYTES
    places = [0, 8, 63, footer, footer + 200, footer + 220, footer + 256, len(data) - 1]
    for index in range(SECTIONS):
        offset, length = struct.unpack_from("<2Q", data, footer + 16 * index)
        places += [offset, offset + length // 2, offset + max(length - 1, 0)]
    return sorted(set(places))


def test_a_damaged_graph_never_shows_in_an_answer(graph):
    # Read-only, so that nothing is mended meanwhile.
    data = graph.read_bytes()
    walked = 0
    for place in places_of(data):
        for damage in ("cut", "flip"):
            bad = bytearray(data[:place] if damage == "cut" else data)
            if damage == "flip":
                bad[place] ^= 16
            graph.write_bytes(bad)
            with open_hub(graph.parent.parent, read_only=True) as hub:
                items = hub.get_space("items")
                require_right(items)
                walked += items.index_stats().segments
    # What no walk had to touch may go unnoticed: only that.
    assert walked < 10


def cut_in_half(graph: Path) -> None:
    os.truncate(graph, graph.stat().st_size // 2)


def empty(graph: Path) -> None:
    graph.write_bytes(b"")


def zero(graph: Path) -> None:
    graph.write_bytes(bytes(graph.stat().st_size))


def flip_links(graph: Path) -> None:
    data = bytearray(graph.read_bytes())
    offset, length = struct.unpack_from("<2Q", data, len(data) - FOOTER_BYTES + 160)
    for place in range(offset, offset + length, 1000):
        data[place] ^= 1
    graph.write_bytes(data)


def flip_codes(graph: Path) -> None:
    data = bytearray(graph.read_bytes())
    offset, length = struct.unpack_from("<2Q", data, len(data) - FOOTER_BYTES + 144)
    for place in range(offset, offset + length, 1000):
        data[place] ^= 1
    graph.write_bytes(data)


def of_another_release(graph: Path) -> None:
    data = bytearray(graph.read_bytes())
    struct.pack_into("<I", data, 8, 99)
    graph.write_bytes(data)


def of_other_rows(graph: Path) -> None:
    # The same segment number, in another hub.
    other = make_hub(graph.parent.parent.with_name("other"), VECTORS[::-1].copy())
    assert other.name == graph.name
    shutil.copy(other, graph)


def text(graph: Path) -> None:
    graph.write_text("This is no graph. " * 1000)


@pytest.mark.parametrize(
    "damage",
    [cut_in_half, empty, zero, flip_links, flip_codes, of_another_release, of_other_rows, text],
)
def test_a_damaged_graph_is_built_again_and_counted(graph, damage: Callable[[Path], None]):
    damage(graph)
    require_rebuilt(graph, counted=1)


def test_a_missing_graph_is_built_again(graph):
    data = graph.read_bytes()
    graph.unlink()
    require_rebuilt(graph, counted=0)
    assert graph.read_bytes() == data
    shutil.rmtree(graph.parent)
    require_rebuilt(graph, counted=0)
    assert graph.read_bytes() == data


def test_what_a_crash_left_of_a_graph_does_not_matter(graph):
    unfinished = graph.with_name(graph.name + ".tmp")
    unfinished.write_bytes(graph.read_bytes()[:10_000])
    unfinished.with_name("000000000999.hnsw.tmp").write_bytes(b"x")
    unfinished.with_name("notes.txt").write_text("not ours")
    graph.unlink()
    require_rebuilt(graph, counted=0)
    assert unfinished.with_name("notes.txt").exists()
    assert not unfinished.exists()


def test_a_graph_that_a_search_found_damaged_is_built_again_in_the_background(graph):
    flip_links(graph)
    with open_hub(graph.parent.parent, background=True) as hub:
        items = hub.get_space("items")
        require_right(items)
        # Nothing but searches: they keep the index close behind. Without a rebuild this never ends.
        while items.index_stats().rebuilds == 0 or items.index_stats().rows_indexed < ROWS:
            require_right(items)


def test_where_no_graph_can_be_written_everything_else_goes_on(graph):
    # A file in the place of the directory: no one can write there, not even root.
    shutil.rmtree(graph.parent)
    graph.parent.write_text("")
    with open_hub(graph.parent.parent) as hub:
        items = hub.get_space("items")
        require_right(items)
        items.multiset(np.arange(ROWS, ROWS + 5000), VECTORS + 50)
        hub.checkpoint()
        items.compact()
        require_right(items)
        assert items.index_stats().segments == 0
        # Only who asks for a graph is told that there can be none.
        for call in (items.wait_indexed, items.optimize):
            with pytest.raises((ehub.StorageError, ehub.NotFoundError)):
                call()
        items.set(0, VECTORS[0])
        assert hub.verify().findings == ()
    graph.parent.unlink()
    with open_hub(graph.parent.parent) as hub:
        items = hub.get_space("items")
        items.wait_indexed()
        assert items.index_stats().rows_scanned <= 1
        require_right(items)
