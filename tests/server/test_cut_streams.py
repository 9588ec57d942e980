"""Streams of requests that are cut: none looks whole, and of old clients what came is done."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import grpc
import pytest
from guarded import METHODS
from metered import metered, until

from ehub.server import admission
from ehub.server.calls import CallerLeftError
from ehub.server.watching import Watch
from ehub.wire.methods import OLD, methods_of

Code = grpc.StatusCode
OLD_METHODS = methods_of(OLD)


class Arrivals(Watch):
    """Counts the messages that a server has read."""

    def __init__(self):
        self.came = threading.Semaphore(0)

    def watch(self, method, metadata):
        return self

    def received(self, message, size):
        self.came.release()


def cut_stream(channel, method, sent, came):
    """A stream that is cancelled when all that was sent has come."""
    more = queue.SimpleQueue()
    call = channel.stream_unary(method.path).future(iter(more.get, None), timeout=60)
    for message in sent:
        more.put(message.SerializeToString())
    for _ in sent:
        assert came.acquire(timeout=30)
    time.sleep(0.005)  # gRPC has handed on all but the last
    call.cancel()
    more.put(None)


@pytest.mark.parametrize("name", ["Ingest", "MultiSet"])
def test_a_stream_that_is_cut_never_looks_whole(tmp_path, name):
    """Of a third of them gRPC says at first that they have ended; so many are cut."""
    arrivals, cuts = Arrivals(), 60
    with metered(tmp_path / "hub", arrivals, durability="off") as served:
        served.hub.create_space("items", dims=2, metric="l2")
        method = METHODS[name] if name == "Ingest" else OLD_METHODS[name]
        unfinished = {"more": True} if name == "Ingest" else {"space": "items", "key": "a"}
        with grpc.insecure_channel(served.address) as channel:
            for _ in range(cuts):
                if name == "MultiSet":
                    unfinished["embedding"] = {"values": [1, 2]}
                cut_stream(channel, method, [method.request(**unfinished)], arrivals.came)
        ended = lambda **code: sum(  # noqa: E731
            value
            for one, labels, value in served.values()
            if one == "ehub_calls_total" and {"method": name, **code}.items() <= labels.items()
        )
        assert until(lambda: ended() == cuts)
        assert ended(code="CANCELLED") == cuts


def test_rows_of_old_clients_that_came_before_a_cut_are_stored(tmp_path):
    arrivals = Arrivals()
    with metered(tmp_path / "hub", arrivals, durability="off") as served:
        items = served.hub.create_space("items", dims=1, metric="l2")
        method = OLD_METHODS["MultiSet"]
        with grpc.insecure_channel(served.address) as channel:
            for turn in range(20):
                rows = [
                    method.request(space="items", key=f"{turn}-{i}", embedding={"values": [i]})
                    for i in range(10)
                ]
                cut_stream(channel, method, rows, arrivals.came)
                assert until(lambda turn=turn: len(items) == 10 * (turn + 1))
            gone = OLD_METHODS["MultiDelete"]
            keys = [gone.request(space="items", key=f"{turn}-0") for turn in range(20)]
            cut_stream(channel, gone, keys, arrivals.came)
            assert until(lambda: len(items) == 180)


@pytest.mark.parametrize("is_cut", [False, True])
def test_what_looks_like_the_end_of_a_stream_is_asked_for_twice(is_cut):
    """Of one that was cut gRPC may say first that it has ended."""
    said, aborted, came = ["one", None], [], []

    def next_one():
        if said:
            return said.pop(0)
        if is_cut:
            raise grpc.RpcError
        return None

    context = SimpleNamespace(
        peer=lambda: "peer", code=lambda: Code.OK, abort=lambda *told: aborted.append(told)
    )
    visit = admission.Visit("caller", context, [], 60.0, admission.Offenders())
    with pytest.raises(CallerLeftError) if is_cut else nullcontext():
        came.extend(visit.each(iter(next_one, "never")))
    assert came == ["one"]
    assert len(aborted) == is_cut
