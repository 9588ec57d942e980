"""Small calls as messages of one stream: each is what it would be if it had come alone."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from guarded import METHODS
from metered import metered, until
from served import client_of, serving
from streamed import CODES, counted, one_stream, outcome

import ehub
import ehub.aio
from ehub.client import driven_call, lines
from ehub.client.aio_transport import AioTransport
from ehub.client.transport import SyncTransport
from ehub.server import reading, server_line
from ehub.server.admission import Admission
from ehub.server.call_streams import IDLE_SECONDS, CallStreams
from ehub.server.calling import MessageContext
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import SMALL
from ehub.wire.packing import vectors_message

KINDS = ("grpc", "aio")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("calls")
    with ehub.open(path) as hub:
        items = hub.create_space("items", dims=8, metric="l2")
        rows = np.random.default_rng(1).standard_normal((200, 8), np.float32)
        items.multiset([f"k{i}" for i in range(200)], rows)
    return path


@pytest.fixture
def alone(monkeypatch):
    """The names of calls that were made as calls of their own."""
    names = []
    for kind in (SyncTransport, AioTransport):

        def noted(transport, name, *args, unary=kind._unary, **options):
            names.append(name)
            return unary(transport, name, *args, **options)

        monkeypatch.setattr(kind, "_unary", noted)
    return names


def small_calls(items):
    """Answers of everything that is small."""
    one = np.ones(8, np.float32)
    found = [
        items.nearest_neighbors(5, vector=one),
        items.nearest_neighbors(5, key="k1"),
        items.recommend(5, positive=["k1", "k2"]),
        *items.multi_nearest_neighbors(3, vectors=np.stack([one, -one])),
    ]
    said = [(list(each.keys), each.distances.tolist()) for each in found]
    return [*said, items.get("k1").tolist(), len(items), "k1" in items, "none" in items]


# --- what clients do ---


@pytest.mark.parametrize("kind", KINDS)
def test_small_calls_are_messages_of_a_stream_and_answered_alike(path, kind, alone):
    with serving(path) as server, client_of(server, kind) as hub:
        items = hub.get_space("items")
        len(items)
        alone.clear()
        streamed = small_calls(items)
        assert set(alone) <= {"Describe"}
        transport(hub).lines = None
        assert small_calls(items) == streamed
        assert set(alone) >= {"Count", "Get", "Locate", "Recommend", "Search"}


def transport(hub):
    """Of a client, that of asyncio among them."""
    awaits = getattr(hub, "_awaits", None)
    return hub.transport if awaits is None else awaits._waits.transport


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_the_same_and_the_stream_goes_on(path, kind, alone):
    with serving(path) as server, client_of(server, kind, retry_seconds=0) as hub:
        items = hub.get_space("items")

        def errors():
            said = []
            for call in (
                lambda: items.get("none"),
                lambda: items.nearest_neighbors(3, key="none"),
                lambda: items.nearest_neighbors(2_000_000, vector=np.ones(8)),
                lambda: items.version("none"),
            ):
                with pytest.raises(ehub.EhubError) as caught:
                    call()
                said.append((type(caught.value), str(caught.value)))
            return said

        streamed = errors()
        assert set(alone) <= {"Hello", "Describe"}
        transport(hub).lines = None
        assert errors() == streamed


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_without_streams_of_calls_is_called_as_before(path, kind, alone, monkeypatch):
    monkeypatch.setattr(Limits, "call_streams", 0)
    with serving(path) as server, client_of(server, kind) as hub:
        assert transport(hub).lines is None
        assert len(hub.get_space("items")) == 200
        assert "Count" in alone


@pytest.mark.parametrize("missing", ["module", "method"])
def test_a_grpcio_without_that_part_is_called_as_before(path, missing, alone, monkeypatch):
    other = SimpleNamespace(is_fork_support_enabled=lambda: False)
    monkeypatch.setattr(driven_call, "cygrpc", None if missing == "module" else other)
    with serving(path) as server, ehub.connect(server.address) as hub:
        assert len(hub.get_space("items")) == 200
        assert "Count" in alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_was_started_again_is_called_on(path, kind):
    with serving(path) as first:
        port = first.port
        with client_of(first, kind, retry_seconds=60) as hub:
            items = hub.get_space("items")
            assert len(items) == 200
            first.stop()
            first.hub.close()
            with serving(path, port=port):
                assert len(items) == 200
                time.sleep(lines.PAUSE_SECONDS + 0.1)
                assert len(items) == 200
                assert len(transport(hub).lines) == 1


def test_threads_and_tasks_share_lines(path):
    with serving(path) as server, ehub.connect(server.address) as hub:
        items, found = hub.get_space("items"), []

        def ask(key):
            found.extend(items.get(f"k{key}").tolist() == rows[key] for _ in range(50))

        rows = [items.get(f"k{key}").tolist() for key in range(16)]
        threads = [threading.Thread(target=ask, args=(key,)) for key in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 800
        assert 1 <= len(hub.transport.lines) <= lines.LINES_MAX

    async def ask_all(address):
        async with await ehub.aio.connect(address) as hub:
            items = await hub.get_space("items")
            return await asyncio.gather(*(items.get(f"k{key}") for key in range(16)))

    with serving(path) as server:
        assert [one.tolist() for one in asyncio.run(ask_all(server.address))] == rows


def test_a_forked_process_leaves_the_streams_alone(path, alone, monkeypatch):
    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        assert len(items) == 200
        alone.clear()
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: 1)
            assert len(items) == 200
            assert alone == ["Count"]
        assert len(items) == 200
        assert alone == ["Count"]


PROGRAM = """
import sys, ehub
hub = ehub.connect(sys.argv[1])
print(len(hub.get_space("items")), len(hub.transport.lines))
"""


def test_a_program_ends_without_closing_its_hub(path):
    with serving(path) as server:
        command = [sys.executable, "-c", PROGRAM, server.address]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert told.stdout.split() == ["200", "1"]


# --- time, and leaving ---


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A server, and a client whose next search takes long unless it is ended; its beginning."""
    begun, vectors = threading.Event(), np.ones((60_000, 64), np.float32)
    make = reading.stop_of
    monkeypatch.setattr(reading, "stop_of", lambda context: begun.set() or make(context))
    with serving(tmp_path) as server:
        items = server.hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(len(vectors)), vectors)
        yield server, begun, vectors[:20_000]


def ends_of(caplog):
    """How the searches in the log have ended; waits for one."""
    while not (ends := [one.status for one in caplog.records if is_search(one)]):
        time.sleep(0.01)
    return ends


def is_search(record):
    return record.msg == "call" and record.method == "Search"


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_is_kept_and_the_search_ends(slow, kind, caplog):
    server, _, queries = slow
    with (
        caplog.at_level(logging.DEBUG, "ehub.server.calls"),
        client_of(server, kind, timeout_seconds=0.5) as hub,
    ):
        items = hub.get_space("items")
        len(items)
        began = time.monotonic()
        with pytest.raises(ehub.DeadlineError):
            items.multi_nearest_neighbors(10, vectors=queries, exact=True)
        assert time.monotonic() - began < 10
        assert ends_of(caplog) == ["DEADLINE_EXCEEDED"]
        assert len(items) == 60_000


def test_an_answer_that_comes_too_late_is_none(slow):
    server, begun, queries = slow
    search = pb.SearchRequest(
        target=pb.Target(space="items"),
        vectors=vectors_message(queries[:200]),
        options=pb.SearchOptions(k=5, exact=True),
    )
    with grpc.insecure_channel(server.address) as channel, one_stream(channel) as call:
        answer = call("Search", search, timeout_seconds=0.02)
        assert begun.is_set()
        assert CODES[answer.code] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not answer.response
        assert outcome(call("Search", search, timeout_seconds=60))[0] is None


def test_a_task_that_is_cancelled_ends_its_search(slow, caplog):
    server, begun, queries = slow

    async def search():
        async with await ehub.aio.connect(server.address) as hub:
            items = await hub.get_space("items")
            await items.count()
            search = items.multi_nearest_neighbors(10, vectors=queries, exact=True)
            task = asyncio.create_task(search)
            while not begun.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await items.count()

    with caplog.at_level(logging.DEBUG, "ehub.server.calls"):
        assert asyncio.run(search()) == 60_000
        assert len(ends_of(caplog)) == 1


def test_a_hub_that_is_closed_ends_its_calls(slow):
    server, begun, queries = slow
    hub = ehub.connect(server.address)
    items, raised = hub.get_space("items"), []

    def search():
        try:
            items.multi_nearest_neighbors(10, vectors=queries, exact=True)
        except ehub.EhubError as error:
            raised.append(type(error))

    thread = threading.Thread(target=search)
    thread.start()
    assert begun.wait(10)
    hub.close()
    thread.join(10)
    assert raised == [ehub.ClosedError]


def test_an_idle_stream_keeps_no_server_from_stopping_and_a_busy_one_is_answered(slow):
    server, begun, queries = slow
    with ehub.connect(server.address) as hub, ehub.connect(server.address) as idle:
        items, found = hub.get_space("items"), []
        assert len(idle.get_space("items")) == 60_000
        few = queries[:500]

        def ask():
            found.extend(items.multi_nearest_neighbors(1, vectors=few, exact=True))

        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(10)
        began = time.monotonic()
        server.stop(60)
        assert time.monotonic() - began < 30
        thread.join()
        assert len(found) == 500


# --- how many there are ---


def test_the_stream_that_is_idle_longest_makes_room_and_busy_ones_do_not(path):
    limits = Limits(calls=8, streams=4)
    with serving(path, limits=limits) as server:
        clients = [ehub.connect(server.address, retry_seconds=0) for _ in range(3)]
        spaces = [one.get_space("items") for one in clients]
        assert [len(one) for one in spaces] == [200] * 3
        # The third was refused, and called alone.
        assert [len(one.transport.lines) for one in clients] == [1, 1, 0]
        time.sleep(max(IDLE_SECONDS, lines.PAUSE_SECONDS) + 0.1)
        assert len(spaces[2]) == 200
        assert len(clients[2].transport.lines) == 1
        assert [len(one) for one in spaces] == [200] * 3
        # There is room for other calls all the same, and for streams.
        assert sum(len(keys) for keys, _ in spaces[0].scan()) == 200
        for one in clients:
            one.close()


def test_one_caller_has_three_quarters_of_the_streams_and_ends_none_of_others():
    ended = []

    def opened(of, caller):
        context = SimpleNamespace(cancel=lambda: ended.append(caller))
        return of.opened(context, caller).__enter__()

    of = CallStreams(4)
    streams = [opened(of, caller) for caller in ("other", "a", "a", "a")]
    with pytest.raises(ehub.UnavailableError, match="you have 3 streams"):
        opened(of, "a")
    for stream in streams:
        stream.used -= 2 * IDLE_SECONDS
    streams[1].begin()
    opened(of, "a")
    assert ended == ["a"]
    opened(of, "third")  # that of "other" is idle for longest, or the third of "a"
    assert len(ended) == 2
    assert len(of) == 4


def test_an_idle_stream_has_no_place_among_the_calls(path):
    limits = Limits(calls=6, streams=2)
    with serving(path, limits=limits) as server:
        admission = next(one for one in server._interceptors if isinstance(one, Admission))
        with ExitStack() as clients:
            for _ in range(2):
                hub = clients.enter_context(ehub.connect(server.address))
                assert len(hub.get_space("items")) == 200
                assert len(hub.transport.lines) == 1
            assert until(lambda: admission._calls._taken == 0)


def test_what_is_no_request_makes_its_connection_slow(path, monkeypatch):
    monkeypatch.setattr("ehub.server.admission.OFFENCE_SECONDS", 0.5)
    with serving(path) as server, ExitStack() as stack:
        channels = [
            stack.enter_context(
                grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(2)
        ]
        calls = [stack.enter_context(one_stream(channel)) for channel in channels]

        def seconds(call):
            began = time.monotonic()
            assert outcome(call("Count", counted()))[0] is None
            return time.monotonic() - began

        assert seconds(calls[0]) < 0.4
        assert outcome(calls[0]("Count", b"\xff\xff"))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert seconds(calls[1]) < 0.4
        assert seconds(calls[0]) > 0.4
        # What a newer client asks is one.
        assert outcome(calls[0]("Write"))[0] is grpc.StatusCode.UNIMPLEMENTED
        assert seconds(calls[0]) < 0.4


def test_a_grpcio_without_the_servers_part_answers_alike(path, monkeypatch):
    with serving(path) as server, ehub.connect(server.address) as hub:
        answers = small_calls(hub.get_space("items"))
    monkeypatch.setattr(server_line, "core", None)
    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        assert small_calls(items) == answers
        assert len(hub.transport.lines) == 1
        with pytest.raises(ehub.NotFoundError):
            items.get("none")


class Seen(grpc.ServerInterceptor):
    """An interceptor of somebody else, which refuses counting."""

    def __init__(self):
        self.methods = []

    def intercept_service(self, continuation, details):
        self.methods.append(details.method.rpartition("/")[2])
        if not details.method.endswith("/Count"):
            return continuation(details)

        def refuse(request, context):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no counting")

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_interceptors_of_others_see_each_message(path):
    seen = Seen()
    with (
        serving(path, seen) as server,
        grpc.insecure_channel(server.address) as channel,
        one_stream(channel) as call,
    ):
        found = pb.LocateRequest(target=pb.Target(space="items"))
        assert outcome(call("Locate", found))[0] is None
        assert call("Count", counted()).details == "no counting"
    assert seen.methods == ["Calls", "Locate", "Count"]


@pytest.mark.parametrize("method", [*sorted(set(METHODS) - set(SMALL)), "", "count", "é" * 500])
def test_other_methods_are_not_implemented_and_the_stream_goes_on(path, method):
    with (
        serving(path) as server,
        grpc.insecure_channel(server.address) as channel,
        one_stream(channel) as call,
    ):
        answer = call(method, counted())
        assert CODES[answer.code] is grpc.StatusCode.UNIMPLEMENTED
        assert "is no call for a stream" in answer.details
        assert outcome(call("Count", counted()))[0] is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_older_server_answers_alone_is_called_alone(path, kind, alone, monkeypatch):
    older = {name: method for name, method in SMALL.items() if name != "Count"}
    monkeypatch.setattr("ehub.server.calling.SMALL", older)
    with serving(path) as server, client_of(server, kind) as hub:
        items = hub.get_space("items")
        alone.clear()
        assert [len(items), "k1" in items, len(items)] == [200, True, 200]
        assert alone == ["Count", "Count"]
        assert len(transport(hub).lines) == 1


# --- who watches ---


def test_messages_are_counted_under_their_methods(tmp_path):
    with metered(tmp_path) as served, served.connect() as hub:
        items = hub.create_space("items", dims=2)
        items.multiset(["a", "b"], [[1, 1], [2, 2]])
        for _ in range(5):
            items.nearest_neighbors(2, vector=[1, 1])
        with pytest.raises(ehub.NotFoundError):
            items.get("none")
        labels = {"service": "ehub.v1.Embeddinghub", "method": "Search"}
        assert served.value("ehub_calls_total", code="OK", **labels) == 5
        assert served.value("ehub_sent_rows_total", **labels) == 10
        carried = {name: labels | {"method": name} for name in ("Search", "Calls")}
        for way in ("received", "sent"):
            figure = f"ehub_{way}_bytes_total"
            assert served.value(figure, **carried["Search"]) > 0
            assert not served.value(figure, **carried["Calls"])
        missed = {**labels, "method": "Get", "code": "NOT_FOUND"}
        assert served.value("ehub_calls_total", **missed) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_is_closed_counts_as_no_error(tmp_path, kind):
    stream = {"service": "ehub.v1.Embeddinghub", "method": "Calls"}
    with metered(tmp_path, durability="off") as served:
        items = served.hub.create_space("items", dims=2)
        items.multiset(["a"], [[1, 1]])
        for _ in range(10):
            with client_of(served, kind) as hub:
                assert len(hub.get_space("items")) == 1
        ended = lambda **code: served.value("ehub_calls_total", **stream, **code)  # noqa: E731
        assert until(lambda: ended(code="OK") == 10)
        assert not ended(code="CANCELLED")


def test_a_stream_that_is_cut_within_a_call_counts_as_cancelled(tmp_path, monkeypatch):
    begun, done = threading.Event(), threading.Event()

    def count(self, request, context):
        begun.set()
        done.wait(10)
        return pb.CountResponse(count=1)

    monkeypatch.setattr(reading.Reading, "Count", count)
    stream = {"service": "ehub.v1.Embeddinghub", "method": "Calls"}
    with metered(tmp_path, durability="off") as served:
        served.hub.create_space("items", dims=2)
        hub = served.connect()
        asking = threading.Thread(target=ends_closed, args=(hub.get_space("items"),))
        asking.start()
        assert begun.wait(10)
        hub.close()
        asking.join()
        done.set()
        assert until(lambda: served.value("ehub_calls_total", **stream, code="CANCELLED") == 1)


def ends_closed(items):
    with pytest.raises(ehub.ClosedError):
        len(items)


def test_who_leaves_while_a_callback_is_added_is_told_of():
    called = []
    context = MessageContext("peer", (), stream=None, timeout_seconds=0)
    leaving = threading.Thread(target=context.leave)

    class Adding(list):
        def append(self, callback):
            leaving.start()
            leaving.join(0.2)
            super().append(callback)

    context._callbacks = Adding()
    assert context.add_callback(lambda: called.append("left"))
    leaving.join()
    assert called == ["left"]
    assert not context.add_callback(lambda: called.append("again"))
