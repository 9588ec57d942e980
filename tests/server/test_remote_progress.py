"""Bars of calls to a server: its figures where it has some, else the time."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from bars import counts, require_steps, watchers
from indexed import embeddings
from served import CLIENTS, client_of, serving
from test_progress import LONG, takes_progress

import ehub
import ehub.aio
from ehub.client import aio_transport, transport
from ehub.client.averages import RemoteAverages
from ehub.client.remote_hub import RemoteHub
from ehub.client.remote_space import RemoteSpace
from ehub.client.remote_version import RemoteVersion
from ehub.client.subindices import RemoteSubIndex
from ehub.server.upkeep import Upkeep

ROWS, DIMS = 24_000, 16
REMOTE = [RemoteHub, RemoteSpace, RemoteVersion, RemoteAverages, RemoteSubIndex]


@pytest.mark.parametrize("kind", REMOTE, ids=lambda kind: kind.__name__)
def test_every_long_call_to_a_server_takes_progress(kind):
    [names] = [LONG[base] for base in kind.__mro__ if base in LONG][:1]
    assert [name for name in names if not takes_progress(getattr(kind, name))] == []


@pytest.mark.parametrize("kind", [kind for kind, _ in ehub.aio.MIRRORS], ids=lambda k: k.__name__)
def test_every_long_call_of_asyncio_takes_progress(kind):
    mirror = dict(ehub.aio.MIRRORS)[kind]
    methods = [getattr(mirror, name) for name in LONG[kind] if hasattr(mirror, name)]
    assert [one.__name__ for one in methods if not takes_progress(one)] == []


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("ehub._progress.is_terminal", lambda _: True)
    for module in (transport, aio_transport):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path / "hub") as server:
        items = server.hub.create_space("items", DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(ROWS), embeddings(1, ROWS, DIMS))
        yield server


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("call", ["optimize", "wait_indexed"])
def test_a_servers_graphs_are_shown_as_they_are_built(served, kind, call, capsys, terminal):
    with client_of(served, kind) as hub:
        getattr(hub.get_space("items"), call)(progress=True)
    require_steps(capsys.readouterr().err, f"{call} items")
    assert watchers() == []


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_last_look_at_a_server_that_has_gone_is_not_waited_for(
    tmp_path, kind, capsys, terminal, monkeypatch
):
    done, optimize, look = [], Upkeep.Optimize, Upkeep.IndexStats

    def optimized(service, request, context):
        answer = optimize(service, request, context)
        done.append(time.monotonic())
        return answer

    def gone(service, request, context):
        if done:
            raise ehub.UnavailableError("gone")
        return look(service, request, context)

    monkeypatch.setattr(Upkeep, "Optimize", optimized)
    monkeypatch.setattr(Upkeep, "IndexStats", gone)
    with (
        serving(tmp_path / "hub") as server,
        client_of(server, kind, retry_seconds=30) as hub,
    ):
        items = server.hub.create_space("items", DIMS, metric="l2", key_type="int")
        items.multiset(np.arange(ROWS), embeddings(1, ROWS, DIMS))
        hub.get_space("items").optimize(progress=True)
        assert time.monotonic() - done[0] < 5
    assert "optimize items" in capsys.readouterr().err


@pytest.mark.parametrize("kind", CLIENTS)
def test_calls_that_tell_nothing_show_the_time(served, kind, capsys, terminal):
    with client_of(served, kind) as hub:
        items = hub.get_space("items")
        average = items.create_average("pairs", {1: [1, 2]}, progress=True)
        average.multi_update({2: [3, 4]}, progress=True)
        average.refresh(progress=True)
        average.stale(progress=True)
        items.compact(progress=True)
        items.measure_recall(3, 5, progress=True)
        items.kmeans(2, iterations=1, progress=True)
        items.tag("then")
        items.diff("then", progress=True)
        items.untag("then")
        items.erase([1], progress=True)
        items.create_version("other")
        items.promote("other", progress=True)
        hub.checkpoint(progress=True)
        hub.verify(progress=True)
    shown = capsys.readouterr().err
    of_items = ["compact", "measure_recall", "diff", "erase", "promote", "refresh"]
    of_average = ["create_average", "multi_update", "stale"]
    for what in (
        *(f"{name} items" for name in of_items),
        *(f"{name} pairs" for name in of_average),
        *("checkpoint", "kmeans", "verify"),
    ):
        assert f"{what}: 00:" in shown, what
    assert watchers() == []


@pytest.mark.parametrize("kind", CLIENTS)
def test_comparisons_of_a_server_are_shown_step_by_step(served, kind, capsys, terminal):
    with client_of(served, kind) as hub:
        items = hub.get_space("items")
        items.compare("initial", "initial", sample=50, progress=True)
    assert counts(capsys.readouterr().err, "compare")[-1] == (4, 4)


@pytest.mark.parametrize("kind", CLIENTS)
def test_nothing_looks_at_a_server_where_nobody_sees_it(served, kind, capsys, monkeypatch):
    for one in (transport.SyncTransport, aio_transport.AioTransport):
        monkeypatch.setattr(one, "beside", lambda _: pytest.fail("something looks"))
    with client_of(served, kind) as hub:
        hub.get_space("items").compact(progress=True)
        hub.get_space("items").wait_indexed(progress=True)
    assert capsys.readouterr().err == ""


def test_a_bar_leaves_the_event_loop_to_others_and_ends_with_its_call(served, capsys, terminal):
    async def work():
        async with await ehub.aio.connect(served.address) as hub:
            items = await hub.get_space("items")
            others = 0
            optimizing = asyncio.create_task(items.optimize(progress=True))
            while not optimizing.done():
                assert await items.count() == ROWS
                others += 1
            await optimizing
            gone = await hub.create_space("gone", DIMS)
            await hub.delete_space("gone")
            with pytest.raises(ehub.NotFoundError):
                await gone.optimize(progress=True)
            cancelled = asyncio.create_task(items.compact(progress=True))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.sleep(0.1)
            looking = [task for task in asyncio.all_tasks() if "LoopBeside" in repr(task)]
            return others, looking

    others, looking = asyncio.run(work())
    assert others > 20
    assert looking == []
    require_steps(capsys.readouterr().err, "optimize items")
    assert watchers() == []


def test_a_copy_for_asyncio_shows_the_rows_that_it_moves(served, capsys, terminal):
    async def work():
        async with await ehub.aio.connect(served.address) as hub:
            items = await hub.get_space("items")
            async with await items.download_snapshot(progress=True) as copy:
                await copy.refresh(progress=True)
                await copy.write_to_space("again", create=True, progress=True)
                await copy.overwrite_space("again", progress=True)

    asyncio.run(work())
    shown = capsys.readouterr().err
    for what in ("download_snapshot items", "refresh items", "write_to_space again"):
        assert counts(shown, what)[-1] == (ROWS, ROWS), what
    assert counts(shown, "overwrite_space again")[-1] == (ROWS, ROWS)
