"""A dataset is the rows of a moment, in whatever process it is read; nothing is copied for it."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import in_a_program_of_its_own

import ehub
from ehub.dataset import RowDataset

ROWS = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [5.0, 5.0]}

VIEWS: dict[str, Callable[[ehub.Space], Any]] = {
    "space": lambda space: space,
    "version": lambda space: space.current,
    "snapshot": lambda space: space.snapshot(),
    "tag": lambda space: space.at("then"),
    "recorded": lambda space: space.snapshot("why"),
    "partition": lambda space: space.partition("far"),
    "subindex": lambda space: space.create_subindex("some", keys=["a", "c", "nobody"]),
}
KEYS = {"partition": {"c"}, "subindex": {"a", "c"}}


def made(path: Path | str) -> None:
    """A hub with a few rows."""
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset({"a": [1, 0], "b": [0, 1], "gone": [9, 9]})
        items.delete("gone")
        items.multiset({"c": [5, 5]}, partition="far")
        items.tag("then")


def contents(dataset: RowDataset) -> dict:
    pairs = dataset.__getitems__(list(range(len(dataset))))
    return {key: vector.tolist() for key, vector in pairs}


def rows_in_a_worker(view: ehub.Snapshot) -> dict:
    keys, vectors = view.to_numpy()
    return dict(zip(keys.tolist(), vectors.tolist(), strict=True))


def read_in_workers(path: str, start: str) -> None:
    """Read datasets of all kinds in a process that is started when all the rows are others."""
    with ehub.open(path) as hub:
        items = hub.get_space("items")
        datasets = {name: RowDataset(view(items), np.asarray) for name, view in VIEWS.items()}
        tagged = items.at("then")
        items.delete_all()
        items.multiset({"a": [7, 7], "d": [7, 7]}, partition="far")
        items.compact()
        hub.checkpoint()
        with multiprocessing.get_context(start).Pool(1) as pool:
            for name, dataset in datasets.items():
                expected = {key: ROWS[key] for key in KEYS.get(name, set(ROWS))}
                assert contents(dataset) == expected, name
                assert pool.apply(contents, (dataset,)) == expected, name
            assert pool.apply(rows_in_a_worker, (tagged,)) == ROWS
        inherited = multiprocessing.get_context(start).Process(
            target=exits_well_if_right, args=(datasets["space"], ROWS)
        )
        inherited.start()
        inherited.join(60)
        assert inherited.exitcode == 0


def exits_well_if_right(dataset: RowDataset, expected: dict) -> None:
    if contents(dataset) != expected:
        raise SystemExit(1)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_views_of_all_kinds_are_read_in_workers_as_they_were(tmp_path, start):
    made(tmp_path)
    in_a_program_of_its_own(read_in_workers, str(tmp_path), start)


def test_what_is_recorded_for_a_dataset_goes_with_it(tmp_path):
    made(tmp_path)
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        dataset = RowDataset(items, np.asarray)
        assert [tag.is_named for tag in items.snapshots()] == [False]
        assert len(RowDataset(items.at("then"), np.asarray)) == 3
        assert [tag.name for tag in items.tags()] == ["then"]
        clone = pickle.loads(pickle.dumps(dataset))
        assert contents(clone) == contents(dataset) == ROWS
        del clone
        gc.collect()
        assert len(items.snapshots()) == 1
        del dataset
        gc.collect()
        assert items.snapshots() == []


def test_a_dataset_outlives_an_expiry_in_its_own_process(tmp_path):
    made(tmp_path)
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        dataset = RowDataset(items, np.asarray)
        items.expire_snapshots(keep_last=0)
        items.delete_all()
        items.compact()
        assert contents(dataset) == ROWS
        with pytest.raises(ehub.NotFoundError, match="@1"):
            contents(pickle.loads(pickle.dumps(dataset)))


def test_a_hub_that_only_reads_gives_datasets_of_tags_to_other_processes(tmp_path):
    made(tmp_path)
    with ehub.open(tmp_path, read_only=True) as hub:
        items = hub.get_space("items")
        dataset = RowDataset(items, np.asarray)
        assert contents(dataset) == ROWS
        with pytest.raises(ehub.ReadOnlyError, match=r"at\(tag\)"):
            contents(pickle.loads(pickle.dumps(dataset)))
        tagged = RowDataset(items.at("then"), np.asarray)
        assert contents(pickle.loads(pickle.dumps(tagged))) == ROWS


def test_a_tagged_snapshot_is_pickled_as_where_it_is(tmp_path):
    made(tmp_path)
    with ehub.open(tmp_path) as hub:
        items = hub.get_space("items")
        with items.at("then") as then:
            pickled = pickle.dumps(then)
        assert len(pickled) < 500
        items.set("a", [8, 8])
        items.tag("later")
        again, later = pickle.loads(pickled), pickle.loads(pickle.dumps(items.at("later")))
        assert rows_in_a_worker(again) == ROWS
        assert rows_in_a_worker(later)["a"] == [8.0, 8.0]
        assert again.version.hub is later.version.hub
        items.untag("then")
        with pytest.raises(ehub.NotFoundError, match="then"):
            pickle.loads(pickled)


def test_what_has_no_rows_of_its_own_is_refused(tmp_path):
    made(tmp_path)
    with ehub.open(tmp_path) as hub:
        averages = hub.get_space("items").create_average("means", {"g": ["a", "b"]})
        with pytest.raises(ehub.InvalidArgumentError, match="download_snapshot"):
            RowDataset(averages, np.asarray)
        with averages.download_snapshot() as local:
            assert contents(RowDataset(local, np.asarray)) == {"g": [0.5, 0.5]}


def load_with_torch(path: str, start: str) -> None:
    """Two workers load the rows of a tag and of a space that is written meanwhile."""
    import torch

    with ehub.open(path) as hub:
        items = hub.get_space("items")
        for view in (items, items.at("then"), items.partition("far")):
            dataset = view.to_torch_dataset()
            items.set("b", [0, 1])
            loader = torch.utils.data.DataLoader(
                dataset, batch_size=2, num_workers=2, multiprocessing_context=start
            )
            for _ in range(2):
                keys = [key for keys, vectors in loader for key in keys if vectors.shape[1] == 2]
                assert sorted(keys) == (["c"] if isinstance(view, ehub.Partition) else [*ROWS])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_torch_loads_views_with_workers(tmp_path, start):
    pytest.importorskip("torch")
    made(tmp_path)
    in_a_program_of_its_own(load_with_torch, str(tmp_path), start)
