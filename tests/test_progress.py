"""Bars: every long call has one, which moves on as the work does, for those who can see it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bars import counts, require_steps, watchers
from indexed import embeddings, open_hub

import ehub
from ehub import hnswlib_io
from ehub._progress import InThread, watched
from ehub.local_copy import LocalCopy

ROWS, DIMS = 24_000, 16
KEYS = np.arange(ROWS)
VECTORS = embeddings(1, ROWS, DIMS)

OF_VIEWS = ["download_snapshot", "kmeans", "to_arrow", "to_arrow_batches", "to_numpy"]
OF_VERSIONS = [
    *OF_VIEWS,
    *("compact", "create_average", "diff", "drift", "measure_recall", "multiset", "optimize"),
    "wait_indexed",
]
LONG = {
    ehub.Hub: ["backup", "checkpoint", "get_space", "verify"],
    ehub.Version: OF_VERSIONS,
    ehub.Space: [*OF_VERSIONS, "align", "compare", "erase", "promote"],
    ehub.Snapshot: OF_VIEWS,
    ehub.Partition: [*OF_VIEWS, "multiset"],
    ehub.SubIndex: OF_VIEWS,
    ehub.Averages: [*OF_VIEWS, "multi_update", "optimize", "refresh", "stale"],
    ehub.Migration: ["missing"],
    LocalCopy: [*OF_VERSIONS, "overwrite_space", "refresh", "write_to_space"],
}
FUNCTIONS = [ehub.align, ehub.compare, ehub.drift, ehub.prune_backups, ehub.repair, ehub.restore]
FUNCTIONS += [hnswlib_io.load, hnswlib_io.save]


def takes_progress(call: object) -> bool:
    taken = inspect.signature(call).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken):
        return True  # hands options on
    [asked] = [one for one in taken if one.name == "progress"] or [None]
    return asked is not None and (asked.kind, asked.default) == (asked.KEYWORD_ONLY, False)


@pytest.mark.parametrize("kind", LONG, ids=lambda kind: kind.__name__)
def test_every_long_call_takes_progress(kind):
    assert [name for name in LONG[kind] if not takes_progress(getattr(kind, name))] == []


def test_every_long_function_takes_progress():
    assert [one.__name__ for one in FUNCTIONS if not takes_progress(one)] == []


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("ehub._progress.is_terminal", lambda _: True)


@pytest.fixture
def hub(tmp_path):
    with open_hub(tmp_path / "hub") as opened:
        yield opened


@pytest.fixture
def items(hub):
    """Rows in three segments, which have no graphs yet."""
    space = hub.create_space("items", DIMS, metric="l2", key_type="int")
    for part in np.split(KEYS, 3):
        space.multiset(part, VECTORS[part])
        hub.checkpoint()
    return space


# --- graphs ---


def test_the_waiting_for_graphs_is_shown_in_rows_as_they_are_built(items, capsys, terminal):
    items.wait_indexed(progress=True)
    shown = capsys.readouterr().err
    require_steps(shown, "wait_indexed items")
    assert counts(shown, "wait_indexed items")[-1][1] <= ROWS  # some may have been built before


def test_optimizing_is_shown_in_rows_of_the_graph_that_is_built_anew(items, capsys, terminal):
    items.wait_indexed()
    items.multidelete(KEYS[:4_000])
    items.optimize(progress=True)
    shown = capsys.readouterr().err
    require_steps(shown, "optimize items")
    assert counts(shown, "optimize items")[-1][1] >= 20_000
    assert items.index_stats().segments == 1


def test_the_figures_say_how_many_rows_of_graphs_were_built_and_are_due(items):
    items.wait_indexed()
    stats = items.index_stats()
    assert (stats.rows_built, stats.rows_due) == (ROWS, 0)
    items.optimize()
    stats = items.index_stats()
    assert (stats.rows_built, stats.rows_due) == (2 * ROWS, 0)


def test_rows_that_get_no_graph_are_not_due(hub):
    few = hub.create_space("few", DIMS, metric="l2", key_type="int")
    few.multiset(KEYS[:500], VECTORS[:500])
    hub.checkpoint()
    assert few.index_stats().rows_due == 0
    few.optimize()
    assert (few.index_stats().rows_built, few.index_stats().rows_due) == (0, 0)


def test_graphs_of_another_version_are_not_counted(items, hub):
    other = hub.create_space("other", DIMS, metric="l2", key_type="int")
    items.wait_indexed()
    assert (other.index_stats().rows_built, other.index_stats().rows_due) == (0, 0)


def test_a_segment_that_waits_for_its_graph_is_due(tmp_path):
    with open_hub(tmp_path / "hub") as hub:
        hub.create_space("items", DIMS, metric="l2", key_type="int").multiset(KEYS, VECTORS)
        hub.checkpoint()
    with open_hub(tmp_path / "hub", read_only=True) as reader:  # which builds none
        stats = reader.get_space("items").index_stats()
        assert stats.rows_due + stats.rows_indexed == ROWS
        assert stats.rows_built == 0


def test_means_are_shown_by_groups_and_then_the_rows_of_their_graph(hub, items, capsys, terminal):
    groups = {n: [n, n + 1] for n in range(6_000)}
    average = items.create_average("pairs", groups, progress=True)
    average.optimize(progress=True)
    shown = capsys.readouterr().err
    assert "multi_update pairs: 00:" in shown
    assert counts(shown, "refresh items")[-1] == (6_000, 6_000)
    assert counts(shown, "optimize pairs of items")[-1] == (6_000, 6_000)


# --- segments ---


def test_compacting_and_erasing_are_shown_in_rows_that_are_written_anew(items, capsys, terminal):
    items.multidelete(KEYS[::2])
    items.compact(progress=True)
    items.erase(KEYS[1:20:2], progress=True)
    shown = capsys.readouterr().err
    assert "compact items: 12.0k row" in shown
    assert "erase items: 12.0k row" in shown


def test_a_checkpoint_is_shown_in_rows_that_were_in_memory(items, hub, capsys, terminal):
    for part in np.split(KEYS, 24):  # small enough for the log
        items.multiset(part, VECTORS[part])
    hub.checkpoint(progress=True)
    assert "checkpoint: 24.0k row" in capsys.readouterr().err


def test_verifying_counts_each_byte_that_it_has_checked(items, hub):
    before = hub._store.work_stats()["bytes_checked"]
    hub.verify()
    checked = hub._store.work_stats()["bytes_checked"] - before
    files = Path(hub.path, "segments").iterdir()
    assert VECTORS.nbytes <= checked <= sum(file.stat().st_size for file in files)


# --- what goes step by step ---


def test_comparisons_are_shown_step_by_step(items, capsys, terminal):
    items.tag("then")
    items.create_version("other").multiset(KEYS, VECTORS[::-1])
    few = {"k": 3, "sample": 100, "progress": True}
    items.compare("initial", "other", **few)
    items.align("initial", "other", **few)
    items.drift("then", over=["then"], **few)
    ehub.drift(items.at("then"), items, **few)
    items.promote("other", require={"coverage": 1.0, "cka": -1.0}, sample=100, progress=True)
    items.measure_recall(3, 50, progress=True)
    shown = capsys.readouterr().err
    ends = {"compare": 4, "align": 4, "drift items": 8, "drift": 4, "promote items": 2}
    for what, total in {**ends, "measure_recall items": 50}.items():
        assert counts(shown, what)[-1] == (total, total), what


def test_an_alignment_of_few_rows_is_shown_to_its_end(hub, capsys, terminal):
    few = hub.create_space("few", DIMS, metric="l2", key_type="int")
    few.multiset(KEYS[:8], VECTORS[:8])
    ehub.align(few, few, k=8, progress=True)  # whose recall would need nine
    assert counts(capsys.readouterr().err, "align")[-1] == (4, 4)


def test_a_local_copy_shows_the_rows_that_it_moves(items, capsys, terminal):
    with items.download_snapshot(progress=True) as copy:
        items.set(1, VECTORS[7])
        copy.refresh(progress=True)
        copy.write_to_space("again", create=True, progress=True)
        copy.overwrite_space("items", progress=True)
    shown = capsys.readouterr().err
    for what in ("download_snapshot items", "write_to_space again", "overwrite_space items"):
        assert counts(shown, what)[-1] == (ROWS, ROWS), what
    assert counts(shown, "refresh items")[-1] == (1, 1)


def test_files_of_hnswlib_show_the_time_that_they_take(items, hub, tmp_path, capsys, terminal):
    hnswlib_io.save(items, tmp_path / "items.bin", progress=True)
    hnswlib_io.load(
        tmp_path / "items.bin", hub=hub, space="loaded", metric="l2", dims=DIMS, progress=True
    )
    shown = capsys.readouterr().err
    assert counts(shown, "optimize items")[-1][1] >= ROWS
    for what in ("save items: 00:", "load: reading: 00:", "load: storing loaded: 00:"):
        assert what in shown


def test_a_repair_shows_the_time_that_it_takes(tmp_path, capsys, terminal):
    with open_hub(tmp_path / "hub") as hub:
        hub.create_space("items", DIMS)
    ehub.repair(tmp_path / "hub", progress=True)
    assert "repair: 00:" in capsys.readouterr().err


# --- what looks from beside ---


def test_nothing_looks_where_nobody_sees_it(items, hub, capsys, monkeypatch):
    monkeypatch.setattr(InThread, "start", lambda *_: pytest.fail("a thread was started"))
    monkeypatch.setattr("ehub._progress.show", lambda *_: pytest.fail("a bar was drawn"))
    items.wait_indexed(progress=True)
    items.compact(progress=True)
    hub.verify(progress=True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    items.optimize()
    hub.checkpoint()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_looks_ends_with_the_call_however_that_ends(terminal, error):
    seen = []

    def work():
        with watched(True, "work"):
            seen.extend(watchers())
            raise error

    with pytest.raises(error):
        work()
    assert seen == ["ehub-progress"]
    assert watchers() == []


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
import ehub, ehub._progress

ehub._progress.is_terminal = lambda _: True
with ehub.open(sys.argv[1], durability="off") as hub:
    items = hub.create_space("items", dims=32, metric="l2", key_type="int")
    items.multiset(np.arange(60_000), np.random.default_rng(1).standard_normal((60_000, 32)))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        items.optimize(progress=True)
    except KeyboardInterrupt:
        print("interrupted", [one.name for one in threading.enumerate()])
"""


def test_what_looks_ends_when_somebody_interrupts_the_call(tmp_path):
    program = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "hub")]
    ended = subprocess.run(program, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("interrupted")
    assert "ehub-progress" not in ended.stdout
    assert "optimize items: " in ended.stderr


def test_what_looks_ends_with_a_call_that_is_refused(items, hub, capsys, terminal):
    gone = hub.create_space("gone", DIMS)
    hub.delete_space("gone")
    with pytest.raises(ehub.NotFoundError):
        gone.optimize(progress=True)
    hub.close()
    for call in (items.wait_indexed, items.compact, hub.verify, hub.checkpoint):
        with pytest.raises(ehub.ClosedError):
            call(progress=True)
    assert watchers() == []


def test_a_look_that_fails_leaves_the_work_alone(capsys, terminal):
    def looking():
        raise ehub.ClosedError("the hub is closed")

    with watched(True, "work", lambda: looking, "row"):
        time.sleep(0.5)
        assert watchers() == ["ehub-progress"]
    assert "work: 0.00 row" in capsys.readouterr().err


def test_a_last_look_that_takes_long_is_not_waited_for(capsys, terminal):
    over, ends = threading.Event(), threading.Event()

    def looking():
        if over.is_set():
            ends.wait(10)
        return 1, 2

    with watched(True, "work", lambda: looking, "row"):
        time.sleep(0.5)
        over.set()
        began = time.monotonic()
    assert time.monotonic() - began < 2
    ends.set()


def test_pruning_is_shown_in_objects_that_go(items, hub, tmp_path, capsys, terminal):
    hub.backup(tmp_path / "backups")
    items.delete_all()
    hub.checkpoint()
    hub.backup(tmp_path / "backups")
    pruned = ehub.prune_backups(tmp_path / "backups", keep_last=1, progress=True)
    seen = counts(capsys.readouterr().err, "prune_backups")[-1]
    assert seen == (1 + pruned.objects, 1 + pruned.objects)


def test_a_copy_that_a_space_is_asked_for_as_is_shown(items, hub, capsys, terminal):
    with hub.get_space("items", download_snapshot=True, progress=True) as copy:
        assert len(copy) == ROWS
    assert counts(capsys.readouterr().err, "download_snapshot items")[-1] == (ROWS, ROWS)


def test_a_bar_that_cannot_be_drawn_leaves_the_work_and_other_bars_alone(monkeypatch, terminal):
    """What draws from beside does not end with the lock that all bars wait for."""

    def fails_beside(*_, **__):
        if threading.current_thread().name == "ehub-progress":
            raise OSError("no space left on device")
        return True

    monkeypatch.setattr("tqdm.std.tqdm.display", fails_beside)
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)

    def work():
        with watched(True, "work"):
            time.sleep(0.5)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(10)
    assert not worker.is_alive()
    assert failures == []


def test_a_look_that_hangs_does_not_hold_up_the_call(capsys, terminal):
    begun, over = threading.Event(), threading.Event()

    def looking():
        if threading.current_thread().name == "ehub-progress":
            begun.set()
            over.wait(60)
        return 1, 1

    with watched(True, "work", lambda: looking, "row"):
        assert begun.wait(60)
    assert not over.is_set()
    over.set()
    for one in threading.enumerate():
        if one.name == "ehub-progress":
            one.join(10)
    assert watchers() == []


# --- commands ---


def test_commands_that_take_long_show_the_bars_of_their_calls(hub, items, tmp_path, cli, terminal):
    items.tag("then")
    items.create_version("other").multiset(KEYS, VECTORS[::-1])
    items.multidelete(KEYS[::2])
    hub.close()
    path = tmp_path / "hub"
    few = ("-k", 3, "--sample", 50)
    for title, command in {
        "verify: ": ("verify", path),
        "compact items: 24.0k row": ("compact", path),  # half of them for the tag
        "compare: 100%": ("compare", path, "items", "initial", "other", *few),
        "drift items: 100%": ("drift", path, "items", "then", *few),
        "promote items: 100%": ("promote", path, "items", "other", "--require", "cka=-1"),
        "erase items: ": ("erase", path, "items", "1", "--yes"),
        "repair: 00:": ("repair", path, "--yes"),
    }.items():
        outcome = cli(*command)
        assert outcome.code == 0, outcome
        assert title in outcome.err, command
