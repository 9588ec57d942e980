"""`ehub serve` as a process: its flags and files, its health, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from served import filled

import ehub
import ehub.aio
from ehub.server.config import read_config
from ehub.server.run import stop_signals
from ehub.wire.methods import ACCESS, OLD, SERVICE


def started(path, *arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "ehub.server", str(path), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "listening":
            return process, lines[-1]["address"], lines
    raise AssertionError(lines)


def test_a_server_told_to_stop_ends_its_calls_and_closes_the_hub(tmp_path):
    process, address, _ = started(tmp_path / "hub", EMBEDDINGHUB_PORT="0")
    with process, ehub.connect(address) as hub:
        filled(hub)
        process.send_signal(signal.SIGTERM)
        events = [json.loads(line)["event"] for line in process.stderr]
        assert process.wait(30) == 0
        assert events[-1] == "closed"
        assert {"told to stop", "stopped"} <= set(events)
    with ehub.open(tmp_path / "hub") as hub:
        assert len(hub.get_space("items")) == 500


def test_a_server_tells_the_health_of_each_service_and_by_reflection_what_it_offers(tmp_path):
    process, address, _ = started(tmp_path / "hub", EMBEDDINGHUB_PORT="0")
    with process, grpc.insecure_channel(address) as channel, ExitStack() as failing:
        failing.callback(process.kill)
        health = health_pb2_grpc.HealthStub(channel)
        described = ProtoReflectionDescriptorDatabase(channel)
        offered = {one.full_name: one for one in (SERVICE, ACCESS, OLD)}
        assert set(offered) < set(described.get_services())
        for name, known in offered.items():
            file = described.FindFileContainingSymbol(name)
            told = next(one for one in file.service if one.name == known.name)
            assert [one.name for one in told.method] == [one.name for one in known.methods]
        asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", *offered)]
        well, stopping = (
            {getattr(health_pb2.HealthCheckResponse, name)} for name in ("SERVING", "NOT_SERVING")
        )
        assert {health.Check(one).status for one in asked} == well
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="ehub.v1.Other"))
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watching = [health.Watch(one, timeout=60) for one in asked]
        assert {next(one).status for one in watching} == well
        process.send_signal(signal.SIGTERM)
        assert {next(one).status for one in watching} == stopping
        for one in watching:
            one.cancel()
        process.stderr.read()
        assert process.wait(30) == 0


def test_a_signal_that_no_call_in_python_answers_ends_the_wait():
    """As one that comes just before the wait: what is blocked is not interrupted by it."""

    def signal_another_thread(number):
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        with stop_signals() as stop_signal, ThreadPoolExecutor(1) as other:
            other.submit(signal_another_thread, number)
            assert stop_signal() is number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_config_file_says_what_flags_do_not(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text(
        'port = 0\nlog_level = "debug"\n[limits]\nk = 7\n[auth]\nanonymous = ["admin on hub"]\n'
    )
    config = read_config(file)
    assert (config.port, config.limits.k, config.extra) == (
        0,
        7,
        {"auth": {"anonymous": ["admin on hub"]}},
    )
    process, address, _ = started(tmp_path / "hub", "--config", str(file))
    with process, ehub.connect(address) as hub:
        items, vectors = filled(hub)
        with pytest.raises(ehub.InvalidArgumentError, match="at most 7"):
            items.nearest_neighbors(8, vector=vectors[0])
        process.send_signal(signal.SIGINT)
        logged = process.stderr.read()
        assert process.wait(30) == 0
    assert re.search(r'"method": "Search".*"status": "INVALID_ARGUMENT"', logged)
