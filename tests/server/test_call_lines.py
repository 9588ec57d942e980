"""The client's side of streams of small calls: lines that do not begin, have ended, or are lost."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest
from guarded import guarded
from served import client_of, serving

import ehub
import ehub.aio
from ehub.access import entries
from ehub.client import lines
from ehub.client.aio_transport import AioDuplex, AioLine, AioTransport
from ehub.client.bridge import run
from ehub.client.lines import Line, LineBroken, Lines
from ehub.client.sync_line import ANSWERED, Clock, SyncLine
from ehub.client.transport import Options, SyncTransport
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import Ended

KINDS = ("grpc", "aio")
COUNT = pb.CountRequest(target=pb.Target(space="items"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines")
    with ehub.open(path) as hub:
        hub.create_space("items", dims=2).multiset(["a", "b"], [[1, 1], [2, 2]])
    return path


class Answering(Line):
    """A line that answers nothing, for nobody, and may be over behind it."""

    def __init__(self, over=False, code=None):
        self.closed, self.code, self._over = False, code, over

    @property
    def over(self):
        return self._over

    def ask(self, data, seconds):
        return b""

    def cancel(self):
        self.closed = True

    close = cancel


# --- asyncio: lines that do not begin ---


@pytest.fixture
def silent():
    """The address of somebody who takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listens:
        yield f"127.0.0.1:{listens.getsockname()[1]}"


async def asked(address, seconds, leave):
    """What the wait for an answer on a new line ends with, and after how long."""
    async with grpc.aio.insecure_channel(address) as channel:
        line, began = AioLine(channel.stream_stream("/x/Calls")()), time.monotonic()
        task = asyncio.create_task(run(line.ask, b"x", seconds))
        await asyncio.sleep(0.1)
        leave(task, line)
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
        ended = asyncio.CancelledError if task.cancelled() else type(task.exception())
        return ended, time.monotonic() - began


@pytest.mark.parametrize(
    ("seconds", "leave", "ends"),
    [
        (0.3, lambda task, line: None, Ended),
        (None, lambda task, line: task.cancel(), asyncio.CancelledError),
        (60, lambda task, line: task.cancel(), asyncio.CancelledError),
        (None, lambda task, line: line.cancel(), LineBroken),
    ],
)
def test_a_wait_on_a_line_that_does_not_begin_ends(silent, seconds, leave, ends):
    ended, took = asyncio.run(asked(silent, seconds, leave))
    assert ended is ends
    assert took < 2


def test_a_task_cancelled_when_its_time_is_over_was_cancelled(silent):
    async def waits():
        async with grpc.aio.insecure_channel(silent) as channel:
            line = AioLine(channel.stream_stream("/x/Calls")())
            task = asyncio.create_task(run(line.ask, b"x", 0.05))
            await asyncio.sleep(0)
            time.sleep(0.1)  # its time ends, and before the loop looks somebody cancels it
            task.cancel()
            await asyncio.wait([task], timeout=5)
            return task.cancelled()

    assert asyncio.run(waits())


def test_a_hub_that_is_closed_ends_tasks_that_open_lines(path):
    async def left(address):
        hub = await ehub.aio.connect(address)
        items = await hub.get_space("items")
        tasks = [asyncio.create_task(items.get("a")) for _ in range(20)]
        for _ in range(2):
            await asyncio.sleep(0)
        await hub.close()
        _, pending = await asyncio.wait(tasks, timeout=5)
        for task in tasks:
            task.cancelled() or task.exception()
        return len(pending)

    with serving(path) as server:
        assert [asyncio.run(left(server.address)) for _ in range(3)] == [0] * 3


# --- asyncio: streams that are refused while something is written ---


@pytest.fixture
def refusing():
    """The address of a server that reads nothing of a stream, and refuses it after a while."""

    def calls(messages, context):
        time.sleep(0.1)  # what is more than the core sends unread is on its way meanwhile
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    handler = grpc.stream_stream_rpc_method_handler(calls)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("x", {"Calls": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


class Denied(Exception):
    """How a stream has ended."""


def end_of(call):
    """What a stream of large messages is ended with."""
    duplex = AioDuplex(SimpleNamespace(exception=lambda error: Denied(error.code())), call)
    for _ in range(3):
        duplex.send(bytes(8 << 20))
    with pytest.raises(Denied) as denied:
        duplex.receive()
    return denied.value.args[0]


def test_a_stream_that_is_refused_while_it_is_written_to_ends_as_the_server_says(refusing):
    async def asked():
        async with grpc.aio.insecure_channel(refusing) as channel:
            calls = channel.stream_stream("/x/Calls")
            return [await run(end_of, calls()) for _ in range(10)]

    assert asyncio.run(asked()) == [grpc.StatusCode.PERMISSION_DENIED] * 10


# --- lines that have ended ---


@pytest.fixture
def brief():
    """A channel to a server whose streams end behind the second answer."""

    def calls(messages, context):
        for _, answer in zip(messages, (b"1", b"2"), strict=False):
            yield answer
            if answer == b"2":
                return

    handler = grpc.stream_stream_rpc_method_handler(calls)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("ehub.v1.Embeddinghub", {"Calls": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None)


def test_a_line_whose_end_was_read_is_not_asked(brief):
    for _ in range(20):
        line = SyncLine(brief, (), Clock())
        assert [line.ask(b"q", 5), line.ask(b"q", 5)] == [b"1", b"2"]
        while line._due:
            line._next()
        assert line.over
        assert line.code is grpc.StatusCode.OK
        # The core's queue is gone: to read it again is to read freed memory.
        line._call = SimpleNamespace(cancel=line._call.cancel)
        with pytest.raises(LineBroken):
            line.ask(b"q", 1)
        line.close()


def test_a_message_that_the_core_does_not_take_has_no_answer(brief):
    line = SyncLine(brief, (), Clock())
    assert line.ask(b"q", 5) == b"1"
    line._call = SimpleNamespace(operate=lambda sent, tag: False, cancel=line._call.cancel)
    with pytest.raises(LineBroken):
        line.ask(b"q", 5)
    assert ANSWERED not in line._due


def test_a_line_that_is_over_is_not_given_back():
    made = [Answering(over=True), Answering()]
    of = Lines(lambda: made[0])
    of.call("Count", COUNT, 1.0)
    assert made[0].closed
    assert len(of) == 0
    with pytest.raises(LineBroken):  # for a while
        of.call("Count", COUNT, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_read_nothing_is_denied_a_line_once(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(lines, "PAUSE_SECONDS", 0.0)
    with guarded(tmp_path / "hub", [("nobody",)]) as served:
        served.hub.create_space("items", dims=2)
        with client_of(served.server, kind, token=served.tokens["nobody"]) as hub:
            for _ in range(3):
                with pytest.raises(ehub.EhubError):
                    call(hub, kind, "Count", COUNT)
        log = entries(tmp_path / "hub")
    denied = [one["method"] for one in log if one["action"] == "denial"]
    assert denied == ["Calls", "Count", "Count", "Count"]


def transport(hub, kind):
    """Of a client, that of asyncio among them."""
    return hub.transport if kind == "grpc" else hub._awaits._waits.transport


def call(hub, kind, name, request):
    """A call as the facade makes it."""
    way = transport(hub, kind)
    if kind == "grpc":
        return way.call(name, request)
    return asyncio.run_coroutine_threadsafe(run(way.call, name, request), hub._loop).result(30)


# --- lines that somebody loses ---


def test_an_interrupt_before_the_question_loses_no_line(path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        assert len(items) == 2
        with monkeypatch.context() as patched:
            patched.setattr(lines, "trace_context", interrupted)
            for _ in range(2 * lines.LINES_MAX):
                with pytest.raises(KeyboardInterrupt):
                    len(items)
        assert len(hub.transport.lines) == len(hub.transport.lines._idle) == 1


def test_interrupted_openings_leave_no_more_streams_than_there_are_lines():
    def interrupted():
        raise KeyboardInterrupt

    of = Lines(interrupted)
    for _ in range(lines.LINES_MAX):
        with pytest.raises(KeyboardInterrupt):
            of.call("Count", COUNT, 1.0)
    with pytest.raises(LineBroken):
        of.call("Count", COUNT, 1.0)


def test_lines_that_nobody_has_end_and_make_room(path):
    limits = Limits(calls=8, streams=4)  # two lines
    with (
        serving(path, limits=limits) as server,
        ehub.connect(server.address) as hub,
        ehub.connect(server.address) as other,
    ):
        of, items = hub.transport.lines, other.get_space("items")
        asked = pb.CallRequest(method="Count", request=COUNT.SerializeToString())
        for _ in range(6):
            line = of._take()
            assert line.ask(asked.SerializeToString(), 5)
            del line
            gc.collect()
            time.sleep(0.05)
        assert len(of) == 0
        assert len(items) == 2
        assert len(other.transport.lines) == 1


# --- time ---


class Breaking:
    """Lines that break after a while."""

    def call(self, *asked):
        time.sleep(0.3)
        raise LineBroken

    def close(self):
        """Nothing to do."""


@pytest.mark.parametrize("kind", [SyncTransport, AioTransport])
def test_a_call_whose_line_broke_has_what_is_left_of_its_time(kind):
    given = []
    way = SimpleNamespace(options=Options("h:1"), seconds=1.0, require_open=lambda: None)
    way._unary = lambda *asked, **told: given.append(told["within"])
    way._in_time = lambda *asked: kind._in_time(way, *asked)
    kind._small(way, Breaking(), "Count", COUNT)
    assert 0.5 < given[0] <= 0.7


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0, -1.0])
def test_times_that_are_none_are_refused(path, seconds):
    told = "timeout_seconds is .*; expected a finite number above 0"
    with serving(path) as server:
        with pytest.raises(ehub.InvalidArgumentError, match=told):
            ehub.connect(server.address, timeout_seconds=seconds)
        with pytest.raises(ehub.InvalidArgumentError, match=told):
            asyncio.run(ehub.aio.connect(server.address, timeout_seconds=seconds))


@pytest.mark.parametrize("seconds", [True, "1"])
def test_a_time_that_is_no_number_is_a_type_error(path, seconds):
    told = "timeout_seconds is .*; expected a number"
    with serving(path) as server, pytest.raises(TypeError, match=told):
        ehub.connect(server.address, timeout_seconds=seconds)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, -0.1])
def test_times_of_retries_that_are_none_are_refused(seconds):
    told = "retry_seconds is .*; expected a finite number of 0 or more"
    with pytest.raises(ehub.InvalidArgumentError, match=told):
        ehub.connect("127.0.0.1:1", retry_seconds=seconds)
    with pytest.raises(TypeError, match="retry_seconds is '5'; expected a number"):
        ehub.connect("127.0.0.1:1", retry_seconds="5")


@pytest.mark.parametrize(
    "token", ["secret\n", " secret", "sec\u20acret", "secret\0", "", b"secret"]
)
def test_a_token_that_cannot_travel_is_refused_and_never_repeated(token):
    with pytest.raises((ehub.InvalidArgumentError, TypeError), match="token is") as refused:
        ehub.connect("127.0.0.1:1", token=token, retry_seconds=0)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("address", ["localhost:99999", "localhost:65536", "[::1]:0"])
def test_a_port_that_is_none_is_refused(address):
    with pytest.raises(ehub.InvalidArgumentError, match="a port from 1 to 65,535"):
        ehub.connect(address, retry_seconds=0)
