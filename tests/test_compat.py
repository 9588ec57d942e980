"""A program of the first Embeddinghub, word for word, does what it was promised."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import in_a_program_of_its_own

import ehub
from ehub.dataset import RowDataset
from ehub.hub import _open_stores


def test_an_old_program_runs(tmp_path):
    hub = ehub.connect(ehub.LocalConfig(str(tmp_path)))
    space = hub.create_space("quickstart", dims=3)
    embeddings = {
        "apple": [1, 0, 0],
        "orange": [1, 1, 0],
        "potato": [0, 1, 0],
        "chicken": [-1, -1, 0],
    }
    space.multiset(embeddings)
    assert space.get("apple").tolist() == [1, 0, 0]
    assert [key for key, _ in space.nearest_neighbors(num=2, key="apple")] == ["orange", "potato"]
    assert space.nearest_neighbors(2, vector=[0, 2, 0]).keys.tolist() == ["potato", "orange"]
    space.set("grape", [0, 0, 1])
    space.delete("chicken")
    assert [list(vector) for vector in space.multiget(["grape", "apple"])] == [[0, 0, 1], [1, 0, 0]]
    space.multidelete(["grape"])
    found = space.multi_nearest_neighbors(1, keys=["apple", "potato"])
    assert [neighbors.keys[0] for neighbors in found] == ["orange", "orange"]
    found = space.multi_nearest_neighbors(1, vectors=[[2, 0, 0], [0, 2, 0]])
    assert [neighbors.keys[0] for neighbors in found] == ["apple", "potato"]
    assert {key for key, _ in space.iterator()} == {"apple", "orange", "potato"}
    hub.save()
    hub.close()

    with ehub.connect(ehub.LocalConfig(directory=tmp_path)) as hub:
        space = hub.get_space("quickstart", download_snapshot=False)
        space.multiset(iter([("kiwi", np.ones(3))]))
        assert len(space) == 4
        space.delete_all()
        assert len(space) == 0
        hub.delete_space("quickstart")
        assert hub.spaces() == []


# What programs of 2021 call, with the arguments that they may give by place or by name.
OLD_ROWS = {
    "set": ["key", "vector"], "get": ["key"], "multiset": ["keys"], "multiget": ["keys"],
    "delete": ["key"], "multidelete": ["keys"], "delete_all": [], "iterator": [],
    "nearest_neighbors": ["num"], "multi_nearest_neighbors": ["num"], "download_snapshot": [],
    "freeze": [],
}  # fmt: skip
OLD_CALLS: dict[type, dict[str, list[str]]] = {
    ehub.Hub: {
        "create_space": ["name", "dims"], "get_space": ["name", "download_snapshot"],
        "delete_space": ["name"], "save": [], "close": [], "__enter__": [],
    },
    ehub.Space: OLD_ROWS,
    ehub.LocalCopy: OLD_ROWS
    | {"refresh": ["wait"], "write_to_space": ["name", "create"], "overwrite_space": ["name"]},
    ehub.LocalConfig: {"__init__": ["directory"]},
    ehub.Config: {"__init__": ["host", "port"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", list(OLD_CALLS), ids=lambda kind: kind.__name__)
def test_calls_of_old_have_their_names_and_arguments(kind):
    for call, wanted in OLD_CALLS[kind].items():
        taken = list(inspect.signature(getattr(kind, call)).parameters)[1:]
        assert taken[: len(wanted)] == wanted, call
    for call in ("nearest_neighbors", "multi_nearest_neighbors") if "freeze" in dir(kind) else ():
        taken = set(inspect.signature(getattr(kind, call)).parameters)
        plural = "s" if call.startswith("multi") else ""
        assert {f"key{plural}", f"vector{plural}"} <= taken


def test_the_old_defaults_hold():
    assert ehub.Config() == ehub.Config("localhost", 7462)


def test_a_frozen_space_of_old_is_read_and_not_written(tmp_path):
    hub = ehub.connect(ehub.LocalConfig(str(tmp_path)))
    space = hub.create_space("quickstart", dims=3)
    space.multiset({"apple": [1, 0, 0]})
    space.freeze()
    with pytest.raises(ehub.FrozenError):
        space.set("apple", [0, 0, 0])
    hub.close()
    with ehub.connect(ehub.LocalConfig(str(tmp_path))) as hub:
        with pytest.raises(ehub.FrozenError):
            hub.get_space("quickstart").delete("apple")
        assert hub.get_space("quickstart").get("apple").tolist() == [1, 0, 0]


def test_a_server_that_is_not_there_is_an_error_that_says_where_it_was_sought():
    with pytest.raises(ehub.UnavailableError, match=r"127\.0\.0\.1:1'") as failed:
        ehub.connect(ehub.Config("127.0.0.1", 1), retry_seconds=0)
    assert isinstance(failed.value, ConnectionError)


def test_a_directory_is_no_address():
    with pytest.raises(ehub.InvalidArgumentError, match=r"ehub\.open"):
        ehub.connect("data/")


def test_connect_takes_a_config():
    for wrong in (None, 7462):
        with pytest.raises(TypeError, match="LocalConfig"):
            ehub.connect(wrong)


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset({"a": [1, 0], "b": [0, 1]})
        items.multiset({"c": [5, 5]}, partition="far")
        yield hub


def rows(view) -> dict:
    keys, vectors = view.to_numpy()
    return dict(zip(keys.tolist(), vectors.tolist(), strict=True))


ROWS = {"a": [1, 0], "b": [0, 1], "c": [5, 5]}


@pytest.mark.parametrize("way", ["get_space", "download_snapshot"])
def test_a_training_loop_of_old_runs(hub, way):
    space = hub.get_space("items")
    if way == "get_space":
        local = hub.get_space("items", download_snapshot=True)
    else:
        local = space.download_snapshot()
    with local:
        assert rows(local) == ROWS
        assert local.nearest_neighbors(1, key="a").keys.tolist() == ["b"]
        local.set("a", [7, 7])
        local.delete("b")
        local.multiset({"d": [9, 9]})
        assert rows(space) == ROWS
        space.set("e", [3, 3])
        assert "e" not in local
        local.write_to_space("trained", create=True)
        assert rows(hub.get_space("trained")) == {"a": [7, 7], "c": [5, 5], "d": [9, 9]}
        local.overwrite_space("items")
        assert rows(space) == {"a": [7, 7], "c": [5, 5], "d": [9, 9]}


def test_a_local_copy_keeps_partitions_metric_keys_and_model(hub):
    model = ehub.Model(provider="us", name="m", dims=3, metric="ip")
    space = hub.create_space("numbers", key_type="int", model=model)
    space.multiset([1, 2, 3], np.eye(3), partition=["x", "y", "x"])
    with space.download_snapshot() as local:
        assert (local.dims, local.metric, local.key_type) == (3, "ip", "int")
        assert local.model == model
        assert local.partitions() == {"x": 2, "y": 1}
        with pytest.raises(ehub.ModelMismatchError):
            local.set(1, [1, 1, 1], model=ehub.Model(name="other"))
    with hub.get_space("items").download_snapshot() as local:
        assert local.partitions() == {"far": 1}
        assert rows(local.partition("far")) == {"c": [5, 5]}


def test_refresh_makes_a_local_copy_what_its_source_is_now(hub):
    space = hub.get_space("items")
    with space.download_snapshot() as local:
        before = local.snapshot()
        local.set("mine", [1, 1])
        space.delete("a")
        for wait in (True, False):
            space.set("now", [int(wait), 2])
            local.refresh(wait=wait).result()
            assert rows(local) == {"b": [0, 1], "c": [5, 5], "now": [int(wait), 2]}
        assert local.versions() == ["2"]
        before.close()


@pytest.mark.parametrize("some", [1, 3])  # of three rows: less than half of them, and more
def test_a_copy_or_a_refresh_that_fails_holds_nothing(hub, monkeypatch, tmp_path, some):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    space = hub.get_space("items")

    def fail(*_):
        raise RuntimeError("cut short")

    with space.download_snapshot() as local:
        space.multiset({key: [8, 8] for key in "abc"[:some]})
        with monkeypatch.context() as failing:
            for name in ("copy_rows", "bring_keys"):
                failing.setattr(f"ehub.local_copy.{name}", fail)
            # Who has the errors has their frames.
            with pytest.raises(RuntimeError) as of_copy:
                space.download_snapshot()
            with pytest.raises(RuntimeError) as of_refresh:
                local.refresh()
        assert local.versions() == ["initial"]
        assert space.erasure_plan(["c"]).versions[0].snapshots == 0  # the copy lets go for it
        still_open = {one.path for one in _open_stores if not one.closed}
        here = {path for path in still_open if path.startswith(str(tmp_path))}
        assert here == {hub.path, local.hub.path}
        assert [str(path) for path in (tmp_path / "copies").iterdir()] == [local.hub.path]
        local.refresh()
        assert rows(local) == rows(space)
        assert local.versions() == ["1"]
    del of_copy, of_refresh


def test_refresh_copies_only_the_rows_that_differ(hub, monkeypatch):
    space = hub.get_space("items")
    space.multiset({f"k{i}": [i, 1] for i in range(100)})
    with space.download_snapshot() as local, space.partition("far").download_snapshot() as far:
        monkeypatch.setattr("ehub.local_copy.copy_rows", None)
        space.multiset({"a": [2, 2]}, partition="far")
        space.multiset({"c": [6, 6]})
        space.multidelete(["b", "k7"])
        local.multiset({"a": [9, 9], "k8": [9, 9], "mine": [9, 9]})
        local.multidelete(["k9"])
        local.refresh()
        assert rows(local) == rows(space)
        assert local.partitions() == {"far": 1}
        monkeypatch.undo()
        far.refresh()
        assert rows(far) == {"a": [2, 2]}


def test_a_copy_does_not_stand_in_the_way_of_an_erasure(hub):
    space = hub.get_space("items")
    with space.download_snapshot() as local:
        assert space.erasure_plan(["a"]).blockers == ()
        assert space.erase(["a"]).complete
        assert "a" in local
        space.set("b", [7, 7])
        local.refresh()
        assert rows(local) == {"b": [7, 7], "c": [5, 5]}
        space.delete("c")
        local.refresh()
        assert rows(local) == {"b": [7, 7]}


operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "move", "delete", "local", "forget", "tag", "restore", "refresh"]),
        st.sampled_from("abcdef"),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=operations)
def test_a_refreshed_copy_is_its_source_whatever_was_done_to_both(tmp_path_factory, operations):
    with ehub.open(tmp_path_factory.mktemp("hub"), durability="off") as hub:
        space = hub.create_space("items", dims=2, metric="l2")
        space.multiset({key: [0, 0] for key in "abcdefgh"})
        space.tag("first")
        with space.download_snapshot() as local:
            for what, key, value in [*operations, ("refresh", "", 0)]:
                if what == "set":
                    space.set(key, [value, 1])
                elif what == "move":
                    space.set(key, [value, 2], partition=f"p{value % 2}")
                elif what == "delete":
                    space.multidelete([key])
                elif what == "local":
                    local.set(key, [value, 3])
                elif what == "forget":
                    local.multidelete([key])
                elif what == "tag":
                    space.untag("first")
                    space.tag("first")
                elif what == "restore":
                    space.restore("first")
                else:
                    local.refresh()
                    assert rows(local) == rows(space)
                    for name in ("p0", "p1"):
                        inside = set(local.partition(name)) if name in local.partitions() else set()
                        there = set(space.partition(name)) if name in space.partitions() else set()
                        assert inside == there


@pytest.mark.parametrize("large", [False, True], ids=["log", "file"])
def test_overwriting_a_space_is_one_batch_of_what_differs(hub, large):
    space = hub.get_space("items")
    if large:  # more than what the log takes
        space.multiset({f"k{i}": [i, 0] for i in range(60_000)})
    with space.download_snapshot() as local:
        changed = {f"k{i}": [i, 2] for i in range(50_000)} if large else {}
        local.multiset({"b": [8, 8], **changed})
        local.multiset({"a": [1, 0], "new": [3, 3]}, partition="near")
        local.multiset({"c": [5, 5]})
        local.delete("k59999") if large else None
        space.multiset({"d": [4, 4], "e": [4, 4]})
        before = hub.info().seq
        assert local.overwrite_space("items") == len(local)
        assert hub.info().seq == before + 1
        assert rows(space) == rows(local)
        assert space.partitions() == {"near": 2}
        assert set(space.partition("near")) == {"a", "new"}
        with space.snapshot() as then:
            assert local.overwrite_space("items") == len(local)
            assert then.seq == hub.info().seq == before + 1
    expected = rows(space)
    hub.close()
    with ehub.open(hub.path) as again:
        assert rows(again.get_space("items")) == expected


def test_a_batch_does_not_set_and_delete_one_key(hub):
    space = hub.get_space("items")
    keys, both = (space._pack(["x", "a"]) for _ in range(2))
    with pytest.raises(ehub.InvalidArgumentError, match="to set and to delete"):
        space._table.multiset(keys, np.ones((2, 2), np.float32), gone=both)
    assert rows(space) == ROWS


def test_refresh_follows_the_default_version(hub):
    space = hub.get_space("items")
    with space.download_snapshot() as local:
        space.create_version("wide", dims=4).set("a", [1, 2, 3, 4])
        space.promote("wide")
        local.refresh()
        assert (local.dims, rows(local)) == (4, {"a": [1, 2, 3, 4]})


def test_any_view_gives_a_local_copy(hub):
    space = hub.get_space("items")
    with space.snapshot() as then:
        space.delete_all()
        with then.download_snapshot() as local:
            assert rows(local) == ROWS
            local.overwrite_space("items")
    assert rows(space) == ROWS
    with space.partition("far").download_snapshot() as local:
        assert rows(local) == {"c": [5, 5]}


def test_what_cannot_be_written_back_is_an_error_that_says_why(hub):
    space = hub.get_space("items")
    hub.create_space("wide", dims=3)
    with space.download_snapshot() as local:
        with pytest.raises(ehub.NotFoundError):
            local.write_to_space("missing")
        with pytest.raises(ehub.NotFoundError):
            local.overwrite_space("missing")
        with pytest.raises(ehub.DimensionError):
            local.write_to_space("wide")
        space.freeze()
        with pytest.raises(ehub.FrozenError):
            local.overwrite_space("items")
        assert rows(space) == rows(local) == ROWS


def test_a_local_copy_is_deleted_when_it_ends(hub):
    local = hub.get_space("items").download_snapshot()
    path = Path(local.hub.path)
    assert path.is_dir()
    local.close()
    local.close()
    assert not path.exists()
    local = hub.get_space("items").download_snapshot()
    path = Path(local.hub.path)
    del local
    assert not path.exists()


def read_in_a_worker(local) -> dict:
    local.refresh()
    return rows(local)


def read_through_a_handle(path: str, start: str) -> None:
    with ehub.open(path) as hub, hub.get_space("items").download_snapshot() as local:
        local.set("a", [4, 4])
        handle = pickle.dumps(local)
        assert len(handle) < 1000
        with multiprocessing.get_context(start).Pool(1) as pool:
            assert pool.apply(read_in_a_worker, (local,)) == ROWS | {"a": [4, 4]}
    with pytest.raises(ehub.NotFoundError, match="closed"):
        pickle.loads(handle)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_reads_the_copy_through_a_pickled_handle(hub, start):
    hub.close()
    in_a_program_of_its_own(read_through_a_handle, hub.path, start)


def test_a_handle_of_a_copy_does_not_write(hub):
    with hub.get_space("items").download_snapshot() as local:
        handle = pickle.loads(pickle.dumps(local))
        with pytest.raises(ehub.ReadOnlyError):
            handle.set("a", [0, 0])
        with pytest.raises(ehub.ReadOnlyError):
            handle.write_to_space("items")
        handle.close()
        assert rows(local) == ROWS


def read_dataset(dataset) -> list:
    return [(key, vector.tolist()) for key, vector in dataset.__getitems__(list(range(3)))]


def read_a_dataset_in_workers(path: str, start: str) -> None:
    with ehub.open(path) as hub, hub.get_space("items").download_snapshot() as local:
        dataset = RowDataset(local, np.asarray)
        local.set("a", [4, 4])
        local.refresh()
        local.delete_all()
        assert dict(read_dataset(dataset)) == ROWS
        with multiprocessing.get_context(start).Pool(1) as pool:
            assert dict(pool.apply(read_dataset, (dataset,))) == ROWS
        assert len(dataset) == 3
        assert dataset[2][0] == dataset[-1][0]
        del dataset
        local.refresh()
        assert local.versions() == ["2"]  # what nobody reads any more goes


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_dataset_stays_what_it_was_in_every_worker(hub, start):
    hub.close()
    in_a_program_of_its_own(read_a_dataset_in_workers, hub.path, start)


def test_torch_loads_a_copy_with_workers(hub):
    torch = pytest.importorskip("torch")
    with hub.get_space("items").download_snapshot() as local:
        loader = torch.utils.data.DataLoader(local.to_torch_dataset(), batch_size=2, num_workers=1)
        batches = list(loader)
    assert sorted(key for keys, _ in batches for key in keys) == ["a", "b", "c"]


def test_without_torch_the_error_says_so(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with (
        hub.get_space("items").download_snapshot() as local,
        pytest.raises(ehub.UnavailableError, match="torch"),
    ):
        local.to_torch_dataset()
