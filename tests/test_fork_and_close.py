"""Misuse of lifetimes: after close, fork or deletion, in any order, is an error or is fine."""

from __future__ import annotations

import gc
import importlib
import inspect
import multiprocessing
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from obstore.store import MemoryStore

import ehub

DIMS = 2

# What says something about a handle and asks nothing of the store.
INNOCENT = {
    "name",
    "space",
    "dims",
    "metric",
    "key_type",
    "hub",
    "path",
    "read_only",
    "closed",
    "close",
}

HUB_CALLS: dict[str, Callable[[ehub.Hub], object]] = {
    "create_space": lambda hub: hub.create_space("more", dims=2),
    "get_space": lambda hub: hub.get_space("items"),
    "spaces": lambda hub: hub.spaces(),
    "delete_space": lambda hub: hub.delete_space("items"),
    "save": lambda hub: hub.save(),
    "checkpoint": lambda hub: hub.checkpoint(),
    "backup": lambda hub: hub.backup(MemoryStore()),
    "finish_erasures": lambda hub: hub.finish_erasures(),
    "refresh": lambda hub: hub.refresh(),
    "verify": lambda hub: hub.verify(),
    "info": lambda hub: hub.info(),
    "__contains__": lambda hub: "items" in hub,
    "__iter__": lambda hub: list(hub),
    "__len__": lambda hub: len(hub),
}

SPACE_CALLS: dict[str, Callable[[ehub.Space], object]] = {
    "get": lambda space: space.get("a"),
    "set": lambda space: space.set("a", [1, 2]),
    "delete": lambda space: space.delete("a"),
    "multiget": lambda space: space.multiget(["a"]),
    "multiset": lambda space: space.multiset({"a": [1, 2]}),
    "multidelete": lambda space: space.multidelete(["a"]),
    "delete_all": lambda space: space.delete_all(),
    "average": lambda space: space.average(["a"]),
    "multi_average": lambda space: space.multi_average({"g": ["a"]}),
    "create_average": lambda space: space.create_average("profile"),
    "averages": lambda space: space.averages(),
    "delete_average": lambda space: space.delete_average("profile"),
    "create_subindex": lambda space: space.create_subindex("few", keys=["a"]),
    "subindex": lambda space: space.subindex("few"),
    "subindices": lambda space: space.subindices(),
    "drop_subindex": lambda space: space.drop_subindex("few"),
    "drop_partition": lambda space: space.drop_partition("us"),
    "erasure_plan": lambda space: space.erasure_plan(["a"]),
    "erase": lambda space: space.erase(["a"]),
    "partition_averages": lambda space: space.partition_averages(),
    "kmeans": lambda space: space.kmeans(1),
    "recommend": lambda space: space.recommend(1, positive=["a"]),
    "partition": lambda space: space.partition("us").keys(),
    "scan": lambda space: list(space.scan()),
    "iterator": lambda space: list(space.iterator()),
    "keys": lambda space: space.keys(),
    "to_numpy": lambda space: space.to_numpy(),
    "to_arrow": lambda space: space.to_arrow(),
    "to_arrow_batches": lambda space: space.to_arrow_batches(),
    "nearest_neighbors": lambda space: space.nearest_neighbors(1, vector=[1, 2]),
    "multi_nearest_neighbors": lambda space: space.multi_nearest_neighbors(1, keys=["a"]),
    "partitions": lambda space: space.partitions(),
    "stats": lambda space: space.stats(),
    "compact": lambda space: space.compact(),
    "wait_indexed": lambda space: space.wait_indexed(),
    "optimize": lambda space: space.optimize(),
    "index_stats": lambda space: space.index_stats(),
    "measure_recall": lambda space: space.measure_recall(),
    "download_snapshot": lambda space: space.download_snapshot(),
    "to_torch_dataset": lambda space: space.to_torch_dataset(),
    "snapshot": lambda space: space.snapshot(),
    "snapshots": lambda space: space.snapshots(),
    "expire_snapshots": lambda space: space.expire_snapshots(keep_last=1),
    "tag": lambda space: space.tag("then"),
    "untag": lambda space: space.untag("then"),
    "tags": lambda space: space.tags(),
    "at": lambda space: space.at("then"),
    "restore": lambda space: space.restore("then"),
    "fork": lambda space: space.fork("other"),
    "diff": lambda space: space.diff("then"),
    "drift": lambda space: space.drift("tag"),
    "freeze": lambda space: space.freeze(),
    "frozen": lambda space: space.frozen,
    "model": lambda space: space.model,
    "lineage": lambda space: space.lineage,
    "created": lambda space: space.created,
    "current": lambda space: len(space.current),
    "version": lambda space: space.version("initial"),
    "versions": lambda space: space.versions(),
    "create_version": lambda space: space.create_version("other"),
    "delete_version": lambda space: space.delete_version("other"),
    "alias": lambda space: space.alias("prod", "initial"),
    "aliases": lambda space: space.aliases(),
    "unalias": lambda space: space.unalias("prod"),
    "promote": lambda space: space.promote("initial"),
    "rollback": lambda space: space.rollback(),
    "migrate": lambda space: space.migrate("initial", "other"),
    "compare": lambda space: space.compare("initial", "initial"),
    "align": lambda space: space.align("initial", "initial"),
    "__contains__": lambda space: "a" in space,
    "__len__": lambda space: len(space),
    "__iter__": lambda space: list(space),
    "__getitem__": lambda space: space["a"],
    "__setitem__": lambda space: space.__setitem__("a", [1, 2]),
    "__delitem__": lambda space: space.__delitem__("a"),
}


def calls_of(kind: type) -> set[str]:
    """The names of everything that a class lets one ask, but for what is innocent."""
    protocols = {"__contains__", "__iter__", "__len__", "__getitem__", "__setitem__", "__delitem__"}
    names = {name for name, _ in inspect.getmembers(kind)}
    return {name for name in names if not name.startswith("_") or name in protocols} - INNOCENT


def opened(path: os.PathLike[str]) -> tuple[ehub.Hub, ehub.Space]:
    hub = ehub.open(path)
    items = hub.create_space("items", dims=DIMS, metric="l2")
    items.multiset({"a": [1, 2], "b": [3, 4]})
    return hub, items


def test_every_call_is_tried_here():
    assert set(HUB_CALLS) == calls_of(ehub.Hub)
    assert set(SPACE_CALLS) == calls_of(ehub.Space)


# --- after close ---


@pytest.mark.parametrize("name", HUB_CALLS)
def test_a_closed_hub_answers_no_call(tmp_path, name):
    hub, _ = opened(tmp_path)
    hub.close()
    with pytest.raises(ehub.ClosedError):
        HUB_CALLS[name](hub)


@pytest.mark.parametrize("name", SPACE_CALLS)
def test_a_space_of_a_closed_hub_answers_no_call(tmp_path, name):
    hub, items = opened(tmp_path)
    hub.close()
    with pytest.raises(ehub.ClosedError):
        SPACE_CALLS[name](items)
    assert (items.name, items.dims, items.metric, items.key_type) == ("items", 2, "l2", "str")
    assert items.hub is hub
    assert "items" in repr(items)


def test_closing_twice_is_fine(tmp_path):
    hub, _ = opened(tmp_path)
    hub.close()
    hub.close()
    with hub:
        assert hub.closed
    ehub.open(tmp_path).close()


def test_an_error_within_the_with_statement_comes_out_and_closes(tmp_path):
    with pytest.raises(ZeroDivisionError), ehub.open(tmp_path) as hub:
        raise ZeroDivisionError
    assert hub.closed


def test_a_hub_that_is_dropped_is_closed(tmp_path):
    hub, items = opened(tmp_path)
    watched = weakref.ref(hub)
    del hub
    gc.collect()
    assert items.get("a").tolist() == [1, 2]  # the space keeps its hub
    del items
    gc.collect()
    assert watched() is None
    with ehub.open(tmp_path) as hub:
        assert len(hub.get_space("items")) == 2


def test_an_iterator_keeps_its_hub_open_when_nobody_else_does(tmp_path):
    hub, items = opened(tmp_path)
    keys = iter(items)
    del hub, items
    gc.collect()
    assert sorted(keys) == ["a", "b"]


def test_a_hub_may_be_closed_while_threads_use_it(tmp_path):
    hub = ehub.open(tmp_path)
    items = hub.create_space("items", dims=64, metric="l2", key_type="int")
    items.multiset(np.arange(5000), np.random.default_rng(0).random((5000, 64)))
    hub.checkpoint()
    begun = threading.Barrier(5)
    strays: list[BaseException] = []

    def use(call: Callable[[], object]) -> None:
        begun.wait()
        try:
            while True:
                call()
        except ehub.ClosedError:
            pass
        except BaseException as error:
            strays.append(error)

    calls = [
        lambda: items.multiget(np.arange(1000)),
        lambda: list(items.scan(100)),
        lambda: items.nearest_neighbors(10, vector=np.ones(64)),
        lambda: items.set(1, np.ones(64)),
    ]
    threads = [threading.Thread(target=use, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    begun.wait()
    hub.close()
    for thread in threads:
        thread.join()
    assert strays == []
    with ehub.open(tmp_path) as hub:
        assert hub.verify().ok


def test_a_compaction_under_way_when_the_hub_closes_writes_no_more(tmp_path):
    """As one that goes on after its caller was interrupted."""
    random = np.random.default_rng(1)
    vectors = random.standard_normal((4_000, 32), np.float32)
    ended = set()

    def compact(space):
        try:
            space.compact()
            ended.add("done")
        except ehub.ClosedError:
            ended.add("closed")

    def files():
        return sorted(path.name for path in tmp_path.rglob("*"))

    with ehub.open(tmp_path / "hub") as hub:
        hub.create_space("s", 32, metric="l2", key_type="int")
    for _ in range(60):
        hub = ehub.open(tmp_path / "hub", durability="off")
        space = hub.get_space("s")
        for begin in range(0, 4_000, 1_000):
            space.multiset(np.arange(begin, begin + 1_000), vectors[begin : begin + 1_000])
        thread = threading.Thread(target=compact, args=(space,))
        thread.start()
        time.sleep(random.uniform(0, 0.02))
        hub.close()
        left = files()
        thread.join()
        assert files() == left
    assert "closed" in ended
    with ehub.open(tmp_path / "hub") as hub:
        assert len(hub.get_space("s")) == 4_000
        assert hub.verify().findings == ()


# --- after deletion ---


@pytest.mark.parametrize("name", SPACE_CALLS)
def test_a_deleted_space_answers_no_call(tmp_path, name):
    hub, items = opened(tmp_path)
    with hub:
        hub.delete_space("items")
        with pytest.raises(ehub.NotFoundError, match="items"):
            SPACE_CALLS[name](items)


# --- after fork ---


def in_child(work: Callable[[], str]) -> str:
    """What `work` says in a forked child."""
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads do not follow
        pid = os.fork()
    if pid == 0:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(sender, said.encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return said


def test_every_call_in_a_forked_child_is_an_error(tmp_path):
    hub, items = opened(tmp_path)

    def try_all() -> str:
        unrefused = []
        for name, call in [*HUB_CALLS.items(), *SPACE_CALLS.items()]:
            try:
                call(hub if name in HUB_CALLS and call is HUB_CALLS[name] else items)
            except ehub.ClosedError:
                continue
            except Exception as error:
                unrefused.append(f"{name}: {error!r}")
            else:
                unrefused.append(name)
        hub.close()
        return f"{unrefused} {hub.closed}"

    with hub:
        assert in_child(try_all) == "[] True"
        assert items.get("a").tolist() == [1, 2]
        items.set("c", [5, 6])
    with ehub.open(tmp_path) as hub:
        assert hub.verify().ok
        assert sorted(hub.get_space("items")) == ["a", "b", "c"]


def test_a_child_that_lets_go_of_the_hub_leaves_the_parent_its_lock(tmp_path):
    hub, items = opened(tmp_path)
    held = [hub, items]

    def let_go() -> str:
        nonlocal hub, items
        del hub, items
        held.clear()
        gc.collect()
        return "gone"

    with hub:
        assert in_child(let_go) == "gone"
        with pytest.raises(ehub.LockedError):
            ehub.open(tmp_path)
        items.set("c", [5, 6])
        assert len(items) == 3


def test_a_child_may_open_the_hub_for_reading(tmp_path):
    hub, _ = opened(tmp_path)

    def read() -> str:
        with ehub.open(tmp_path, read_only=True) as reader:
            return str(sorted(reader.get_space("items")))

    with hub:
        assert in_child(read) == "['a', 'b']"


# A spawned worker imports the function that it is to run, and cannot import this file.
POOL_READER = """
import ehub

def read(path):
    with ehub.open(path, read_only=True) as reader:
        return sorted(reader.get_space("items"))
"""


def test_spawned_workers_read_beside_the_writer(tmp_path, monkeypatch):
    (tmp_path / "pool_reader.py").write_text(POOL_READER)
    monkeypatch.syspath_prepend(tmp_path)
    read = importlib.import_module("pool_reader").read
    hub, items = opened(tmp_path / "hub")
    with hub, multiprocessing.get_context("spawn").Pool(2) as pool:
        read_keys = pool.map_async(read, [hub.path] * 3).get(timeout=60)
        assert read_keys == [["a", "b"]] * 3
        assert len(items) == 2


def test_arrays_that_came_before_a_fork_are_good_in_the_child(tmp_path):
    hub, items = opened(tmp_path)
    with hub:
        [(keys, vectors)] = items.scan()
        order = np.argsort(keys)
        assert in_child(lambda: str(vectors[order].tolist())) == "[[1.0, 2.0], [3.0, 4.0]]"
