"""Snapshots that a server holds for clients: none stays that nobody could let go."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from metered import until
from served import filled, serving

import ehub
from ehub.client.transport import METHODS
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb

TARGET = pb.Target(space="items")
MEANS = pb.Target(space="items", average="profile")


@contextmanager
def names_are_taken(hub):
    """No snapshot is recorded meanwhile."""
    with hub._names_lock:
        yield


@contextmanager
def means_are_taken(hub):
    """No snapshot of the named average is taken meanwhile."""
    with hub.get_space("items").averages("profile")._kept.lock:
        yield


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as server:
        items = server.hub.create_space("items", dims=2, metric="l2")
        items.multiset(["a", "b"], np.eye(2, dtype=np.float32))
        items.create_average("profile", groups={"g": ["a", "b"]}).refresh()
        yield server


@pytest.fixture
def ended(caplog):
    """Whether a call has ended in the server."""
    with caplog.at_level(logging.DEBUG, "ehub.server.calls"):
        yield lambda: [one for one in caplog.records if one.msg == "call"]


def held(server):
    """How many times are held, that of the average's last refresh among them."""
    return server.hub._store.write_stats()["snapshots"]


ASKED = {
    "recorded": (pb.TakeSnapshotRequest(target=TARGET, message="why"), names_are_taken),
    "means": (pb.TakeSnapshotRequest(target=MEANS), means_are_taken),
}


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("end", ["deadline", "cancelled"])
def test_a_snapshot_whose_caller_has_left_before_the_answer_is_let_go_at_once(
    server, what, end, ended
):
    request, taken = ASKED[what]
    before = held(server)
    with grpc.insecure_channel(server.address) as channel:
        ask = METHODS["TakeSnapshot"].call(channel).future
        with taken(server.hub):
            call = ask(request, timeout=0.5 if end == "deadline" else None)
            time.sleep(0.2)
            if end == "cancelled":
                call.cancel()
                time.sleep(0.2)
            else:
                assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(ended, 5)
        assert held(server) == before
        answer = METHODS["TakeSnapshot"].call(channel)(request)
        assert answer.snapshot
        assert held(server) == before + (1 if what == "recorded" else 2)


def test_snapshots_that_nobody_uses_are_let_go(tmp_path):
    limits = Limits(snapshot_idle_seconds=0.2)
    with serving(tmp_path, limits=limits) as server, ehub.connect(server.address) as hub:
        items, _ = filled(hub)
        held = items.snapshot()
        time.sleep(1)
        with pytest.raises(ehub.NotFoundError, match=r"not used for 0.2 seconds"):
            len(held)
