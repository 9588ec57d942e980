"""Batches as messages: packed by hand, they are what protobuf would have made of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from served import client_of, serving

import ehub
import ehub.aio
from ehub._native._store import Keys
from ehub.client import batches, lines
from ehub.client.batches import BatchMessages
from ehub.client.lines import packed_call
from ehub.client.remote_rows import RemoteRows
from ehub.server.config import Limits
from ehub.server.writing import Chunk
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import array_of, key_array, keys_message, varint, vectors_message

REQUEST = pb.RequestId(client=b"c" * 16, slot=63, number=1 << 40)
TARGET = pb.Target(space="items" * 40, version="v", version_id=7)


def made(rows, vectors, names=(), labels=None, message_bytes=1 << 30):
    keys = keys_message(Keys.of_objects([f"kéy {i}" for i in range(rows)], "str", "items"), "str")
    return BatchMessages(REQUEST, TARGET, keys, vectors, names, labels, message_bytes)


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1_000])
@pytest.mark.parametrize("dims", [1, 384])
def test_messages_have_what_they_were_given(rows, dims, monkeypatch):
    each = 4 * dims + len("kéy 000".encode()) + 2 + 4
    monkeypatch.setattr(batches, "CHUNK_BYTES", 32 * each)
    vectors = np.random.default_rng(1).standard_normal((rows, 2 * dims), np.float32)[:, ::2]
    labels = np.arange(rows, dtype=np.uint32) % 2
    messages = made(rows, vectors, (b"us", "eü".encode()), labels)
    read = [pb.WriteRequest.FromString(one) for one in messages]
    assert len(read) == len(messages) <= -(-rows // 32)
    assert [one.more for one in read] == [True] * (len(read) - 1) + [False]
    parts = [one.parts[0] for one in read]
    assert all(one.request == REQUEST and len(one.parts) == 1 for one in read)
    assert all(one.target == TARGET for one in parts)
    assert all(list(one.set.partitions) == ["us", "eü"] for one in parts)
    keys = [key for one in parts for key in key_array(one.set.keys, "str")]
    assert keys == [f"kéy {i}" for i in range(rows)]
    assert b"".join(one.set.row_partitions for one in parts) == labels.tobytes()
    assert all(one.set.ByteSize() < 32 * each + 64 for one in parts)
    sent = np.concatenate([array_of(one.set.vectors) for one in parts])
    assert np.array_equal(sent, vectors)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 1 << 21, (1 << 32) - 1])
def test_lengths_are_as_protobuf_has_them(number):
    assert pb.Limits(rows=number).SerializeToString() == (
        b"\x10" + varint(number) if number else b""
    )


class Taken:
    """A link that keeps what it is asked, and finds nothing."""

    searches = None
    transport = SimpleNamespace(message_bytes=1 << 20, rows_max=None)

    def read(self, name, request):
        self.asked = name, request
        return pb.SearchResponse()


@pytest.mark.parametrize("rows", [0, 1, 2, 256])
@pytest.mark.parametrize("chosen", [None, ["a", "é"]])
def test_a_batch_of_searches_has_what_it_was_given(rows, chosen):
    queries = np.random.default_rng(1).standard_normal((rows, 768), np.float32)[:, ::2]
    link = Taken()
    view = RemoteRows(link, TARGET, pb.Description(dims=384, key_type="str"))
    filter = None if chosen is None else view.select(Keys.of_objects(chosen, "str", "items"))
    view.nearest(queries, 10, 0.5, filter, 40, True)
    options = pb.SearchOptions(k=10, max_distance=0.5, ef=40, exact=True)
    if filter is not None:
        options.filter.CopyFrom(filter.keys)
    name, request = link.asked
    assert name == "Search"
    assert pb.SearchRequest.FromString(request) == pb.SearchRequest(
        target=TARGET, vectors=vectors_message(queries), options=options
    )


@pytest.mark.parametrize("trace", [(), (("traceparent", "00-1-2-01"), ("baggage", "é"))])
@pytest.mark.parametrize("seconds", [None, 2.5])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_call_on_a_line_has_what_it_was_given(trace, seconds, is_packed, monkeypatch):
    monkeypatch.setattr(lines, "trace_context", lambda: trace)
    request = pb.CountRequest(target=TARGET)
    data = request.SerializeToString()
    sent = packed_call("Count", data if is_packed else request, seconds)
    assert pb.CallRequest.FromString(sent) == pb.CallRequest(
        method="Count", request=data, timeout_seconds=seconds or 0.0, trace=dict(trace)
    )


def test_a_chunk_holds_its_vectors_once_and_says_how_large_it_is():
    vectors = np.ones((500, 384), np.float32)
    request = pb.WriteRequest.FromString(made(500, vectors)[0])
    whole = request.ByteSize()
    chunk = Chunk(request)
    assert 0 <= whole - chunk.size < 32  # the lengths of what was taken out
    assert chunk.request.ByteSize() < whole - vectors.nbytes
    [(part, taken)] = chunk.pieces
    assert np.array_equal(taken, vectors)
    assert part.set.keys == request.parts[0].set.keys


@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_rows_travel_in_messages_that_the_server_takes(tmp_path, kind):
    vectors = np.random.default_rng(1).standard_normal((3_000, 384), np.float32)
    keys = [f"k{i}" for i in range(3_000)]
    with (
        serving(tmp_path, limits=Limits(message_bytes=1 << 20)) as server,
        client_of(server, kind) as hub,
    ):
        items = hub.create_space("items", dims=384, metric="l2")
        assert items.multiset(keys, vectors) == 3_000
        own = server.hub.get_space("items")
        assert np.array_equal(own.multiget(keys), vectors)


def test_a_batch_beyond_the_limit_is_refused_however_many_messages_it_has(tmp_path):
    limits = Limits(message_bytes=1 << 20, batch_bytes=2 << 20)
    with serving(tmp_path, limits=limits) as server, ehub.connect(server.address) as hub:
        items = hub.create_space("items", dims=384, metric="l2")
        keys, vectors = [f"k{i}" for i in range(3_000)], np.ones((3_000, 384), np.float32)
        with pytest.raises(ehub.InvalidArgumentError, match="the server's limit `batch_bytes`"):
            items.multiset(keys, vectors)
        assert len(items) == 0


def test_what_a_task_writes_into_an_array_is_not_in_a_batch_that_is_on_its_way(tmp_path):
    vectors, keys = np.ones((3_000, 384), np.float32), [f"k{i}" for i in range(3_000)]

    async def sent(address):
        async with await ehub.aio.connect(address) as hub:
            items = await hub.create_space("items", dims=384, metric="l2")
            call = asyncio.create_task(items.multiset(keys, vectors))
            await asyncio.sleep(0)
            assert not call.done()
            vectors[:] = 2
            await call

    with serving(tmp_path, limits=Limits(message_bytes=1 << 20)) as server:
        asyncio.run(sent(server.address))
        assert (server.hub.get_space("items").multiget(keys) == 1).all()


@pytest.mark.parametrize("key_type", ["str", "int"])
@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_a_batch_of_many_keys_is_taken_whatever_a_message_may_have(tmp_path, kind, key_type):
    rows = 300_000 if key_type == "int" else 2_000
    keys = np.arange(rows) if key_type == "int" else [f"{i:01000}" for i in range(rows)]
    with (
        serving(tmp_path, limits=Limits(message_bytes=1 << 20)) as server,
        client_of(server, kind) as hub,
    ):
        items = hub.create_space("items", dims=1, metric="l2", key_type=key_type)
        vectors = np.arange(rows, dtype=np.float32)[:, np.newaxis]
        partitions = ["us", "eu"] * (rows // 2)
        assert items.multiset(keys, vectors, partition=partitions) == rows
        own = server.hub.get_space("items")
        assert np.array_equal(own.multiget(keys), vectors)
        assert own.partitions() == {"us": rows // 2, "eu": rows // 2}
