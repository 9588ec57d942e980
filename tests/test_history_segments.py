"""What only tags and snapshots still see is kept apart from what lives, and is in nobody's way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from indexed import embeddings, filled, open_hub, recall

import ehub

ROWS = 5000  # more than what is scanned in any case
DIMS = 16
OPTIONS = {"background": False, "carry_bytes_max": 0, "graph_rows_min": 100, "old_searches_min": 20}


def generation(number: int) -> np.ndarray:
    """The rows of all keys as they are written for the n-th time."""
    return embeddings(number, ROWS, DIMS)


def aged(hub: ehub.Hub, generations: int) -> ehub.Space:
    """A space all of whose rows are overwritten again and again, with a tag of each time."""
    items = hub.create_space("items", DIMS, metric="l2", key_type="int")
    for number in range(generations):
        if number:
            items.tag(f"v{number - 1}")
        items.multiset(np.arange(ROWS), generation(number))
    items.optimize()
    return items


@pytest.fixture
def hub(tmp_path):
    with open_hub(tmp_path / "hub", **OPTIONS) as hub:
        yield hub


def no_upkeep() -> None:
    """Things stay as they are."""


def history_rows(items: ehub.Space) -> int:
    return sum(part.rows for part in items.stats().segments if part.rows == part.rows_dead)


def mixed_shares(items: ehub.Space) -> list[float]:
    """What share of each segment is dead beside rows that live."""
    segments = items.stats().segments
    return [part.rows_dead / part.rows for part in segments if part.rows_dead < part.rows]


def test_graphs_have_what_lives_and_not_what_tags_keep(hub):
    items = aged(hub, 6)
    stats = items.index_stats()
    assert (stats.rows, stats.rows_indexed, stats.rows_scanned) == (ROWS, ROWS, 0)
    assert history_rows(items) == 5 * ROWS
    assert mixed_shares(items) == [0.0]


@pytest.mark.parametrize("upkeep", ["optimize", "compact"])
def test_many_dead_rows_go_to_history_and_few_stay(hub, upkeep):
    items = filled(hub, generation(0), "l2")
    items.tag("v0")
    for last in (1250, 2000):
        items.multiset(np.arange(last), generation(1)[:last])
        getattr(items, upkeep)()
        if last == 1250:
            assert history_rows(items) == 0
    assert history_rows(items) == 2000
    assert max(mixed_shares(items)) <= 0.25
    # The rows that were set twice have died for nobody in between.
    assert sum(part.rows for part in items.stats().segments) <= ROWS + 2000
    with items.at("v0") as then:
        np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(0))


def spoil_history(path: Path, items: ehub.Space) -> None:
    """Nothing can be read any more of the files of history."""
    for part in items.stats().segments:
        if part.rows != part.rows_dead:
            continue
        for suffix in (".f32", ".seg"):
            file = path / "segments" / f"{part.id:012}{suffix}"
            file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


@pytest.mark.parametrize("reopened", [False, True])
def test_no_read_or_write_of_what_lives_looks_at_history(tmp_path, reopened):
    path = tmp_path / "hub"
    with open_hub(path, **OPTIONS) as hub:
        items = filled(hub, generation(0), "l2")
        items.multiset(np.arange(100), generation(0)[:100], partition="us")
        items.create_subindex("some", keys=np.arange(0, ROWS, 7))
        items.tag("v0")
        items.multiset(np.arange(ROWS), generation(1))
        items.multiset(np.arange(100), generation(1)[:100], partition="us")
        items.optimize()
        assert history_rows(items) == ROWS
    with open_hub(path, **OPTIONS) as hub:
        spoil_history(path, hub.get_space("items"))
    with open_hub(path, **OPTIONS, read_only=reopened) as hub:
        items = hub.get_space("items")
        rows = generation(1)
        assert len(items) == ROWS
        np.testing.assert_array_equal(items.get(3), rows[3])
        np.testing.assert_array_equal(items.multiget(np.arange(ROWS)), rows)
        np.testing.assert_allclose(items.average(np.arange(50)), rows[:50].mean(axis=0), atol=1e-5)
        assert sum(len(keys) for keys, _ in items.scan()) == ROWS
        assert recall(items, rows, generation(2)[:50]) > 0.9
        assert recall(items, rows, generation(2)[:50], exact=True) == 1
        assert items.partitions() == {"us": 100}
        assert len(items.nearest_neighbors(10, vector=rows[3], partition="us")) == 10
        assert items.subindex("some").nearest_neighbors(1, vector=rows[7]).keys[0] == 7
        with items.at("v0") as then, pytest.raises(ehub.CorruptionError):
            then.multiget(np.arange(ROWS))
        if reopened:
            return
        items.multiset(np.arange(500), generation(2)[:500])
        items.delete(999)
        assert items.drop_partition("us") == 0
        items.multiset(np.arange(10), rows[:10], partition="us")
        assert items.partition("us").delete_all() == 10
        hub.checkpoint()
        assert len(items) == ROWS - 11


def test_times_of_the_past_are_found_as_they_were(hub):
    items = aged(hub, 4)
    queries = generation(50)[:40]
    for number in range(3):
        with items.at(f"v{number}") as then:
            assert len(then) == ROWS
            assert recall(then, generation(number), queries, exact=True) == 1
            assert recall(then, generation(number), queries) > 0.9
            assert recall(then, generation(number), queries, filter=np.arange(0, ROWS, 3)) > 0.9
            np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(number))
    assert recall(items, generation(3), queries) > 0.9


def graphs(items: ehub.Space) -> int:
    items.wait_indexed()
    return items.index_stats().segments


def test_history_gets_a_graph_when_its_times_were_searched_often(hub):
    items = aged(hub, 2)
    queries = generation(50)
    with items.at("v0") as then:
        for one in queries[:19]:
            then.nearest_neighbors(10, vector=one)
        # Neither needs a graph.
        then.multi_nearest_neighbors(10, vectors=queries[:100], exact=True)
        then.multi_nearest_neighbors(10, vectors=queries[:100], filter=np.arange(100))
        items.multi_nearest_neighbors(10, vectors=queries[:100])
        assert graphs(items) == 1
        assert recall(then, generation(0), queries[:19], exact=True) == 1
        then.nearest_neighbors(10, vector=queries[19])
        assert graphs(items) == 2
        assert 0.9 < recall(then, generation(0), queries[:100]) <= 1
        assert recall(then, generation(0), queries[:100], filter=np.arange(0, ROWS, 2)) > 0.9
    assert items.index_stats().rows_scanned == 0
    items.optimize()
    assert graphs(items) == 2


def test_a_time_that_sees_a_part_of_history_is_found_by_its_graph(hub):
    """Where a walk must pass by most of the rows that it comes to, and is told so."""
    items = hub.create_space("items", DIMS, metric="l2", key_type="int")
    rows = generation(0)
    items.multiset(np.arange(ROWS), rows)
    times = []
    for number in range(1, 11):
        items.tag(f"v{number}")
        times.append(rows.copy())
        part = np.arange(ROWS)[number % 10 :: 10]
        rows[part] = generation(number)[part]
        items.multiset(part, rows[part])
    items.multiset(np.arange(ROWS), generation(20))
    items.optimize()
    with items.at("v1") as then:
        then.multi_nearest_neighbors(10, vectors=generation(50)[:20])
    assert graphs(items) == 2
    for number, seen in enumerate(times, start=1):
        with items.at(f"v{number}") as then:
            assert len(then) == ROWS
            assert recall(then, seen, generation(51)[:30]) > 0.9


def test_history_that_was_searched_keeps_a_graph_when_it_is_rewritten(hub):
    items = aged(hub, 5)
    with items.at("v0") as then:
        then.multi_nearest_neighbors(10, vectors=generation(50)[:20])
    assert graphs(items) == 2
    before = {part.id for part in items.stats().segments}
    items.untag("v1")
    items.untag("v2")
    items.optimize()
    assert before & {part.id for part in items.stats().segments} != before
    assert items.index_stats().segments == 2
    assert items.index_stats().rows_indexed == ROWS + history_rows(items) == 3 * ROWS


def test_history_is_rewritten_unasked_when_a_quarter_of_it_is_needed_by_nobody(hub):
    items = aged(hub, 9)
    assert history_rows(items) == 8 * ROWS
    for number, left in ((0, 8), (1, 8), (2, 5)):
        items.untag(f"v{number}")
        hub.checkpoint()
        assert history_rows(items) == left * ROWS, number
    for number in range(3, 8):
        with items.at(f"v{number}") as then:
            np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(number))
    for number in range(3, 8):
        items.untag(f"v{number}")
    hub.checkpoint()
    assert history_rows(items) == 0


def test_segments_of_history_are_few(hub):
    items = filled(hub, generation(0), "l2")
    for number in range(1, 40):
        items.tag(f"v{number}")
        items.multiset(np.arange(ROWS), generation(number))
        hub.checkpoint()
    segments = items.stats().segments
    assert history_rows(items) == 39 * ROWS
    assert len(segments) <= 16
    with items.at("v7") as then:
        np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(6))


def test_a_restore_brings_rows_back_out_of_history(hub):
    items = aged(hub, 4)
    queries = generation(50)[:40]
    items.tag("v3")
    for number in (0, 2, 3, 1):
        items.restore(f"v{number}")
        for upkeep in (no_upkeep, items.wait_indexed, items.optimize):
            upkeep()
            assert len(items) == ROWS
            assert recall(items, generation(number), queries) > 0.9
            np.testing.assert_array_equal(items.multiget(np.arange(ROWS)), generation(number))
            # No graph is built for a few rows among many dead ones.
            assert upkeep == no_upkeep or max(mixed_shares(items)) <= 0.25
    for number in range(4):
        with items.at(f"v{number}") as then:
            np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(number))


def test_a_fork_of_an_old_time_lives_on_what_was_history(hub):
    items = aged(hub, 4)
    fork = items.fork("fork", at="v1")
    assert len(fork) == ROWS
    fork.set(0, generation(9)[0])
    expected = generation(1)
    expected[0] = generation(9)[0]
    for upkeep in (no_upkeep, fork.wait_indexed, fork.optimize, items.optimize):
        upkeep()
        assert recall(fork, expected, generation(50)[:40]) > 0.9
        np.testing.assert_array_equal(fork.multiget(np.arange(ROWS)), expected)
        np.testing.assert_array_equal(items.multiget(np.arange(ROWS)), generation(3))
    assert fork.index_stats().rows_scanned == 0


def test_an_erasure_reaches_history(hub, tmp_path):
    items = aged(hub, 4)
    erased = [generation(number)[5].tobytes() for number in range(4)]
    items.erase([5])
    for file in (tmp_path / "hub" / "segments").iterdir():
        content = file.read_bytes()
        assert not any(vector in content for vector in erased)
    with items.at("v0") as then:
        assert len(then) == ROWS - 1
    assert history_rows(items) == 3 * (ROWS - 1)


def test_a_hub_opened_again_knows_what_is_history(tmp_path):
    with open_hub(tmp_path / "hub", **OPTIONS) as hub:
        aged(hub, 4)
    for read_only in (False, True):
        with open_hub(tmp_path / "hub", **OPTIONS, read_only=read_only) as hub:
            items = hub.get_space("items")
            assert history_rows(items) == 3 * ROWS
            assert items.index_stats().rows_indexed == ROWS
            assert items.index_stats().rows_scanned == 0
            with items.at("v2") as then:
                np.testing.assert_array_equal(then.multiget(np.arange(ROWS)), generation(2))
            assert not hub.verify().findings
