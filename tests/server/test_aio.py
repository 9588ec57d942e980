"""What an asyncio client gives that is not just awaited: copies, comparisons, Arrow's batches."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import numpy as np
import pytest
from served import serving

import ehub
import ehub.aio

ROWS, DIMS = 300, 8
VECTORS = np.random.default_rng(1).standard_normal((ROWS, DIMS)).astype(np.float32)
KEYS = [f"k{i}" for i in range(ROWS)]


@pytest.fixture
def on_loop(tmp_path):
    """Runs `ask(hub)` with an asyncio client of a server that has some rows."""
    with serving(tmp_path / "served") as server:
        items = server.hub.create_space("items", dims=DIMS, metric="l2")
        items.multiset(KEYS[:200], VECTORS[:200])
        items.multiset(KEYS[200:], VECTORS[200:], partition="us")
        items.tag("then")
        items.create_version("next").multiset(KEYS, VECTORS * 2 + 1)

        def run(ask):
            async def connected():
                async with await ehub.aio.connect(server.address) as hub:
                    return await ask(hub)

            return asyncio.run(asyncio.wait_for(connected(), 60))

        run.hub = server.hub
        yield run


def same(view, keys, vectors):
    return len(view) == len(keys) and np.array_equal(view.multiget(keys), vectors)


# --- copies ---


@pytest.mark.parametrize("way", ["space", "get_space", "version", "partition", "tag"])
def test_a_copy_is_read_and_written_without_awaiting(on_loop, way):
    async def ask(hub):
        space = await hub.get_space("items")
        if way == "get_space":
            copy = await hub.get_space("items", download_snapshot=True)
        else:
            source = {
                "space": lambda: space,
                "version": lambda: space,
                "partition": lambda: space.partition("us"),
                "tag": lambda: space.at("then"),
            }[way]()
            source = await source if asyncio.iscoroutine(source) else source
            copy = await source.download_snapshot()
        async with copy:
            assert isinstance(copy, ehub.LocalCopy)
            begin = 200 if way == "partition" else 0
            assert same(copy, KEYS[begin:], VECTORS[begin:])
            copy["mine"] = VECTORS[0]
            assert copy.nearest_neighbors(1, key="mine").distances.shape == (1,)
            assert len(list(copy)) == ROWS - begin + 1
            assert not await space.contains("mine")
            assert "ehub.aio" in type(copy.source).__module__
            root = Path(copy.hub.path)
            assert root.is_dir()
        assert copy.hub.closed
        assert not root.exists()

    on_loop(ask)


def test_a_copy_is_refreshed_and_goes_back_while_the_loop_goes_on(on_loop):
    async def ask(hub):
        space = await hub.get_space("items")
        async with await space.download_snapshot() as copy:
            copy["mine"] = VECTORS[0]
            assert await copy.write_to_space("other", create=True) == ROWS + 1
            other = await hub.get_space("other")
            assert (await other.get("mine")).tolist() == VECTORS[0].tolist()
            assert await other.partitions() == {"us": 100}
            copy.delete("k0")
            assert await copy.overwrite_space("other") == ROWS
            assert not await other.contains("k0")
            await space.set("new", VECTORS[1])
            await copy.refresh()
            assert same(copy, [*KEYS, "new"], np.concatenate([VECTORS, VECTORS[1:2]]))
            await space.delete("new")
            ticks = asyncio.create_task(ticking(both := [await copy.refresh(wait=False)]))
            both.append(await copy.refresh(wait=False))
            assert "new" in copy  # until it is done
            await asyncio.gather(*both)
            assert await ticks > 2
            assert same(copy, KEYS, VECTORS)

    async def ticking(tasks):
        count = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            count += 1
        return count

    on_loop(ask)


def test_a_refresh_that_fails_or_is_cancelled_leaves_the_copy_as_it_was(on_loop):
    async def ask(hub):
        space = await hub.get_space("items")
        async with await space.download_snapshot() as copy:
            task = await copy.refresh(wait=False)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert same(copy, KEYS, VECTORS)
            await copy.refresh()
            await hub.close()
            with pytest.raises(ehub.ClosedError):
                await copy.refresh()
            with pytest.raises(ehub.ClosedError):
                await copy.write_to_space("other", create=True)
            assert same(copy, KEYS, VECTORS)

    on_loop(ask)


def test_a_handle_of_a_copy_reads_it_where_it_lies(on_loop):
    async def ask(hub):
        space = await hub.get_space("items")
        async with await space.download_snapshot() as copy:
            with pickle.loads(pickle.dumps(copy)) as handle:
                assert same(handle, KEYS, VECTORS)
                await copy.refresh()
                handle.refresh()
                assert same(handle, KEYS, VECTORS)

    on_loop(ask)


# --- comparisons ---


def test_views_of_a_server_are_compared_as_those_that_are_waited_for(on_loop):
    blocking = on_loop.hub.get_space("items")

    async def ask(hub):
        space = await hub.get_space("items")
        old, new = await space.version("initial"), await space.version("next")
        asked = {"k": 3, "sample": 50, "exact": True}
        found = await ehub.aio.compare(old, new, **asked)
        expected = ehub.compare(blocking.version("initial"), blocking.version("next"), **asked)
        assert found.to_dict() == expected.to_dict()
        assert (await ehub.aio.drift(old, new, **asked)).kind == "drift"
        alignment = await ehub.aio.align(new, old, k=3, sample=200)
        mapped = await old.nearest_neighbors(1, vector=VECTORS[5] * 2 + 1, via=alignment)
        assert mapped.keys.tolist() == ["k5"]
        async with await space.download_snapshot() as copy:
            assert (await ehub.aio.compare(space, copy, **asked)).overlap.value == 1
        async with await space.at("then") as then:
            moved = await space.drift("then", over=[then], k=3, sample=50)
            assert len(moved.moments) == 2

    on_loop(ask)


def test_what_waits_refuses_what_is_awaited_and_says_what_to_do(on_loop, tmp_path):
    async def ask(hub):
        space = await hub.get_space("items")
        for call in ehub.compare, ehub.drift, ehub.align:
            with pytest.raises(TypeError, match=r"asyncio client: await that of ehub\.aio"):
                call(space, space)
        with pytest.raises(TypeError, match=r"asyncio client: give what its download_snapshot"):
            ehub.hnswlib_io.save(space, tmp_path / "file")
        with pytest.raises(TypeError, match=r"asyncio client: give a hub of ehub\.connect"):
            ehub.hnswlib_io.load(tmp_path / "file", hub=hub, space="x", metric="l2", dims=2)
        with pytest.raises(ehub.EhubError, match=r"make it of download_snapshot|needs torch"):
            await space.to_torch_dataset()

    on_loop(ask)


# --- Arrow ---


def test_record_batches_of_arrow_come_one_by_one(on_loop):
    pa = pytest.importorskip("pyarrow")

    async def ask(hub):
        space = await hub.get_space("items")
        batches = [batch async for batch in space.to_arrow_batches(100)]
        assert [batch.num_rows for batch in batches] == [100, 100, 100]
        assert pa.Table.from_batches(batches).equals(await space.to_arrow())
        part = await space.partition("us")
        few = [batch async for batch in part.to_arrow_batches()]
        assert sum(batch.num_rows for batch in few) == 100

    on_loop(ask)
