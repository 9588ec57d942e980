"""Batches as messages: packed by hand, they are what protobuf would have made of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from served import client_of, serving

import ehub
import ehub.aio
from ehub import _arrays
from ehub._native._store import Keys
from ehub.client import batches, lines
from ehub.client.batches import BatchMessages
from ehub.client.lines import packed_call
from ehub.client.remote_rows import RemoteRows
from ehub.server.config import Limits
from ehub.wire import chunks
from ehub.wire import ehub_pb2 as pb
from ehub.wire.chunks import Chunk
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


@pytest.mark.parametrize("rows", [1, 500])
def test_a_chunk_holds_its_vectors_once_and_says_how_large_it_is(rows):
    vectors = np.random.default_rng(1).standard_normal((rows, 384), np.float32)
    data = made(rows, vectors)[0]
    chunk, whole = Chunk.read(data), pb.WriteRequest.FromString(data)
    assert chunk.size == len(data)
    assert chunk.request.ByteSize() < len(data) - vectors.nbytes
    [(part, taken)] = chunk.pieces
    assert np.array_equal(taken, vectors)
    assert part.set.keys == whole.parts[0].set.keys
    assert (chunk.request.request, list(chunk.parts)) == (REQUEST, [part])


def test_of_a_large_message_vectors_are_read_where_they_are():
    data = made(500, np.ones((500, 384), np.float32))[0]
    [(_, taken)] = Chunk.read(data).pieces
    lies = np.frombuffer(data, np.uint8)
    assert np.shares_memory(lies, taken)


KEYS = pb.Keys(integers=bytes(range(8)) * 2)
SET = pb.Set(keys=KEYS, vectors=pb.Vectors(dims=2, values=np.arange(4, dtype="<f4").tobytes()))


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def part(*content):
    return field(2, b"".join((pb.Part(target=TARGET).SerializeToString(), *content)))


PACKED = SET.SerializeToString()
OTHER = field(2, pb.Vectors(dims=1, values=b"1234").SerializeToString())
MESSAGES = {
    "as ours": part(field(2, PACKED)),
    "several parts": part(field(2, PACKED)) + part(field(3, b"")) + part(field(2, PACKED)),
    "unknown fields": b"\xf8\x3f\x01" + part(field(2, PACKED + b"\xf8\x3f\x01"), field(99, b"x")),
    "fixed numbers": b"\xfd\x3f1234" + part(field(2, PACKED), b"\xf9\x3f12345678"),
    "no vectors": part(field(2, b"")),
    "no values": part(field(2, field(2, b"\x08\x02"))),
    "nothing": b"",
    "a part of nothing": part(),
    "a set twice": part(field(2, PACKED), field(2, PACKED)),
    "vectors twice": part(field(2, PACKED + OTHER)),
    "values twice": part(field(2, field(2, b"\x08\x01" + field(2, b"1234") + field(2, b"5678")))),
    "a set, then a delete": part(field(2, PACKED), field(3, b"")),
    "a delete, then a set": part(field(3, b""), field(2, PACKED)),
    "a set, a delete, a set": part(field(2, PACKED), field(3, b""), field(2, PACKED)),
    "parts that are a number": b"\x10\x05" + part(field(2, PACKED)),
    "a set that is a number": part(b"\x10\x05", field(2, PACKED)),
    "a length in more bytes than it takes": part(b"\x12\x80\x80\x00"),
    "a length in more bytes than it may": part(b"\x12" + b"\x80" * 5 + b"\x00"),
    "a part's tag in more bytes than it may": b"\x92" + b"\x80" * 7 + b"\x00\x00",
    "a tag of vectors in more bytes than it may": part(
        field(2, b"\x92" + b"\x80" * 5 + b"\x00\x04\x12\x02\x31\x32")
    ),
    "a tag of values in more bytes than it may": part(
        field(2, field(2, b"\x08\x01\x92" + b"\x80" * 5 + b"\x00\x041234"))
    ),
    "many parts": part() * 2_000 + part(field(2, PACKED)),
    "cut": part(field(2, PACKED))[:-3],
    "a length beyond the end": b"\x12\xff\x7f" + part(),
    "a length without an end": b"\x12" + b"\xff" * 11,
    "a group": b"\x13\x14" + part(field(2, PACKED)),
    "no field": b"\x02\x00",
    "keys that are no message": part(field(2, field(1, b"\xff") + PACKED)),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_read_in_place_is_what_protobuf_reads(name, monkeypatch):
    monkeypatch.setattr(chunks, "LARGE_BYTES", 0)
    data = MESSAGES[name]
    try:
        whole = pb.WriteRequest.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            Chunk.read(data)
        return
    chunk = Chunk.read(data)
    for (read, rows), sent in zip(chunk.pieces, whole.parts, strict=True):
        assert read.WhichOneof("what") == sent.WhichOneof("what")
        if sent.WhichOneof("what") == "set":
            assert rows.tobytes() == sent.set.vectors.values
            assert rows.shape == array_of(sent.set.vectors).shape
            for one in (read, sent):
                one.set.vectors.ClearField("values")  # which makes it one that is empty
        else:
            assert rows is None
    assert chunk.request == whole


def test_rows_that_are_not_whole_are_refused_by_their_name(tmp_path):
    request = pb.WriteRequest(request=REQUEST)
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        hub.create_space("items", dims=3, metric="l2")
        one = request.parts.add(target=pb.Target(space="items"))
        one.set.keys.CopyFrom(keys_message(Keys.of_objects(["a"], "str", "items"), "str"))
        one.set.vectors.CopyFrom(pb.Vectors(dims=3, values=b"\0" * 20_000))
        with pytest.raises(ehub.DimensionError, match="a multiple of their 3 dims"):
            hub._link.change("Write", request)


def test_rows_of_several_messages_are_laid_out_once_wherever_they_lie(tmp_path, monkeypatch):
    vectors = np.random.default_rng(1).standard_normal((3_000, 384), np.float32)
    laid_out, lies = _arrays.as_laid_out, []

    def noting(array, dtype):
        lies.append(array.flags.aligned)
        return laid_out(array, dtype)

    with (
        serving(tmp_path, limits=Limits(message_bytes=1 << 20)) as server,
        ehub.connect(server.address) as hub,
    ):
        monkeypatch.setattr(_arrays, "as_laid_out", noting)
        for name in ("i", "it", "ite", "item"):  # one of which moves the rows off their addresses
            items = hub.create_space(name, dims=384, metric="l2")
            items.multiset([f"k{i}" for i in range(3_000)], vectors)
            assert np.array_equal(server.hub.get_space(name).multiget(["k2999"]), vectors[-1:])
    assert len(lies) >= 4
    assert all(lies)


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
