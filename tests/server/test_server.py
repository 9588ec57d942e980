"""A server's life: where it listens, how it is trusted, what it limits, what it tells."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from metered import until
from served import client_of, filled, serving

import ehub
import ehub.aio
from ehub.client.remote_hub import RemoteHub
from ehub.client.remote_space import RemoteSpace
from ehub.client.remote_version import RemoteVersion
from ehub.client.subindices import RemoteSubIndex
from ehub.client.transport import METHODS, ClientTls, Transport
from ehub.server import reading
from ehub.server.config import Limits, ServerConfig, Tls
from ehub.server.metrics.metrics import Metrics
from ehub.server.serve import Server
from ehub.server.service import Embeddinghub, service
from ehub.wire import ehub_pb2 as pb

# --- the same API ---


@pytest.mark.parametrize(
    ("remote", "embedded"),
    [
        (RemoteHub, ehub.Hub),
        (RemoteSpace, ehub.Space),
        (RemoteVersion, ehub.Version),
        (RemoteSubIndex, ehub.SubIndex),
    ],
)
def test_remote_classes_have_the_signatures_of_embedded_ones(remote, embedded):
    for name, member in inspect.getmembers(embedded, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(remote, name))
            assert parameters(ours) == parameters(inspect.signature(member)), name


def parameters(signature):
    return [(one.name, one.kind, one.default) for one in signature.parameters.values()]


def test_the_asyncio_client_has_every_public_method():
    for embedded, mirror in ehub.aio.MIRRORS:
        public = {name for name in dir(embedded) if not name.startswith("_")}
        assert public <= set(dir(mirror))
        for name, member in inspect.getmembers(embedded, inspect.isfunction):
            if name in public:
                ours = inspect.signature(getattr(mirror, name))
                assert parameters(ours) == parameters(inspect.signature(member)), name


# --- connecting ---


def test_a_connection_that_fails_says_what_to_check():
    with pytest.raises(ehub.UnavailableError, match=r"check: is a server running.*TLS"):
        ehub.connect("127.0.0.1:1", retry_seconds=0.1)


@pytest.fixture
def tried(monkeypatch):
    """The names of the calls that were tried, once it is cleared."""
    names, tried = [], Transport._tried

    def noted(transport, name, request):
        names.append(name)
        return tried(transport, name, request)

    monkeypatch.setattr(Transport, "_tried", noted)
    return names


@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_a_call_waits_for_a_server_that_is_gone_and_is_sent_once_it_is_back(tmp_path, kind, tried):
    with serving(tmp_path) as first:
        port = first.port
        with client_of(first, kind, retry_seconds=60) as hub, ThreadPoolExecutor(1) as threads:
            tried.clear()
            first.stop()
            spaces = threads.submit(hub.spaces)
            time.sleep(1)
            first.hub.close()
            with serving(tmp_path, port=port):
                assert spaces.result(30) == []
    assert tried == ["ListSpaces"] * 2


def test_a_hub_that_is_closed_while_a_call_waits_for_a_server_ends_the_call(tmp_path):
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        hub = ehub.connect(server.address, retry_seconds=60)
        server.stop()
        spaces = threads.submit(hub.spaces)
        time.sleep(0.5)
        hub.close()
        with pytest.raises(ehub.ClosedError):
            spaces.result(30)


@pytest.mark.parametrize("kind", ["grpc", "aio"])
def test_what_can_be_done_in_one_call_is_one(tmp_path, kind, tried):
    with serving(tmp_path) as server, client_of(server, kind) as hub:
        _, vectors = filled(server.hub)
        items = hub.get_space("items")
        for call in (
            lambda: items.nearest_neighbors(3, vector=vectors[0]),
            lambda: items.nearest_neighbors(3, key="k0", filter=["k1", "k2"]),
            lambda: items.multi_nearest_neighbors(3, vectors=vectors[:9]),
            lambda: items.multiget(["k0", "k1"]),
            lambda: items.average(["k0", "k1"]),
            lambda: items.multidelete(["k0", "k1"]),
        ):
            tried.clear()
            call()
            assert len(tried) == 1, tried
        tried.clear()
        items.nearest_neighbors(3, vector=vectors[0], filter=lambda key: key.endswith("7"))
        assert tried == ["Describe", "Search"]  # and a scan, which is a stream


def test_old_names_connect_too(tmp_path):
    with serving(tmp_path) as server, ehub.connect(ehub.Config("127.0.0.1", server.port)) as hub:
        assert hub.spaces() == []


@pytest.mark.parametrize("kind", ["grpc", "aio"])
@pytest.mark.parametrize("mutual", [False, True])
def test_tls_and_mutual_tls(tmp_path, kind, mutual):
    tls, trust = certificates(tmp_path, mutual)
    with serving(tmp_path / "hub", tls=tls) as server:
        with client_of(server, kind, tls=trust) as hub:
            assert hub.spaces() == []
        wrong = {r"wants TLS: connect with tls=": None}
        if mutual:
            bare = replace(trust, certificate=None, key=None)
            wrong[r"does it want a certificate of yours"] = bare
        for said, given in wrong.items():
            with (
                pytest.raises(ehub.UnavailableError, match=said),
                client_of(server, kind, tls=given, retry_seconds=0.1),
            ):
                pass


def certificates(path, mutual):
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.com")
    ca = path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    files = {}
    for name, made in (("server", ours), ("client", theirs)):
        made.private_key_pem.write_to_path(path / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(path / f"{name}.pem")
        files[name] = path / f"{name}.pem", path / f"{name}.key"
    trust = ClientTls(ca, *(files["client"] if mutual else ()))
    return Tls(*files["server"], ca if mutual else None), trust


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("certificate", "the certificate"),
        ("key", "the private key"),
        ("client_ca", "the clients' CA"),
    ],
)
def test_a_file_of_tls_that_is_missing_is_told(tmp_path, part, what):
    tls, _ = certificates(tmp_path, True)
    missing = tmp_path / "missing.pem"
    config = ServerConfig(port=0, tls=replace(tls, **{part: missing}))
    with (
        ehub.open(tmp_path / "hub") as hub,
        pytest.raises(ehub.InvalidArgumentError, match=rf"{what} for TLS cannot be .*{missing}"),
    ):
        Server(hub, config)


def test_listening_beyond_this_machine_needs_tls_and_authentication(tmp_path):
    class Authenticates(grpc.ServerInterceptor):
        authenticates = True

        def intercept_service(self, continuation, details):
            return continuation(details)

    tls, _ = certificates(tmp_path, False)
    with ehub.open(tmp_path / "hub") as hub:
        for told in ({}, {"tls": tls}):
            with pytest.raises(ehub.InvalidArgumentError, match="authentication"):
                Server(hub, ServerConfig(host="0.0.0.0", port=0, **told))
        with pytest.raises(ehub.InvalidArgumentError, match="TLS"):
            Server(hub, ServerConfig(host="0.0.0.0", port=0), (), [Authenticates()])
        for told, interceptors in (({"insecure": True}, []), ({"tls": tls}, [Authenticates()])):
            Server(hub, ServerConfig(host="0.0.0.0", port=0, **told), (), interceptors).stop(0)


def test_a_port_that_is_taken_is_an_error_that_says_so(tmp_path):
    with (
        serving(tmp_path / "a") as server,
        ehub.open(tmp_path / "b") as hub,
        pytest.raises(ehub.UnavailableError, match="another process may have the port"),
    ):
        Server(hub, ServerConfig(port=server.port))


# --- limits and time ---


def test_what_is_beyond_a_limit_is_refused_by_name(tmp_path):
    limits = Limits(rows=100, k=50, batch_bytes=4096, message_bytes=1 << 20, snapshots=2)
    with serving(tmp_path, limits=limits) as server, ehub.connect(server.address) as hub:
        items, vectors = filled(hub, 60)
        with pytest.raises(ehub.InvalidArgumentError, match="its limit `k`"):
            items.nearest_neighbors(51, vector=vectors[0])
        with pytest.raises(ehub.InvalidArgumentError, match="its limit `rows`"):
            items.multiget(range_keys(101), default=None)
        with pytest.raises(ehub.InvalidArgumentError, match="larger than max"):
            items.multidelete(range_keys(200_000))
        with pytest.raises(ehub.InvalidArgumentError, match="the server's limit `batch_bytes`"):
            items.multiset((f"n{i}", vectors[0]) for i in range(5_000))
        held = [items.snapshot() for _ in range(2)]
        with pytest.raises(ehub.UnavailableError, match="its limit `snapshots`"):
            items.snapshot()
        held[0].close()
        items.snapshot().close()
        assert len(items) == 60


def range_keys(count):
    return [f"n{i}" for i in range(count)]


def test_too_many_streams_are_refused_and_one_reader_costs_others_nothing(tmp_path):
    limits = Limits(streams=1, calls=4)
    with serving(tmp_path, limits=limits) as server, ehub.connect(server.address) as hub:
        items, vectors = filled(hub, 60_000, 64)
        slow = items.scan(1000)
        next(slow)
        with (
            ehub.connect(server.address, retry_seconds=0) as other,
            pytest.raises(ehub.UnavailableError, match="its limit `streams`"),
        ):
            list(other.get_space("items").scan())
        assert len(items.nearest_neighbors(3, vector=vectors[0])) == 3
        assert sum(len(keys) for keys, _ in slow) == 59_000


def test_a_deadline_is_kept(tmp_path):
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        items, vectors = filled(hub, 20_000, 64)
        hub._link.transport.options = replace(hub.transport.options, timeout_seconds=1e-4)
        with pytest.raises(ehub.DeadlineError):
            items.multi_nearest_neighbors(10, vectors=vectors[:1000], exact=True)


@pytest.mark.parametrize("leaves", ["cancelled", "late"])
def test_a_search_that_nobody_waits_for_ends(tmp_path, caplog, monkeypatch, leaves):
    begun, vectors = threading.Event(), np.ones((60_000, 64), np.float32)
    make = reading.stop_of
    monkeypatch.setattr(reading, "stop_of", lambda context: begun.set() or make(context))
    whole = [("grpc.max_send_message_length", -1)]
    with (
        serving(tmp_path) as server,
        caplog.at_level(logging.DEBUG, "ehub.server.calls"),
        grpc.insecure_channel(server.address, whole) as channel,
    ):
        items = server.hub.create_space("items", dims=64, metric="l2", key_type="int")
        items.multiset(np.arange(len(vectors)), vectors)
        request = search_of(pb.Target(space="items"), vectors[:50_000].tobytes(), 64)
        request.options.exact = True
        late = 1 if leaves == "late" else None
        call = METHODS["Search"].call(channel).future(request, timeout=late)
        assert begun.wait(10)
        if leaves == "cancelled":
            call.cancel()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result()
        while not (ends := [one.status for one in caplog.records if one.msg == "call"]):
            time.sleep(0.01)
        assert ends == ["DEADLINE_EXCEEDED"]


def test_kmeans_ends_when_its_caller_has_left(tmp_path):
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        items, _ = filled(server.hub)
        steps = []

        class Context:
            def time_remaining(self):
                steps.append("asked")
                return None if len(steps) < 3 else 0.0

            def is_active(self):
                return True

        request = pb.KMeansRequest(target=pb.Target(space=items.name), k=8, iterations=100)
        embeddinghub = Embeddinghub(server.hub, Limits(), Metrics(server.hub))
        with pytest.raises(ehub.DeadlineError):
            embeddinghub.KMeans(request, Context())
        assert len(steps) == 3
        assert hub.get_space("items").kmeans(8, iterations=2).iterations <= 2


def test_what_takes_long_ends_when_its_caller_has_left(tmp_path):
    class Left:
        def time_remaining(self):
            return 0.0

        def is_active(self):
            return False

        def add_callback(self, callback):
            return False

    with serving(tmp_path) as server:
        items, _ = filled(server.hub, 20_000, 8)
        server.hub.checkpoint()
        items.multidelete(list(items.keys()[:5]))
        before = items.stats()
        embeddinghub = Embeddinghub(server.hub, Limits(), Metrics(server.hub))
        target = pb.Target(space=items.name)
        with pytest.raises(ehub.DeadlineError):
            embeddinghub.Compact(pb.CompactRequest(target=target), Left())
        assert items.stats() == before
        with pytest.raises(ehub.DeadlineError):
            embeddinghub.Verify(pb.VerifyRequest(), Left())
        with pytest.raises(ehub.DeadlineError):
            embeddinghub.MeasureRecall(
                pb.MeasureRecallRequest(target=target, k=3, sample=5), Left()
            )


def test_a_reader_that_leaves_ends_the_scan(tmp_path):
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        items, _ = filled(hub, 60_000, 64)
        scan = items.scan(1000)
        next(scan)
        del scan
        assert len(items) == 60_000


def test_bad_messages_are_typed_errors(tmp_path):
    target = pb.Target(space="items")
    torn = pb.Keys(utf8="é".encode(), lengths=b"\x01\x00\x01\x00")
    lies = pb.Keys(utf8=b"abc", lengths=b"\x09\x00")
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        filled(hub)
        bad = [
            ("Get", pb.GetRequest(target=target, keys=torn)),
            ("Get", pb.GetRequest(target=target, keys=lies)),
            ("Get", pb.GetRequest(target=target, keys=pb.Keys(integers=b"\0" * 8))),
            ("Search", search_of(target, b"\0\0\0", 8)),
            ("Search", search_of(target, b"\0" * 32, 0)),
            ("Write", pb.WriteRequest()),
            ("Write", pb.WriteRequest(parts=[pb.Part(target=target)])),
            ("Average", pb.AverageRequest(target=target, begins=b"\1" * 16)),
        ]
        for name, request in bad:
            with pytest.raises(ValueError, match=r"\w"):
                hub.transport.call(name, request)
        with (
            grpc.insecure_channel(server.address) as channel,
            pytest.raises(grpc.RpcError) as failed,
        ):
            channel.unary_unary(METHODS["Get"].path)(b"\xff\xff\xff")
        assert failed.value.code() is not grpc.StatusCode.OK
        assert len(hub.get_space("items")) == 500


def search_of(target, values, dims):
    return pb.SearchRequest(
        target=target, vectors=pb.Vectors(dims=dims, values=values), options=pb.SearchOptions(k=1)
    )


def test_a_task_that_is_cancelled_cancels_its_call(tmp_path):
    async def search(address):
        async with await ehub.aio.connect(address) as hub:
            items = await hub.get_space("items")
            vectors = np.ones((2_000, 64), np.float32)
            task = asyncio.create_task(
                items.multi_nearest_neighbors(10, vectors=vectors, exact=True)
            )
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await items.count()

    with serving(tmp_path) as server:
        with ehub.connect(server.address) as hub:
            filled(hub, 20_000, 64)
        assert asyncio.run(search(server.address)) == 20_000


# --- what callers see ---


def test_callers_are_not_told_where_the_hub_is(tmp_path):
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        hub.create_space("items", dims=2)
        with pytest.raises(ehub.NotFoundError, match=r"^there is no space 'none'$"):
            hub.get_space("none")
        with pytest.raises(ehub.ExistsError, match=r"^space 'items' exists already$"):
            hub.create_space("items", dims=2)


@pytest.mark.parametrize("deletes", ["space", "version"])
def test_what_was_deleted_is_held_by_no_server(tmp_path, deletes):
    def mapped():
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        hub.create_space("other", dims=2)
        doomed = hub.create_space("items", dims=64).create_version("v")
        before = mapped()
        doomed.multiset([f"k{i}" for i in range(2_000)], np.ones((2_000, 64), np.float32))
        hub.checkpoint()
        assert len(hub.get_space("items").version("v")) == 2_000
        assert mapped() > before
        if deletes == "space":
            hub.delete_space("items")
        else:
            hub.get_space("items").delete_version("v")
        server.hub.checkpoint()
        assert until(lambda: mapped() <= before)


def test_a_mistake_of_ours_tells_the_caller_nothing_but_a_number(tmp_path, caplog, monkeypatch):
    def mistaken(space):
        raise RuntimeError("secret")

    with ehub.open(tmp_path) as hub:
        config = ServerConfig(port=0)
        made = service(hub, config.limits)
        with Server(hub, config, [made]) as server, ehub.connect(server.address) as client:
            client.create_space("items", dims=2)
            monkeypatch.setattr(ehub.Space, "versions", mistaken)
            with pytest.raises(ehub.EhubError, match=r"^an internal error, [0-9a-f]{12}") as failed:
                client.get_space("items").versions()
        assert "secret" not in str(failed.value)
    assert any(record.message == "internal error" for record in caplog.records)
