"""What a caller can hold of a server, for how long, and at whose cost: all of it has a bound."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
from guarded import METHODS, bearer, guarded

import ehub
from ehub.access import Grant
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire import old_clients_pb2 as old
from ehub.wire.methods import OLD, methods_of

Code = grpc.StatusCode
OLD_METHODS = {f"old {name}": method for name, method in methods_of(OLD).items()}
EVERY = METHODS | OLD_METHODS


@pytest.mark.parametrize("name", ["Ingest", "old MultiSet", "old MultiGet", "old MultiDelete"])
def test_who_may_nothing_holds_no_stream_open(tmp_path, name):
    with guarded(tmp_path / "hub", [("nobody",)]) as served:
        wait = threading.Event()
        call = served.channel.stream_stream(EVERY[name].path)
        answers = call(iter(wait.wait, True), metadata=bearer(served.tokens["nobody"]), timeout=30)
        with pytest.raises(grpc.RpcError) as failed:
            next(answers)
        wait.set()
        assert failed.value.code() is Code.PERMISSION_DENIED


def test_streams_of_requests_leave_room_for_other_calls(tmp_path):
    """Those that are answered in one message count as streams, too: each holds a thread."""
    limits = Limits(calls=4, streams=2)
    with guarded(tmp_path / "hub", limits=limits) as served:
        served.hub.create_space("items", dims=2)
        wait, root = threading.Event(), bearer(served.tokens["root"])
        method = OLD_METHODS["old MultiSet"]
        calls = [
            method.call(served.channel).future(iter(wait.wait, True), metadata=root, timeout=60)
            for _ in range(4)
        ]
        refused, deadline = [], time.monotonic() + 30
        while len(refused) < 2 and time.monotonic() < deadline:
            refused = [one for one in calls if one.done()]
            time.sleep(0.01)
        assert [one.code() for one in refused] == [Code.UNAVAILABLE] * 2
        assert served.connect().spaces() == ["items"]
        wait.set()


def chunk(**more):
    return pb.WriteRequest(more=True, parts=[pb.Part(target=pb.Target(space="items"), **more)])


@pytest.mark.parametrize(
    "message",
    [
        chunk(set=pb.Set(keys=pb.Keys(utf8=b"x" * 10_000))),
        chunk(set=pb.Set(row_partitions=b"x" * 10_000)),
        chunk(delete=pb.Keys(utf8=b"x" * 10_000)),
        pb.WriteRequest(more=True),
    ],
    ids=["keys", "partitions", "deletes", "nothing"],
)
def test_a_batch_without_end_is_refused_whatever_it_is_made_of(tmp_path, message):
    with guarded(tmp_path / "hub", limits=Limits(batch_bytes=100_000)) as served:
        served.hub.create_space("items", dims=2)
        call = METHODS["Ingest"].call(served.channel)
        answers = call((message for _ in range(10_000)), metadata=bearer(served.tokens["root"]))
        with pytest.raises(grpc.RpcError, match="batch_bytes") as failed:
            next(answers)
        assert failed.value.code() is Code.INVALID_ARGUMENT


def test_batches_that_are_not_whole_share_a_bound_and_give_it_back(tmp_path):
    limits = Limits(batch_bytes=100_000, batches_bytes=150_000)
    with guarded(tmp_path / "hub", limits=limits) as served:
        served.hub.create_space("items", dims=2)
        wait, root = threading.Event(), bearer(served.tokens["root"])
        rows = chunk(set=pb.Set(vectors=pb.Vectors(dims=2, values=b"\0" * 80_000)))

        def unfinished():
            yield rows
            wait.wait()

        def begin():
            return METHODS["Ingest"].call(served.channel)(unfinished(), metadata=root, timeout=60)

        first = begin()
        deadline = time.monotonic() + 30
        code = None
        while code is None and time.monotonic() < deadline:
            if first.done():  # it has come while the second was there, and was refused itself
                first = begin()
            second = METHODS["Ingest"].call(served.channel)(iter([rows]), metadata=root, timeout=60)
            with pytest.raises(grpc.RpcError) as failed:
                next(second)
            code = failed.value.code()
            code = None if code is Code.INVALID_ARGUMENT else code  # the first has not come yet
        assert code is Code.UNAVAILABLE
        assert "batches_bytes" in failed.value.details()
        first.cancel()
        wait.set()
        items = served.connect().get_space("items")
        assert items.multiset((f"k{i}", [1, i]) for i in range(3_000)) == 3_000


def test_old_clients_keys_are_checked_before_they_are_gathered(tmp_path):
    with guarded(tmp_path / "hub") as served:
        served.hub.create_space("items", dims=1, metric="l2")
        root = bearer(served.tokens["root"])
        long = "x" * 100_000
        read = []

        def requests(kind, **more):
            for _ in range(50_000):
                read.append(1)
                yield kind(key=long, space="items", **more)

        embedding = old.Embedding(values=[1.0])
        for name, sent in (
            ("old MultiSet", requests(old.MultiSetRequest, embedding=embedding)),
            ("old MultiDelete", requests(old.MultiDeleteRequest)),
        ):
            read.clear()
            with pytest.raises(grpc.RpcError) as failed:
                OLD_METHODS[name].call(served.channel)(sent, metadata=root, timeout=60)
            assert failed.value.code() is Code.INVALID_ARGUMENT
            assert len(read) < 5_000


def test_no_answer_is_made_that_would_not_fit_in_a_message(tmp_path):
    with guarded(tmp_path / "hub", [("r", "reader on space:items")]) as served:
        served.hub.create_space("items", dims=65_535)
        target, token = pb.Target(space="items"), served.tokens["r"]
        begins = np.zeros(900_000, "<u8").tobytes()
        average = pb.AverageRequest(target=target, begins=begins, allow_missing=True)
        for name, request in (
            ("Average", average),
            ("KMeans", pb.KMeansRequest(target=target, k=60_000, iterations=1)),
        ):
            code, error = served.refusal(name, request, token)
            assert code is Code.INVALID_ARGUMENT
            assert "one message has at most" in str(error)


def test_long_keys_are_scanned_in_messages_that_fit(tmp_path):
    with guarded(tmp_path / "hub", limits=Limits(message_bytes=1 << 20)) as served:
        items = served.hub.create_space("items", dims=1, metric="l2")
        keys = [f"{i:0>1024}" for i in range(3_000)]
        items.multiset(keys, np.arange(3_000, dtype=np.float32)[:, np.newaxis])
        remote = served.connect().get_space("items")
        assert sorted(remote.keys()) == keys
        assert sorted(key for some, _ in remote.scan() for key in some) == keys
        assert remote.multiget(keys[:500]).tolist() == [[i] for i in range(500)]


# --- long answers ---


@pytest.mark.parametrize("change", ["revoke", "ungrant", "narrow"])
def test_a_scan_that_is_under_way_ends_with_its_right(tmp_path, change):
    with guarded(tmp_path / "hub", [("r", "reader on space:items")]) as served:
        items = served.hub.create_space("items", dims=64)
        items.multiset([f"k{i}" for i in range(40_000)], np.ones((40_000, 64), np.float32))
        scan = served.connect("r").get_space("items").scan(1_000)
        next(scan)
        if change == "revoke":
            served.access.revoke("r")
        else:
            served.access.ungrant("key:r", Grant("reader", "space:items"))
        if change == "narrow":
            served.access.grant("key:r", Grant("reader", "space:items/partition:us"))
        with pytest.raises((ehub.PermissionDeniedError, ehub.NotFoundError)):
            list(scan)


def test_a_scan_goes_on_when_rights_of_others_change(tmp_path):
    with guarded(tmp_path / "hub", [("r", "reader on space:items")]) as served:
        items = served.hub.create_space("items", dims=64)
        items.multiset([f"k{i}" for i in range(40_000)], np.ones((40_000, 64), np.float32))
        scan = served.connect("r").get_space("items").scan(1_000)
        next(scan)
        served.token("another", "reader on hub")
        served.access.grant("key:r", Grant("writer", "space:items"))
        assert sum(len(keys) for keys, _ in scan) == 39_000


def test_a_busy_server_is_tried_again_and_is_no_mistake_of_the_caller(tmp_path):
    with guarded(tmp_path / "hub", limits=Limits(calls=2, streams=1)) as served:
        served.hub.create_space("items", dims=2)
        wait, address, token = threading.Event(), served.server.address, served.tokens["root"]
        call = served.channel.stream_unary("/ehub.v1.Embeddinghub/Count")
        held = [call.future(iter(wait.wait, True), metadata=bearer(token)) for _ in range(2)]

        def connect_until_refused():
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                ehub.connect(address, token=token, retry_seconds=0).close()

        with pytest.raises(ehub.UnavailableError, match="calls in progress") as failed:
            connect_until_refused()
        assert "firewall" not in str(failed.value)
        threading.Timer(0.5, lambda: [one.cancel() for one in held]).start()
        assert ehub.connect(address, token=token).spaces() == ["items"]
        wait.set()
