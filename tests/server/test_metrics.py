"""What a server counts and measures, and who may ask for it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from metered import messages, metered, until, value_of, values_of
from prometheus_client.parser import text_string_to_metric_families
from served import client_of

import ehub
from ehub.access import Grant, entries
from ehub.server import http_port
from ehub.server.config import MetricsConfig, ServerConfig, Tls, read_config
from ehub.server.metrics import port as port_module
from ehub.server.metrics.rows import rows_of
from ehub.server.serve import Server
from ehub.wire import ehub_pb2 as pb
from ehub.wire import old_clients_pb2 as old
from ehub.wire.methods import BY_PATH, reader_of

DIMS = 8


def vectors(rows, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, DIMS), np.float32)


def filled(hub, rows=200, name="items"):
    items = hub.create_space(name, dims=DIMS, metric="l2")
    items.multiset([f"k{i}" for i in range(rows)], vectors(rows))
    return items


# --- calls ---


@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_calls_are_counted_by_method_and_status(tmp_path, kind):
    with metered(tmp_path / "hub") as served, client_of(served.server, kind) as hub:
        items = filled(hub)
        for query in vectors(5, seed=2):
            items.nearest_neighbors(3, vector=query)
        with pytest.raises(ehub.NotFoundError):
            items.get("nobody")
        values = served.values()

        def ended(method, code):
            return value_of(values, "ehub_calls_total", method=method, code=code)

        assert ended("Search", "OK") == 5
        assert ended("Get", "NOT_FOUND") == 1
        assert ended("CreateSpace", "OK") == 1
        for method, calls in (("Search", 5), ("Get", 1)):
            seconds = {"method": method, "service": "ehub.v1.Embeddinghub"}
            assert value_of(values, "ehub_call_duration_seconds_count", **seconds) == calls
            assert 0 < value_of(values, "ehub_call_duration_seconds_sum", **seconds) < 60
            whole = value_of(values, "ehub_call_duration_seconds_bucket", le="+Inf", **seconds)
            assert whole == calls
        assert value_of(values, "ehub_sent_rows_total", method="Search") == 15


def test_rows_and_bytes_are_counted_both_ways(tmp_path):
    rows = 1000
    with metered(tmp_path / "hub") as served, served.connect() as hub:
        items = filled(hub, rows)
        assert sum(len(keys) for keys, _ in items.scan()) == rows
        items.multidelete([f"k{i}" for i in range(10)])
        values = served.values()
        written = value_of(values, "ehub_received_rows_total", method="Write")
        assert written == rows + 10
        assert value_of(values, "ehub_sent_rows_total", method="Scan") == rows
        least = rows * DIMS * 4
        assert least < value_of(values, "ehub_received_bytes_total", method="Write") < 2 * least
        assert least < value_of(values, "ehub_sent_bytes_total", method="Scan") < 2 * least


def test_every_message_that_carries_rows_is_counted():
    """Whoever adds a message with vectors or neighbors has to say how many rows it has."""
    two = pb.Vectors(dims=2, values=bytes(16))
    keys = pb.Keys(integers=bytes(24))
    part = pb.Part(set=pb.Set(keys=keys, vectors=pb.Vectors(dims=1, values=bytes(12))))
    carried = {
        2: [pb.Rows(vectors=two), pb.SearchResponse(distances=bytes(8))],
        3: [
            pb.Rows(keys=keys),
            pb.WriteRequest(parts=[part]),
            pb.WriteRequest(parts=[pb.Part(delete=keys)]),
            pb.AverageResponse(found=bytes(24)),
            old.NearestNeighborResponse(keys=["a", "b", "c"]),
        ],
        1: [old.SetRequest(), old.MultiSetRequest(), old.DownloadResponse(), old.GetResponse()],
        0: [pb.Done(), pb.WriteRequest(parts=[pb.Part(delete_all=True)]), old.GetRequest()],
    }
    for rows, some in carried.items():
        for message in some:
            read = reader_of(type(message))(message.SerializeToString())
            assert rows_of(read) == rows, type(message)


def test_open_streams_are_seen_while_they_are_open(tmp_path):
    ingest = BY_PATH["/ehub.v1.Embeddinghub/Ingest"]
    with metered(tmp_path / "hub") as served, grpc.insecure_channel(served.address) as channel:
        over = threading.Event()
        streams = [ingest.call(channel)(messages(over)) for _ in range(2)]

        def opened(count):
            return served.value("ehub_calls_in_progress", method="Ingest", kind="stream") == count

        def ended():  # gRPC may tell that no more comes before it tells that the caller has left
            codes = ("CANCELLED", "OK")
            return sum(
                served.value("ehub_calls_total", method="Ingest", code=code) for code in codes
            )

        until(lambda: opened(2))
        streams[0].cancel()
        until(lambda: ended() == 1)
        assert opened(1)
        over.set()
        assert list(streams[1]) == []
        until(lambda: ended() == 2)
        assert opened(0)


def test_what_is_refused_malformed_or_unknown_is_counted_too(tmp_path):
    with metered(tmp_path / "hub") as served, grpc.insecure_channel(served.address) as channel:

        def called(path, request=b"", **metadata):
            call = channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as raised:
                call(request, timeout=10, metadata=list(metadata.items()))
            return raised.value.code().name

        get = "/ehub.v1.Embeddinghub/Get"
        assert called(get, b"\xff\xff\xff") == "INVALID_ARGUMENT"
        for i in range(20):
            assert called(f"/made.up/Method{i}") == "UNIMPLEMENTED"
        served.access.create_key("ops", [Grant("admin", "hub")])
        assert called(get) == "UNAUTHENTICATED"
        assert called("/made.up/Method") == "UNAUTHENTICATED"
        values = served.values()
        for code in ("INVALID_ARGUMENT", "UNAUTHENTICATED"):
            assert value_of(values, "ehub_calls_total", method="Get", code=code) == 1
            assert value_of(values, "ehub_calls_in_progress", method="Get") == 0
        unknown = {"service": "other", "method": "other"}
        assert value_of(values, "ehub_calls_total", code="UNIMPLEMENTED", **unknown) == 20
        assert value_of(values, "ehub_calls_total", code="UNAUTHENTICATED", **unknown) == 1
        assert "made.up" not in served.metrics.text(), "callers must not make series"


def test_health_checks_are_not_counted_and_still_answered(tmp_path):
    with metered(tmp_path / "hub") as served, grpc.insecure_channel(served.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(3):
            stub.Check(health_pb2.HealthCheckRequest())
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        assert not [one for one in served.values() if one[0] == "ehub_calls_total"]


def test_old_clients_are_counted_under_their_own_service(tmp_path):
    with metered(tmp_path / "hub") as served, grpc.insecure_channel(served.address) as channel:

        def call(name, request):
            method = BY_PATH[f"/featureform.embedding.proto.EmbeddingHub/{name}"]
            return method.call(channel)(request, timeout=10)

        call("CreateSpace", old.CreateSpaceRequest(name="s", dims=2))
        sent = (
            old.MultiSetRequest(space="s", key=key, embedding={"values": [1, 2]}) for key in "abc"
        )
        call("MultiSet", sent)
        service = "featureform.embedding.proto.EmbeddingHub"
        assert served.value("ehub_calls_total", service=service, method="MultiSet", code="OK") == 1
        assert served.value("ehub_received_rows_total", service=service, method="MultiSet") == 3


# --- the hub ---


def test_the_hub_says_what_it_holds_and_writes(tmp_path):
    with metered(tmp_path / "hub") as served, served.connect() as hub:
        items = filled(hub, 300)
        items.multidelete([f"k{i}" for i in range(100)])
        before = served.values()
        for i in range(10):
            items.set(f"new{i}", np.ones(DIMS, np.float32))
        values = served.values()
        of_items = {"space": "items", "version": "initial"}
        assert value_of(values, "ehub_rows", **of_items) == 210 == len(items)
        assert value_of(values, "ehub_dead_rows", **of_items) == 100
        assert value_of(values, "ehub_unindexed_rows", **of_items) == 0, "they are too few"
        assert value_of(values, "ehub_spaces") == value_of(values, "ehub_versions") == 1

        def grown(name):
            return value_of(values, name) - value_of(before, name)

        assert grown("ehub_batches_total") == 10
        # The server's own notes of what was answered go with the rows, so no write is alone.
        assert grown("ehub_log_writes_total") == 10
        assert grown("ehub_log_bytes_total") > 10 * DIMS * 4
        assert grown("ehub_sync_duration_seconds_count") == 10
        assert grown("ehub_sync_duration_seconds_sum") > 0
        assert value_of(values, "ehub_write_failed") == 0
        assert value_of(values, "ehub_hub_bytes") > 0 < value_of(values, "ehub_disk_free_bytes")
        assert value_of(values, "process_resident_memory_bytes") > 1 << 20
        assert ehub.__version__ in served.metrics.text()


def test_buckets_of_syncs_add_up(tmp_path):
    with metered(tmp_path / "hub") as served:
        filled(served.hub)
        values = served.values()
        buckets = [
            (float(labels["le"]), value)
            for name, labels, value in values
            if name == "ehub_sync_duration_seconds_bucket"
        ]
        assert buckets == sorted(buckets), "each counts what the one before does"
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), value_of(values, "ehub_sync_duration_seconds_count"))


def test_the_index_catches_up_and_checkpoints_are_seen(tmp_path):
    with metered(tmp_path / "hub", durability="off") as served:
        items = filled(served.hub, 5000)
        assert served.value("ehub_unindexed_rows", space="items") == 5000
        assert served.value("ehub_log_due_bytes") > 5000
        items.wait_indexed()
        assert served.value("ehub_unindexed_rows", space="items") == 0
        assert served.value("ehub_indexed_rows", space="items") == 5000
        assert served.value("ehub_index_bytes", space="items") > 0
        assert served.value("ehub_index_rows_per_second") > 0
        assert served.value("ehub_checkpoint_duration_seconds_count") >= 1
        assert served.value("ehub_unsealed_rows") == 0


def test_held_snapshots_are_counted_until_they_are_closed(tmp_path):
    with metered(tmp_path / "hub") as served, served.connect() as hub:
        items = filled(hub)
        with items.snapshot(), items.snapshot():
            assert served.value("ehub_snapshots_open") == 2
        until(lambda: served.value("ehub_snapshots_open") == 0)


def test_small_versions_are_one_series_and_hidden_ones_have_no_name(tmp_path):
    with metered(tmp_path / "hub", versions=2) as served:
        for i in range(5):
            filled(served.hub, 10 * (i + 1), f"s{i}")
        served.hub.get_space("s4").create_average("mean", {"g": ["k1", "k2"]})
        text = served.metrics.text()
        rows = [(labels, value) for name, labels, value in values_of(text) if name == "ehub_rows"]
        named = {labels["space"]: value for labels, value in rows}
        assert named.keys() == {"s4", "s3", ""}
        assert named["s4"], named["s3"] == (50, 40)
        assert named[""] >= 10 + 20 + 30
        assert "\0" not in text
        assert served.value("ehub_versions") == 5


def test_names_that_need_it_are_escaped(tmp_path):
    name = 'a "quoted\\name\nof two lines'
    with metered(tmp_path / "hub") as served:
        filled(served.hub, 7, name)
        assert served.value("ehub_rows", space=name) == 7


# Writes until a sync fails, and says before and after whether writing has ended.
WRITER = """
import sys
import ehub
from ehub.server.metrics.hub import HubCollector

with ehub.open(sys.argv[1]) as hub:
    def said():
        found = {one.name: one for one in HubCollector(hub, 9).collect()}
        print(found["ehub_write_failed"].samples[0].value)

    said()
    try:
        items = hub.create_space("items", dims=2)
        for i in range(100):
            items.set(f"k{i}", [1, 2])
    except (ehub.StorageError, ehub.ReadOnlyError):
        said()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_hub_that_can_no_longer_write_says_so(tmp_path):
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync"]
    command += ["-e", "inject=fdatasync:error=EIO:when=20+", sys.executable, "-c", WRITER]
    done = subprocess.run(
        [*command, str(tmp_path / "hub")], capture_output=True, text=True, timeout=100, check=False
    )
    if "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr.strip()}")
    assert done.stdout.split() == ["0.0", "1.0"], done.stderr


def test_the_readme_names_every_figure_and_no_others(tmp_path):
    readme = Path(__file__).resolve().parents[2] / "README.md"
    if not readme.exists():
        pytest.skip("installed without it")
    table = readme.read_text().partition("| figures,")[2].partition("\n\n")[0]
    named = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    with metered(tmp_path / "hub", recall_seconds=1e6) as served:
        filled(served.hub)
        families = text_string_to_metric_families(served.metrics.text())
        counted = {f"{one.name}{'_total' * (one.type == 'counter')}" for one in families}
    ours = {name.removeprefix("ehub_") for name in counted if name.startswith("ehub_")}
    assert named == ours


# --- recall ---


def indexed(hub, **options):
    items = hub.create_space("items", dims=DIMS, metric="l2", **options)
    items.multiset([f"k{i}" for i in range(6000)], vectors(6000))
    items.wait_indexed()
    return items


def test_recall_is_that_of_the_last_queries_with_their_own_k(tmp_path):
    with metered(tmp_path / "hub", durability="off", recall_seconds=1e6) as served:
        items = indexed(served.hub, M=2, ef_construction=2, ef=5)  # which misses some
        queries = vectors(25, seed=3)
        with served.connect() as hub:
            remote = hub.get_space("items")
            for query in queries:
                remote.nearest_neighbors(5, vector=query)
            remote.nearest_neighbors(5, key="k1")
            remote.nearest_neighbors(5, vector=queries[0], exact=True)
            remote.nearest_neighbors(5, vector=queries[0], filter=["k1", "k2"])
            with pytest.raises(ehub.EhubError):
                hub.get_space("nothing").nearest_neighbors(5, vector=queries[0])
        served.metrics._recall.measure()
        asked = queries[-20:]
        found = items.multi_nearest_neighbors(5, vectors=asked)
        truth = items.multi_nearest_neighbors(5, vectors=asked, exact=True)
        right = [set(a.keys) & set(b.keys) for a, b in zip(found, truth, strict=True)]
        expected = sum(map(len, right)) / 100
        assert expected < 1
        of_items = {"space": "items", "version": "initial"}
        assert served.value("ehub_recall", **of_items) == pytest.approx(expected)
        assert served.value("ehub_recall_queries", **of_items) == 20
        served.metrics._recall.measure()  # nobody has asked since
        assert served.value("ehub_recall", **of_items) == pytest.approx(expected)


def test_recall_is_measured_again_and_again_and_goes_with_its_version(tmp_path):
    with metered(tmp_path / "hub", durability="off", recall_seconds=0.05) as served:
        indexed(served.hub)
        with served.connect() as hub:
            hub.get_space("items").nearest_neighbors(10, vector=vectors(1)[0])
            assert 0.5 < until(lambda: served.value("ehub_recall", space="items")) <= 1
            hub.delete_space("items")
            assert "ehub_recall{" not in served.metrics.text()


def test_recall_is_not_measured_unless_it_is_asked_for(tmp_path):
    with metered(tmp_path / "hub") as served:
        assert len(served.metrics.watchers) == 1
        assert "ehub_recall" not in served.metrics.text()


# --- who may ask ---


def scraped(port, token=None, path="/metrics", scheme="http", **options):
    """Status, content type and body of a request."""
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10, **options) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_prometheus_is_answered_on_a_port_of_its_own(tmp_path):
    with metered(tmp_path / "hub", port=0) as served, served.connect() as hub:
        filled(hub)
        status, kind, text = scraped(served.port.port)
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        assert value_of(values_of(text), "ehub_rows", space="items") == 200
        assert scraped(served.port.port, path="/other")[0] == 404
        assert scraped(served.port.port, path="/metrics?name[]=x")[0] == 200


def test_the_rpc_has_the_same_figures(tmp_path):
    with metered(tmp_path / "hub") as served, served.connect() as hub:
        filled(hub)
        told = hub.transport.call("Metrics", pb.MetricsRequest()).text
        assert value_of(values_of(told), "ehub_rows", space="items") == 200


def test_whoever_may_not_see_the_hub_gets_no_figures(tmp_path):
    with metered(tmp_path / "hub", port=0) as served:
        filled(served.hub, name="secret")
        tokens = {
            name: served.access.create_key(name, [Grant.parse(grant)])[0]
            for name, grant in (
                ("ops", "reader on hub"),
                ("part", "admin on space:secret"),
            )
        }
        asked = {None: 401, "ehub_wrong": 401, tokens["part"]: 403, tokens["ops"]: 200}
        for token, expected in asked.items():
            status, _, text = scraped(served.port.port, token)
            assert status == expected
            assert ("secret" in text) == (status == 200)
        with (
            served.connect(token=tokens["part"]) as hub,
            pytest.raises(ehub.PermissionDeniedError),
        ):
            hub.transport.call("Metrics", pb.MetricsRequest())
        served.guard.close()
        denials = [one for one in entries(served.hub.path) if one.get("method") == "/metrics"]
        assert [one["status"] for one in denials] == [
            "UNAUTHENTICATED",
            "UNAUTHENTICATED",
            "PERMISSION_DENIED",
        ]
        assert denials[2]["principal"] == "key:part"


def test_the_port_has_the_servers_tls_and_asks_for_certificates_as_it_does(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    tls = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    with metered(tmp_path / "hub", port=0, tls=tls) as served:
        asked = {"scheme": "https", "context": context}
        assert scraped(served.port.port, **asked)[0] == 200
        with pytest.raises(OSError):  # noqa: PT011 - it may be reset or closed
            scraped(served.port.port)
        assert scraped(served.port.port, **asked)[0] == 200
    mutual = Tls(tls.certificate, tls.key, tmp_path / "ca.pem")
    with metered(tmp_path / "two", port=0, tls=mutual) as served:
        with pytest.raises(OSError):  # noqa: PT011
            scraped(served.port.port, **asked)
        authority.issue_cert("scraper").configure_cert(context)
        assert scraped(served.port.port, **asked)[0] == 200


def test_callers_that_send_nothing_leave_room_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(http_port, "PAUSE_SECONDS", 0.3)
    with metered(tmp_path / "hub", port=0) as served:
        address = ("127.0.0.1", served.port.port)
        idle = [socket.create_connection(address) for _ in range(3 * port_module.CONNECTIONS)]
        try:
            until(lambda: answers(served.port.port))
        finally:
            for one in idle:
                one.close()


def answers(port):
    try:
        return scraped(port)[0] == 200
    except OSError:  # all places are taken
        return False


def test_two_ports_cannot_be_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cannot = pytest.raises(ehub.UnavailableError, match=f"metrics at 127.0.0.1:{port}")
        with cannot, metered(tmp_path / "hub", port=port):
            pass


# --- settings ---


def test_listening_beyond_this_machine_needs_tls_and_authentication(tmp_path):
    far = MetricsConfig(port=0, host="0.0.0.0")
    with ehub.open(tmp_path / "hub") as hub:
        with pytest.raises(ehub.InvalidArgumentError, match=r"'0\.0\.0\.0'.*TLS.*authentication"):
            Server(hub, ServerConfig(port=0, metrics=far))
        Server(hub, ServerConfig(port=0, metrics=far, insecure=True)).stop(0)
        off = MetricsConfig(host="0.0.0.0")
        Server(hub, ServerConfig(port=0, metrics=off)).stop(0)


def test_the_config_file_has_a_table_for_it(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('[metrics]\nport = 9462\nhost = "::1"\nrecall_seconds = 60\n')
    told = read_config(file).metrics
    assert (told.port, told.host, told.recall_seconds) == (9462, "::1", 60)
    assert read_config(file).extra == {}
    for wrong in ("port = 'x'", "ports = 1", "versions = -1", "recall_queries = 0"):
        file.write_text(f"[metrics]\n{wrong}\n")
        with pytest.raises(ehub.InvalidArgumentError):
            read_config(file)


def test_serve_has_no_port_for_it_unless_told_and_flags_count_before_the_file(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("[metrics]\nport = 1\nversions = 0\n")
    flags = ["--config", str(file), "--metrics-port", "0", "--metrics-host", "localhost"]
    lines = served_lines(tmp_path / "one", flags, scrape)
    assert lines["metrics"].startswith("localhost:")
    text = lines["answer"]
    assert value_of(values_of(text), "ehub_spaces") == 0
    assert "_created" not in text
    lines = served_lines(tmp_path / "two", [], lambda lines: None)
    assert "metrics" not in lines


def scrape(lines):
    return scraped(re.search(r":(\d+)/metrics$", lines["metrics"])[1])[2]


def served_lines(path, flags, ask):
    """What `ehub serve` has logged, as one dict; `answer` is what was asked while it ran."""
    command = [sys.executable, "-m", "ehub.server", str(path), "--port", "0", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        told = {}
        for line in process.stderr:
            told |= json.loads(line)
            if "address" in told and ("metrics" in told or "--metrics-port" not in flags):
                break
        told["answer"] = ask(told)
        process.send_signal(signal.SIGTERM)
        for line in process.stderr:
            told |= json.loads(line)
        assert process.wait() == 0
    assert told["event"] == "closed"
    return told
