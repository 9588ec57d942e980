"""Batches in several messages, sent by the calling thread or, where it cannot, by grpcio."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from served import client_of, serving

import ehub
from ehub import version
from ehub.client import driven_call
from ehub.client.aio_transport import AioDuplex
from ehub.client.duplex import DrivenDuplex, QueuedDuplex
from ehub.server.config import Limits
from ehub.server.writing import Writing

ROWS = np.random.default_rng(1).standard_normal((3_000, 384), np.float32)
KEYS = [f"k{i}" for i in range(len(ROWS))]
# So that the rows are several messages.
LIMITS = Limits(message_bytes=1 << 20)


def no_such_calls(*args):
    raise AttributeError("no such calls")


@pytest.fixture(params=["driven", "queued"])
def space(request, tmp_path, monkeypatch):
    if request.param == "queued":
        monkeypatch.setattr(driven_call, "begun", no_such_calls)
    with serving(tmp_path, limits=LIMITS) as server, ehub.connect(server.address) as hub:
        yield hub.create_space("items", dims=384, metric="l2")


def test_a_batch_in_several_messages_is_stored_whole(space):
    assert space.multiset(KEYS, ROWS) == len(ROWS)
    assert space.multiset(zip(KEYS, -ROWS, strict=True)) == len(ROWS)
    assert np.array_equal(space.multiget(KEYS), -ROWS)


def test_what_a_server_refuses_says_why_and_the_next_batch_is_taken(space):
    space.freeze()
    for _ in range(2):
        with pytest.raises(ehub.FrozenError, match="frozen"):
            space.multiset(KEYS, ROWS)


def test_messages_of_a_batch_are_sent_without_a_thread(space, monkeypatch):
    if driven_call.begun is no_such_calls:
        pytest.skip("grpcio's own streams have threads")
    here, started = threading.get_ident(), []
    start = threading.Thread.start

    def noting(self):
        if threading.get_ident() == here:
            started.append(self.name)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", noting)
    assert space.multiset(KEYS, ROWS) == len(ROWS)
    assert started == []


class Interrupt(BaseException):
    """As Ctrl-C, or the end of a task, for any thread."""


@pytest.mark.parametrize("kind", ["driven", "queued", "aio"])
@pytest.mark.parametrize(
    ("at", "breaks", "stored"),
    [(5, False, 1_000), (11, True, 3_000)],
    ids=["first sent", "sent again"],
)
def test_a_stream_that_is_interrupted_within_a_batch_ends_with_whole_ones(
    tmp_path, monkeypatch, kind, at, breaks, stored
):
    if kind == "queued":
        monkeypatch.setattr(driven_call, "begun", no_such_calls)
    made = {"driven": DrivenDuplex, "queued": QueuedDuplex, "aio": AioDuplex}[kind]
    send, receive, sent, told, broken = made.send, made.receive, [], [], []

    def interrupted(self, message):
        sent.append(message)
        if len(sent) == at:  # of three messages to a batch
            raise Interrupt
        send(self, message)

    def breaking(self):
        if breaks and not broken:
            broken.append(self)
            raise ehub.UnavailableError("broken")
        return receive(self)

    def write():
        try:
            items.multiset(zip(KEYS, ROWS, strict=True))
        except Interrupt as error:
            told.append(error)

    monkeypatch.setattr(version, "STREAM_BATCH_ROWS", 1_000)
    with (
        serving(tmp_path, limits=LIMITS) as server,
        client_of(server, "aio" if kind == "aio" else "grpc") as hub,
    ):
        items = hub.create_space("items", dims=384, metric="l2")
        with monkeypatch.context() as patched:
            patched.setattr(made, "send", interrupted)
            patched.setattr(made, "receive", breaking)
            thread = threading.Thread(target=write, daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
        assert len(told) == 1
        assert len(items) == stored
        assert items.multiset(KEYS, ROWS) == len(ROWS)


def test_a_hub_that_is_closed_ends_a_batch_that_is_on_its_way(tmp_path, monkeypatch):
    waits, done, told = threading.Event(), threading.Event(), []

    def stuck(self, *given):
        waits.set()
        done.wait(20)
        raise ehub.UnavailableError("too late")

    monkeypatch.setattr(Writing, "_write", stuck)
    with serving(tmp_path, limits=LIMITS) as server, ehub.connect(server.address) as hub:
        items = hub.create_space("items", dims=384, metric="l2")

        def write():
            try:
                items.multiset(KEYS, ROWS)
            except ehub.EhubError as error:
                told.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        assert waits.wait(10)
        hub.close()
        thread.join(10)
        done.set()
        assert [type(error) for error in told] == [ehub.ClosedError]
        with pytest.raises(ehub.ClosedError):
            items.multiset(KEYS, ROWS)
