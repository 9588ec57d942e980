"""A server ends long calls, such as optimize, when their caller has left, or their time is over."""

from __future__ import annotations

import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from held_up import held_up, is_waited_for
from indexed import SEGMENT_DIMS as DIMS
from indexed import SEGMENT_ROWS as ROWS
from indexed import embeddings, make_two_segments
from metered import until
from served import serving

import ehub
from ehub.client.transport import METHODS
from ehub.wire import ehub_pb2 as pb

TARGET = pb.Target(space="items")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_two_segments(tmp_path_factory.mktemp("stopped") / "hub")


@pytest.fixture
def server(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "hub")
    with serving(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def ends(caplog):
    """How calls have ended in the server."""
    with caplog.at_level(logging.DEBUG, "ehub.server.calls"):
        yield lambda: [one.status for one in caplog.records if one.msg == "call"]


def is_building(items):
    return items.index_stats().rows_building > 0


def test_an_optimize_whose_time_is_over_ends_in_the_server_too(server, ends):
    items = server.hub.get_space("items")
    with ehub.connect(server.address) as hub:
        remote = hub.get_space("items")
        hub._link.transport.options = replace(hub.transport.options, timeout_seconds=0.5)
        with pytest.raises(ehub.DeadlineError):
            remote.optimize()
    until(lambda: "DEADLINE_EXCEEDED" in ends(), 1.5)
    assert not is_building(items)
    time.sleep(0.5)  # nobody begins anew
    assert not is_building(items)
    assert items.index_stats().segments == 2
    items.optimize()
    assert items.index_stats().segments == 1


@pytest.mark.parametrize("method", ["Optimize", "WaitIndexed"])
def test_a_call_that_is_cancelled_ends_in_the_server_too(server, ends, method):
    items = server.hub.get_space("items")
    items.multiset(np.arange(2 * ROWS, 3 * ROWS), embeddings(3, ROWS, DIMS))  # for WaitIndexed
    request = {"Optimize": pb.OptimizeRequest, "WaitIndexed": pb.WaitIndexedRequest}[method]
    with grpc.insecure_channel(server.address) as channel:
        call = METHODS[method].call(channel).future(request(target=TARGET))
        until(lambda: is_building(items), 30)
        assert not ends()
        call.cancel()
        until(ends, 1.5)
    assert ends() == ["DEADLINE_EXCEEDED"]
    items.wait_indexed()
    assert items.index_stats().rows_indexed == 3 * ROWS


@pytest.mark.parametrize("method", ["Checkpoint", "Verify"])
def test_who_has_left_does_not_wait_for_the_check_of_another(server, ends, method):
    request = {"Checkpoint": pb.CheckpointRequest, "Verify": pb.VerifyRequest}[method]
    with ThreadPoolExecutor(1) as threads, grpc.insecure_channel(server.address) as channel:
        with held_up(Path(server.hub.path, "CURRENT")) as lease:
            check = threads.submit(server.hub.verify)
            until(lambda: is_waited_for(lease), 10)
            call = METHODS[method].call(channel).future(request())
            time.sleep(0.3)
            assert not ends()
            call.cancel()
            until(ends, 1.5)
            assert not check.done()
        assert check.result(10).ok
    assert ends() == ["DEADLINE_EXCEEDED"]
