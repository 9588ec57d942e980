"""Reading everything: each row once, as of one moment, without copies that can be avoided."""

from __future__ import annotations

import gc
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import ehub

DIMS = 64


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


def fill(hub: ehub.Hub, key_type: str = "str", count: int = 5000) -> tuple[ehub.Space, dict]:
    """A space with sealed rows, fresh rows, dead rows and overwritten ones; and what it holds."""
    space = hub.create_space(f"items-{key_type}", DIMS, metric="l2", key_type=key_type)
    vectors = np.random.default_rng(1).standard_normal((count + 500, DIMS), dtype=np.float32)
    keys = [i if key_type == "int" else f"ключ-{i}" for i in range(count)]
    space.multiset(keys, vectors[:count])
    hub.checkpoint()
    space.multiset(keys[:500], vectors[count:])
    space.multidelete(keys[400:900])
    held = dict(zip(keys, vectors[:count], strict=True))
    held |= dict(zip(keys[:500], vectors[count:], strict=True))
    return space, {key: held[key].tobytes() for key in [*keys[:400], *keys[900:]]}


def sealed(hub: ehub.Hub, count: int = 20_000) -> tuple[ehub.Space, np.ndarray]:
    """A space that is one sealed segment without a dead row."""
    space = hub.create_space("sealed", DIMS, metric="l2", key_type="int")
    vectors = np.random.default_rng(2).standard_normal((count, DIMS), dtype=np.float32)
    space.multiset(np.arange(count), vectors)
    hub.checkpoint()
    return space, vectors


def by_key(keys: object, vectors: np.ndarray) -> dict:
    assert len(keys) == len(vectors)
    return {key: vector.tobytes() for key, vector in zip(keys.tolist(), vectors, strict=True)}


@pytest.mark.parametrize("key_type", ["str", "int"])
@pytest.mark.parametrize("batch_rows", [1, 64, 1000, 65_536, 1 << 24])
def test_a_scan_gives_each_row_once(hub, key_type, batch_rows):
    space, held = fill(hub, key_type)
    seen: dict = {}
    for keys, vectors in space.scan(batch_rows):
        assert 0 < len(keys) <= batch_rows
        assert keys.dtype == (np.int64 if key_type == "int" else np.object_)
        assert (vectors.dtype, vectors.shape) == (np.float32, (len(keys), DIMS))
        assert vectors.flags.c_contiguous
        batch = by_key(keys, vectors)
        assert not batch.keys() & seen.keys()
        seen |= batch
    assert seen == held


def test_an_empty_space_has_no_batches(hub):
    items = hub.create_space("items", dims=3)
    assert list(items.scan()) == []
    assert list(items) == []
    assert list(items.iterator()) == []
    assert (items.keys().shape, items.keys().dtype) == ((0,), np.object_)
    keys, vectors = items.to_numpy()
    assert (keys.shape, vectors.shape) == ((0,), (0, 3))
    assert items.to_arrow().num_rows == 0
    numbers = hub.create_space("numbers", dims=3, key_type="int")
    assert numbers.keys().dtype == np.int64


def test_batch_rows_has_limits(hub):
    items = hub.create_space("items", dims=3)
    for wrong in (0, -1, (1 << 24) + 1):
        with pytest.raises(ehub.InvalidArgumentError, match="batch_rows"):
            items.scan(wrong)
    with pytest.raises(TypeError, match="batch_rows"):
        items.scan(batch_rows=10.0)


@pytest.mark.parametrize("key_type", ["str", "int"])
def test_every_way_to_read_all_reads_the_same(hub, key_type):
    space, held = fill(hub, key_type)
    keys, vectors = space.to_numpy()
    assert by_key(keys, vectors) == held
    assert vectors.flags.owndata
    assert vectors.flags.writeable
    assert space.keys().tolist() == list(space) == keys.tolist()
    assert {key: vector.tobytes() for key, vector in space.iterator()} == held
    kind = int if key_type == "int" else str
    assert all(type(key) is kind for key in space)
    table = space.to_arrow()
    assert table.column("key").to_pylist() == keys.tolist()
    assert {
        key: np.array(vector, np.float32).tobytes()
        for key, vector in zip(
            *(table[name].to_pylist() for name in ("key", "vector")), strict=True
        )
    } == held


# --- the moment ---


def test_a_scan_shows_the_moment_of_the_call(hub):
    space, held = fill(hub)
    batches = space.scan(100)
    seen = by_key(*next(batches))
    space.delete_all()
    space.multiset(["new"], np.ones((1, DIMS)))
    hub.checkpoint()
    space.compact()
    for keys, vectors in batches:
        seen |= by_key(keys, vectors)
    assert seen == held
    assert list(space) == ["new"]


def test_rows_may_be_written_while_they_are_read(hub):
    space, held = fill(hub)
    for key, vector in space.iterator():
        space.set(key, vector + 1)
    expected = {key: (np.frombuffer(old, np.float32) + 1).tobytes() for key, old in held.items()}
    assert by_key(*space.to_numpy()) == expected


def test_a_scan_outlives_its_space(hub):
    space, held = fill(hub)
    batches = space.scan(1000)
    hub.delete_space(space.name)
    del space
    assert sum(len(keys) for keys, _ in batches) == len(held)


# --- memory ---


def test_sealed_rows_are_read_where_they_lie(hub):
    space, vectors = sealed(hub)
    [(keys, rows)] = space.scan()
    assert keys.tolist() == list(range(20_000))
    assert (rows == vectors).all()
    assert not rows.flags.owndata
    [(_, again)] = space.scan()
    assert np.shares_memory(rows, again)


def test_stored_rows_cannot_be_written_to(hub):
    space, vectors = sealed(hub)
    [(_, rows)] = space.scan()
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        rows.flags.writeable = True
    base = rows.base if isinstance(rows.base, memoryview) else memoryview(rows)
    assert base.readonly
    assert space.get(0).tobytes() == vectors[0].tobytes()


def test_arrays_outlive_the_hub_the_space_and_the_files(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        space, vectors = sealed(hub)
        [(keys, rows)] = space.scan()
        part = rows[1234:1300, ::2]
        table = space.to_arrow()
        hub.delete_space("sealed")
        hub.checkpoint()
    del hub, space, rows
    gc.collect()
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            path.unlink()
    assert (part == vectors[1234:1300, ::2]).all()
    assert keys[-1] == 19_999
    values = table["vector"].combine_chunks().flatten().to_numpy()
    assert (values.reshape(-1, DIMS) == vectors).all()


def test_fresh_rows_stay_what_they_were(hub):
    """Rows in memory are never changed or moved either, whatever is written after."""
    space = hub.create_space("fresh", DIMS, metric="l2", key_type="int")
    vectors = np.random.default_rng(3).standard_normal((2000, DIMS), dtype=np.float32)
    space.multiset(np.arange(2000), vectors)
    kept = list(space.scan())
    space.multiset(np.arange(2000), np.zeros((2000, DIMS)))
    hub.checkpoint()
    space.multiset(np.arange(50_000), np.ones((50_000, DIMS)))
    assert (np.concatenate([rows for _, rows in kept]) == vectors).all()


def test_a_batch_is_a_buffer_for_anybody(hub):
    space, vectors = sealed(hub)
    [(_, rows)] = space.scan()
    view = memoryview(rows)
    assert (view.format, view.shape, view.readonly) == ("f", (20_000, DIMS), True)
    assert bytes(view[:3]) == vectors[:3].tobytes()
    assert pa.py_buffer(rows).size == vectors.nbytes
    assert np.asfortranarray(rows[:5]).tolist() == vectors[:5].tolist()


# --- the hub's end ---


def test_a_scan_of_a_closed_hub_is_an_error(tmp_path):
    hub = ehub.open(tmp_path)
    space, _ = sealed(hub)
    scans = [space.scan(10), space.iterator(), iter(space)]
    for scan in scans:
        next(scan)
    hub.close()
    with pytest.raises(ehub.ClosedError):
        next(scans[0])
    for scan in scans[1:]:  # what was read already may still come
        with pytest.raises(ehub.ClosedError):
            list(scan)


def test_threads_share_a_scan_without_sharing_a_batch(hub):
    space, held = fill(hub)
    batches = space.scan(50)
    seen: list[list] = [[] for _ in range(4)]

    def take(mine: list) -> None:
        for keys, vectors in batches:
            mine.append(by_key(keys, vectors))

    threads = [threading.Thread(target=take, args=[mine]) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_batches = [batch for mine in seen for batch in mine]
    assert sum(map(len, all_batches)) == len(held)
    assert {key: vector for batch in all_batches for key, vector in batch.items()} == held


# --- Arrow ---


@pytest.mark.parametrize("key_type", ["str", "int"])
def test_an_export_can_be_stored_again(hub, key_type):
    space, held = fill(hub, key_type)
    for name, data in {
        "table": space.to_arrow(),
        "stream": space.to_arrow_batches(700),
        "polars": pl.from_arrow(space.to_arrow()),
        "pairs": space.iterator(),
    }.items():
        copy = hub.create_space(f"{name}", DIMS, metric="l2", key_type=key_type)
        assert copy.multiset(data) == len(held)
        assert by_key(*copy.to_numpy()) == held


def test_an_export_has_two_columns_without_nulls(hub):
    space, _ = fill(hub)
    schema = space.to_arrow_batches().schema
    assert schema.names == ["key", "vector"]
    assert schema.types == [pa.string(), pa.list_(pa.float32(), DIMS)]
    assert not any(field.nullable for field in schema)
    table = space.to_arrow()
    assert table.schema == schema
    table.validate(full=True)


def test_an_export_does_not_copy_sealed_rows(hub):
    space, _ = sealed(hub)
    [(_, rows)] = space.scan()
    values = space.to_arrow()["vector"].chunk(0).flatten().to_numpy()
    assert np.shares_memory(rows, values)


def test_an_export_is_a_stream_of_the_moment_of_the_call(hub):
    space, held = fill(hub)
    reader = space.to_arrow_batches(100)
    space.delete_all()
    assert sum(batch.num_rows for batch in reader) == len(held)


def test_an_export_shows_a_bar_on_a_terminal(hub, capsys, monkeypatch):
    space, _ = sealed(hub)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    space.to_numpy(progress=True)
    space.to_arrow(progress=True)
    hub.verify(progress=True)
    shown = capsys.readouterr().err
    for what in ("to_numpy sealed", "to_arrow sealed", "20.0k/20.0k", "verify: 100%"):
        assert what in shown
