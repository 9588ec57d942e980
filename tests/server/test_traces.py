"""Spans of calls: whose children they are, what they say, and that nothing is needed for none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from metered import messages, metered, until
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from served import client_of

import ehub
from ehub.server.spans import SpanWatcher
from ehub.server.tracing import provider_of
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import BY_PATH

SERVICE = "ehub.v1.Embeddinghub"


class Spans:
    """A provider whose spans are kept here."""

    def __init__(self):
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    def of(self, method, count=1):
        """The spans of a method, when there are so many."""
        return until(lambda: self._of(method, count))

    def _of(self, method, count):
        found = [one for one in self._kept.get_finished_spans() if one.name.endswith(f"/{method}")]
        return found if len(found) >= count else None

    def all(self):
        return self._kept.get_finished_spans()


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture
def served(tmp_path, spans):
    with metered(tmp_path / "hub", SpanWatcher(spans.provider)) as server:
        yield server


def filled(hub, rows=50):
    items = hub.create_space("items", dims=4)
    vectors = np.random.default_rng(1).standard_normal((rows, 4), np.float32)
    items.multiset([f"key-{i}" for i in range(rows)], vectors)
    return items, vectors


@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_a_call_is_a_child_of_the_span_that_it_is_made_in(served, spans, kind):
    tracer = spans.provider.get_tracer("test")
    with client_of(served.server, kind) as hub:
        items, vectors = filled(hub)
        with tracer.start_as_current_span("caller") as caller:
            items.nearest_neighbors(3, vector=vectors[0])
            list(items.scan())
        for method in ("Search", "Scan"):
            (span,) = spans.of(method)
            assert span.context.trace_id == caller.get_span_context().trace_id
            assert span.parent.span_id == caller.get_span_context().span_id
            assert span.kind is trace.SpanKind.SERVER
        (made,) = spans.of("CreateSpace")
        assert made.parent is None


def test_context_comes_as_the_standard_has_it(served, spans):
    """Whatever client sends `traceparent` is understood, not ours alone."""
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ListSpaces")
        call(b"", metadata=[("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")], timeout=10)
        call(b"", metadata=[("traceparent", "nonsense")], timeout=10)
    first, second = spans.of("ListSpaces", 2)
    assert f"{first.context.trace_id:032x}" == "ab" * 16
    assert f"{first.parent.span_id:016x}" == "cd" * 8
    assert second.parent is None


def test_a_span_says_what_the_call_is_about_and_no_keys_or_vectors(served, spans):
    with served.connect() as hub:
        items, vectors = filled(hub)
        items.nearest_neighbors(7, vector=vectors[0])
        items.tag("before")
        with items.at("before") as then:
            then.get("key-1")
    (search,) = spans.of("Search")
    assert search.attributes["rpc.system.name"] == "grpc"
    assert search.attributes["rpc.method"] == f"{SERVICE}/Search" == search.name
    assert search.attributes["rpc.response.status_code"] == "OK"
    assert search.attributes["ehub.space"] == "items"
    assert search.attributes["ehub.k"] == 7
    (write,) = spans.of("Write")
    assert write.attributes["ehub.rows"] == 50
    for span in spans.all():
        assert "key-" not in str(dict(span.attributes))
        assert span.end_time >= span.start_time


def test_failures_of_the_server_are_errors_and_mistakes_of_callers_are_not(
    served, spans, monkeypatch
):
    with served.connect() as hub:
        items, _ = filled(hub)
        with pytest.raises(ehub.NotFoundError):
            items.get("nobody")
        monkeypatch.setattr(ehub.Hub, "info", lambda hub: 1 / 0)
        with pytest.raises(ehub.EhubError, match="internal error"):
            hub.transport.call("Info", pb.InfoRequest())
    (get,) = spans.of("Get")
    assert get.attributes["error.type"] == get.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert get.status.status_code is trace.StatusCode.UNSET
    (info,) = spans.of("Info")
    assert info.status.status_code is trace.StatusCode.ERROR


def test_what_the_service_does_is_within_the_span(served, spans, monkeypatch):
    tracer = spans.provider.get_tracer("test")
    inner = ehub.Hub.spaces

    def spaces(hub):
        with tracer.start_as_current_span("/inner"):
            return inner(hub)

    monkeypatch.setattr(ehub.Hub, "spaces", spaces)
    with served.connect() as hub:
        for _ in range(5):
            hub.transport.call("ListSpaces", pb.ListSpacesRequest())
    calls = {span.context.span_id for span in spans.of("ListSpaces", 5)}
    assert {span.parent.span_id for span in spans.of("inner", 5)} == calls


def test_a_span_ends_with_its_stream(served, spans):
    over = threading.Event()
    with grpc.insecure_channel(served.address) as channel:
        stream = BY_PATH[f"/{SERVICE}/Ingest"].call(channel)(messages(over))
        until(lambda: served.value("ehub_calls_in_progress", method="Ingest") == 1)
        assert spans.all() == ()
        over.set()
        assert list(stream) == []
    (span,) = spans.of("Ingest")
    assert span.attributes["rpc.response.status_code"] == "OK"


def test_unknown_methods_have_one_name(served, spans):
    with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/made.up/Method")(b"", timeout=10)
    (span,) = until(spans.all)
    assert span.name == span.attributes["rpc.method"] == "_OTHER"
    assert span.attributes["rpc.method_original"] == "/made.up/Method"


# --- what is there, and what is told ---

BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
"""
UNTRACED = """
import ehub, sys
from ehub.server.config import ServerConfig
from ehub.server.serve import Server
from ehub.server.service import service
from ehub.server.tracing import tracing

traces, end = tracing()
assert traces == [], traces
config = ServerConfig(port=0)
with ehub.open(sys.argv[1]) as hub, Server(hub, config, [service(hub, config.limits)]) as server:
    with ehub.connect(server.address) as remote:
        remote.create_space("items", dims=2).set("a", [1, 2])
end()
assert not [name for name in sys.modules if name.startswith("opentelemetry.")], sys.modules
"""


def run(script, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


def test_without_opentelemetry_nothing_is_imported_or_missing(tmp_path):
    done = run(BLOCKED + UNTRACED, tmp_path / "hub", OTEL_TRACES_EXPORTER="otlp")
    assert done.returncode == 0, done.stderr


def test_a_client_of_a_program_that_does_not_trace_imports_nothing(tmp_path):
    script = UNTRACED.replace("traces, end = tracing()", "traces, end = [], lambda: None")
    done = run(script, tmp_path / "hub")
    assert done.returncode == 0, done.stderr


def test_an_exporter_that_is_not_installed_is_said_at_the_start(tmp_path):
    with pytest.raises(ehub.InvalidArgumentError, match="OTEL_TRACES_EXPORTER names 'nobody'"):
        provider_of(["nobody"])
    command = [sys.executable, "-m", "ehub.server", str(tmp_path / "hub"), "--port", "0"]
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "nobody"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install 'ehub[traces]'" in done.stderr


@contextmanager
def serving(path, **told):
    """`ehub serve` in such an environment, until the end of the block: its process, its address."""
    command = [sys.executable, "-m", "ehub.server", str(path), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name[:5] != "OTEL_"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | told,
    ) as process:
        try:
            line = next(line for line in process.stderr if '"address"' in line)
            yield process, json.loads(line)["address"]
        finally:
            process.kill()


def ended(process):
    """What a server has written when it was told to stop and has done so."""
    process.send_signal(signal.SIGTERM)
    written = process.communicate(timeout=60)
    assert process.returncode == 0
    return written


@pytest.mark.parametrize("exporter", ["console", ""])
def test_serve_sends_spans_where_the_environment_says(tmp_path, exporter):
    told = {"OTEL_TRACES_EXPORTER": exporter} if exporter else {}
    with serving(tmp_path / "hub", **told) as (process, address):
        with ehub.connect(address) as hub:
            assert hub.spaces() == []
        out, _ = ended(process)
    if exporter:
        assert f'"name": "{SERVICE}/ListSpaces"' in out
        assert '"service.name": "ehub"' in out
    else:
        assert out == ""


# --- a receiver of OTLP ---


class Collector(TraceServiceServicer):
    """Where spans go by OTLP, as a collector takes them; `refuses` so many times before it does."""

    def __init__(self, refuses=0):
        self.received = []
        self._refuses = refuses
        self._server = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request, context):
        if self._refuses:
            self._refuses -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "come back later")
        self.received += request.resource_spans
        return collector.ExportTraceServiceResponse()

    @property
    def environment(self):
        """What tells a program to send its spans here."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }

    def spans(self):
        """All spans."""
        return [
            span for sent in self.received for scope in sent.scope_spans for span in scope.spans
        ]

    def services(self):
        """The names of the services that sent them."""
        return {
            attribute.value.string_value
            for sent in self.received
            for attribute in sent.resource.attributes
            if attribute.key == "service.name"
        }

    def close(self):
        self._server.stop(0)


def attributes_of(span):
    return {one.key: one.value for one in span.attributes}


@pytest.mark.parametrize("refuses", [0, 1])
def test_a_collector_gets_each_call_as_a_span_before_the_server_has_ended(tmp_path, refuses):
    received = Collector(refuses)
    try:
        with serving(tmp_path / "hub", **received.environment) as (process, address):
            with ehub.connect(address) as hub:
                items, vectors = filled(hub)
                for vector in vectors[:5]:
                    items.nearest_neighbors(3, vector=vector)
                with pytest.raises(ehub.NotFoundError):
                    items.get("nobody")
            with grpc.insecure_channel(address) as channel:
                call = channel.unary_unary(f"/{SERVICE}/ListSpaces")
                call(b"", metadata=[("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")], timeout=10)
            ended(process)
    finally:
        received.close()
    assert received.services() == {"ehub"}
    spans = {span.name: span for span in received.spans()}
    counts = Counter(span.name for span in received.spans())
    assert counts[f"{SERVICE}/Search"] == 5
    assert counts[f"{SERVICE}/CreateSpace"] == counts[f"{SERVICE}/ListSpaces"] == 1
    listed, get = spans[f"{SERVICE}/ListSpaces"], spans[f"{SERVICE}/Get"]
    assert (listed.trace_id.hex(), listed.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert attributes_of(get)["error.type"].string_value == "NOT_FOUND"
    search = attributes_of(spans[f"{SERVICE}/Search"])
    assert search["ehub.space"].string_value == "items"
    assert search["ehub.k"].int_value == 3
    for span in received.spans():
        assert span.kind == span.SPAN_KIND_SERVER
        assert span.start_time_unix_nano <= span.end_time_unix_nano


def test_calls_go_on_while_there_is_no_collector(tmp_path):
    received = Collector()
    received.close()
    with serving(tmp_path / "hub", **received.environment) as (process, address):
        with ehub.connect(address) as hub:
            items, vectors = filled(hub)
            assert len(items.nearest_neighbors(3, vector=vectors[0])) == 3
        ended(process)
