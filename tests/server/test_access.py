"""Over the wire: everybody gets what their grants say, in every read and write, and it is told."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import pytest
from guarded import METHODS, bearer, guarded

import ehub
from ehub.access import Access, AuthSettings, Grant, check, entries
from ehub.client.transport import ClientTls
from ehub.server import checked_call
from ehub.server.config import ServerConfig, Tls
from ehub.server.interceptor import AccessInterceptor
from ehub.server.serve import Server
from ehub.server.service import service
from ehub.wire import ehub_pb2 as pb
from ehub.wire import old_clients_pb2 as old
from ehub.wire.methods import OLD, methods_of
from ehub.wire.packing import pack_array, vectors_message

DENIED = grpc.StatusCode.PERMISSION_DENIED

# --- lists ---


def test_lists_show_what_may_be_seen(tmp_path):
    grants = [("a", "reader on space:a*"), ("part", "reader on space:b/partition:x"), ("none",)]
    with guarded(tmp_path / "hub", grants) as served:
        for name in ("a1", "a2", "b", "c"):
            served.hub.create_space(name, dims=2)
        assert served.connect("a").spaces() == ["a1", "a2"]
        assert served.connect("part").spaces() == ["b"]
        assert served.connect("none").spaces() == []
        assert served.connect().spaces() == ["a1", "a2", "b", "c"]
        assert "c" not in served.connect("a")


# --- partitions: a filter inside every read ---


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Rows in the partitions us, uk and eu; keys name theirs, eu's vectors are far off."""
    grants = [
        ("u", "reader on space:items/partition:u*"),
        ("us", "writer on space:items/partition:us"),
        ("empty", "reader on space:items/partition:none"),
    ]
    with guarded(tmp_path_factory.mktemp("parts") / "hub", grants) as served:
        items = served.hub.create_space("items", dims=2, metric="l2")
        for number, name in enumerate(("us", "uk", "eu")):
            rows = np.arange(20, dtype=np.float32).reshape(10, 2) + 1_000 * number
            items.multiset([f"{name}-{i}" for i in range(10)], rows, partition=name)
        items.multiset(["none-1"], [[7, 7]])
        items.tag("then")
        items.create_average("all", {"g": ["us-1", "eu-1"]})
        yield served


def mine(keys):
    found = [str(key) for key in keys]
    assert [key for key in found if not key.startswith(("us-", "uk-"))] == []
    return len(found)


def test_searches_find_rows_of_the_callers_partitions_alone(parts):
    items = parts.connect("u").get_space("items")
    q = np.array([2_000, 2_000], np.float32)  # right among the rows of eu
    for exact in (False, True):
        assert mine(items.nearest_neighbors(100, vector=q, exact=exact).keys) == 20
        found = items.multi_nearest_neighbors(100, vectors=np.stack([q, q]), exact=exact)
        assert [mine(one.keys) for one in found] == [20, 20]
        assert mine(items.nearest_neighbors(100, key="us-1", exact=exact).keys) == 19
    assert mine(items.nearest_neighbors(9, vector=q, filter=["eu-1", "us-1", "none-1"]).keys) == 1
    assert mine(items.recommend(100, positive=["us-1"]).keys) == 19
    assert mine(items.nearest_neighbors(9, vector=q, partition="uk").keys) == 9


def test_reads_by_key_scans_and_counts_see_the_callers_partitions_alone(parts):
    items = parts.connect("u").get_space("items")
    assert len(items) == 20
    assert mine(items) == mine(items.keys()) == mine(items.to_numpy()[0]) == 20
    assert sum(mine(keys) for keys, _ in items.scan(3)) == 20
    assert items.partitions() == {"us": 10, "uk": 10}
    assert "eu-1" not in items
    assert "none-1" not in items
    _, found = items.multiget(["us-1", "eu-1", "none-1"], default=None)
    assert found.tolist() == [True, False, False]
    for key in ("eu-1", "none-1"):
        for read in (items.get, lambda key: items.multiget([key]), items.partition("us").get):
            with pytest.raises(ehub.NotFoundError):
                read(key)
        with pytest.raises(ehub.NotFoundError):
            items.nearest_neighbors(1, key=key)
        with pytest.raises(ehub.NotFoundError):
            items.recommend(1, positive=[key])


def test_averages_and_clusters_are_of_the_callers_rows_alone(parts):
    items = parts.connect("u").get_space("items")
    assert set(items.partition_averages()) == {"us", "uk"}
    with pytest.raises(ehub.NotFoundError):
        items.average(["us-1", "eu-1"])
    means, found = items.multi_average({"g": ["us-1", "eu-1"]}, default=None)
    assert found.tolist() == [1]
    assert means[0].tolist() == items.get("us-1").tolist()
    clusters = items.kmeans(2)
    assert clusters.rows == 20
    assert clusters.centroids.max() < 1_500
    for read in (lambda: items.averages("all").get("g"), lambda: list(items.averages("all"))):
        with pytest.raises(ehub.PermissionDeniedError):
            read()


def test_points_in_time_are_filtered_alike(parts):
    items = parts.connect("u").get_space("items")
    for view in (items.snapshot(), items.at("then")):
        assert mine(view) == len(view) == 20
        assert mine(view.nearest_neighbors(100, vector=[2_000, 2_000]).keys) == 20
        with pytest.raises(ehub.NotFoundError):
            view.get("eu-1")
        view.close()
    with pytest.raises(ehub.PermissionDeniedError):
        items.diff("then")


def test_a_partition_that_is_not_the_callers_is_denied_whether_it_is_there_or_not(parts):
    items = parts.connect("u").get_space("items")
    for name in ("eu", "nowhere"):
        for read in (
            lambda name=name: len(items.partition(name)),
            lambda name=name: items.nearest_neighbors(1, vector=[0, 0], partition=name),
            lambda name=name: items.nearest_neighbors(1, vector=[0, 0], partition=["us", name]),
        ):
            with pytest.raises(ehub.PermissionDeniedError):
                read()


def test_a_partition_may_be_named_in_neither_list(parts):
    for lists in ({"partitions": ["us"], "and_partitions": ["eu"]}, {"and_partitions": ["eu"]}):
        request = pb.CountRequest(target=pb.Target(space="items", **lists))
        assert parts.refusal("Count", request, parts.tokens["u"])[0] is DENIED
    both = pb.Target(space="items", partitions=["us", "uk"], and_partitions=["uk"])
    assert parts.call("Count", pb.CountRequest(target=both), parts.tokens["u"]).count == 10


def test_a_partition_that_is_the_callers_and_has_no_rows_is_missing(parts):
    items = parts.connect("empty").get_space("items")
    with pytest.raises(ehub.NotFoundError):
        len(items)
    with pytest.raises(ehub.NotFoundError):
        len(items.partition("none"))


def test_figures_of_all_rows_need_the_whole_space(parts):
    items = parts.connect("u").get_space("items")
    for read in (items.stats, items.index_stats, items.measure_recall):
        with pytest.raises(ehub.PermissionDeniedError):
            read()


# --- writing in partitions ---


def test_a_writer_of_a_partition_writes_and_deletes_there_alone(tmp_path):
    grants = [("us", "writer on space:items/partition:us")]
    with guarded(tmp_path / "hub", grants) as served:
        own = served.hub.create_space("items", dims=2, metric="l2")
        own.multiset(["eu-1", "eu-2"], [[1, 1], [2, 2]], partition="eu")
        own.multiset(["none-1"], [[3, 3]])
        items = served.connect("us").get_space("items")
        items.multiset(["us-1", "us-2"], [[5, 5], [6, 6]], partition="us")
        items.set("us-1", [7, 7], partition="us")
        assert items.get("us-1").tolist() == [7, 7]
        for write in (
            lambda: items.set("x", [0, 0]),
            lambda: items.set("x", [0, 0], partition="eu"),
            lambda: items.multiset(["x", "y"], [[0, 0]] * 2, partition=["us", "eu"]),
            lambda: items.set("eu-1", [0, 0], partition="us"),
            lambda: items.set("none-1", [0, 0], partition="us"),
            lambda: items.multiset(["us-1", "eu-1"], [[0, 0]] * 2, partition="us"),
            lambda: items.multiset(((f"eu-{i}", [0, 0]) for i in range(3)), partition="us"),
            lambda: items.delete("us-1"),
            lambda: items.delete_all(),
            lambda: items.partition("eu").delete("eu-1"),
            lambda: items.partition("eu").delete_all(),
            lambda: items.create_average("a", {"g": ["us-1"]}),
            lambda: items.restore("then"),
        ):
            with pytest.raises(ehub.PermissionDeniedError):
                write()
        assert own.partitions() == {"eu": 2, "us": 2}
        assert own.get("us-1").tolist() == [7, 7]
        assert items.partition("us").multidelete(["us-1", "eu-1", "none-1"]) == 1
        assert items.partition("us").delete_all() == 1
        assert sorted(own) == ["eu-1", "eu-2", "none-1"]


def test_a_key_that_another_sets_elsewhere_at_the_same_moment_stays_there(tmp_path, monkeypatch):
    grants = [("us", "writer on space:items/partition:us")]
    with guarded(tmp_path / "hub", grants) as served:
        own = served.hub.create_space("items", dims=2, metric="l2")
        own.multiset(["us-1"], [[1, 1]], partition="us")
        look = checked_call.require_own

        def look_and_be_overtaken(table, *rest):
            look(table, *rest)
            if "new" not in own:
                own.set("new", [5, 5], partition="eu")

        monkeypatch.setattr(checked_call, "require_own", look_and_be_overtaken)
        items = served.connect("us").get_space("items")
        with pytest.raises(ehub.PermissionDeniedError, match="would move it"):
            items.multiset(["us-1", "new"], [[2, 2], [3, 3]], partition="us")
        assert own.partition("eu").get("new").tolist() == [5, 5]
        assert own.get("us-1").tolist() == [1, 1]
        items.multiset(["us-1", "us-2"], [[2, 2], [3, 3]], partition="us")
        assert own.partitions() == {"us": 2, "eu": 1}
    assert [one["action"] for one in entries(tmp_path / "hub")] == ["denial", "mutation"]


# --- changes while it runs ---


@pytest.mark.parametrize("by", ["ungrant", "revoke"])
def test_a_stream_that_is_under_way_ends_with_its_right(tmp_path, by):
    with guarded(tmp_path / "hub", [("w", "writer on space:items")]) as served:
        items = served.hub.create_space("items", dims=2)
        sent = threading.Semaphore(1)

        def batches():
            for number in range(3):
                sent.acquire()
                yield write_of([f"k{number}"], [[1, number]])

        answers = METHODS["Ingest"].call(served.channel)(
            batches(), metadata=bearer(served.tokens["w"]), timeout=30
        )
        assert next(answers).rows == 1
        if by == "ungrant":
            served.access.ungrant("key:w", Grant("writer", "space:items"))
        else:
            served.access.revoke("w")
        sent.release(2)
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        gone = {"ungrant": grpc.StatusCode.NOT_FOUND, "revoke": grpc.StatusCode.UNAUTHENTICATED}
        assert caught.value.code() == gone[by]
        assert list(items) == ["k0"]


def write_of(keys, rows, space="items", partitions=()):
    what = pb.Set(
        keys=pack_array(np.array(keys, object)),
        vectors=vectors_message(np.array(rows, np.float32)),
        partitions=partitions,
    )
    return pb.WriteRequest(parts=[pb.Part(target=pb.Target(space=space), set=what)])


def test_every_part_and_every_message_is_checked(tmp_path):
    with guarded(tmp_path / "hub", [("w", "writer on space:items")]) as served:
        served.hub.create_space("items", dims=2)
        served.hub.create_space("other", dims=2)
        both = write_of(["a"], [[1, 1]])
        both.parts.extend(write_of(["a"], [[1, 1]], "other").parts)
        code, error = served.refusal("Write", both, served.tokens["w"])
        assert (code, str(error)) == (grpc.StatusCode.NOT_FOUND, "there is no space 'other'")
        stream = [write_of(["a"], [[1, 1]]), write_of(["b"], [[1, 1]], "other")]
        answers = METHODS["Ingest"].call(served.channel)(
            iter(stream), metadata=bearer(served.tokens["w"]), timeout=30
        )
        assert next(answers).rows == 1
        with pytest.raises(grpc.RpcError):
            next(answers)
        assert len(served.hub.get_space("other")) == 0


def test_a_revoked_key_is_refused_by_the_next_call(tmp_path):
    with guarded(tmp_path / "hub", [("a", "reader on hub")]) as served:
        connected = served.connect("a")
        connected.spaces()
        served.access.revoke("a")
        with pytest.raises(ehub.PermissionDeniedError, match="revoked"):
            connected.spaces()


def test_an_open_server_is_guarded_from_its_first_key_on(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub)
        guard = AccessInterceptor(hub, access)
        config = ServerConfig(port=0)
        with Server(hub, config, [service(hub, config.limits)], [guard]) as server:
            everybody = ehub.connect(server.address)
            assert everybody.spaces() == []
            access.create_key("root", [Grant("admin", "hub")])
            with pytest.raises(ehub.PermissionDeniedError, match="token"):
                everybody.spaces()


# --- without a token ---


def test_config_lets_calls_without_a_token_do_what_it_says(tmp_path):
    with guarded(tmp_path / "hub", anonymous=["reader on space:public-*"]) as served:
        for name in ("public-1", "private"):
            served.hub.create_space(name, dims=2).set("a", [1, 0])
        anybody = ehub.connect(served.server.address)
        assert anybody.spaces() == ["public-1"]
        assert anybody.get_space("public-1").get("a").tolist() == [1, 0]
        with pytest.raises(ehub.PermissionDeniedError):
            anybody.get_space("public-1").set("b", [1, 0])
        with pytest.raises(ehub.NotFoundError):
            anybody.get_space("private")
        with pytest.raises(ehub.PermissionDeniedError):
            ehub.connect(served.server.address, token="wrong")


def test_a_server_that_others_can_reach_needs_tls_and_authentication(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        everywhere = ServerConfig(host="0.0.0.0", port=0)
        guard = AccessInterceptor(hub, Access(hub))
        with pytest.raises(ehub.InvalidArgumentError, match=r"TLS .* and authentication"):
            Server(hub, everywhere, [], [guard])
        guard.access.create_key("root")
        with pytest.raises(ehub.InvalidArgumentError, match="without TLS"):
            Server(hub, everywhere, [], [guard])
        guard.close()


# --- the audit log ---


def test_each_mutation_and_each_denial_has_exactly_one_line(tmp_path):
    with guarded(tmp_path / "hub", [("r", "reader on space:items")]) as served:
        root = served.connect()
        items = root.create_space("items", dims=2)
        items.multiset(["a", "b"], [[1, 0], [0, 1]], partition="p")
        items.set("c", [12_345.678, 0])
        items.delete("a")
        items.multiset((f"s{i}", [1, i]) for i in range(30))  # a stream: one batch
        items.tag("t")
        items.create_average("m", {"g": ["b"]})
        items.alias("prod", "initial")
        items.optimize()
        list(items), items.get("b"), items.nearest_neighbors(1, key="b"), items.stats()
        reader = served.connect("r")
        for attempt in (lambda: reader.get_space("items").delete("b"), lambda: reader.info()):
            with pytest.raises(ehub.PermissionDeniedError):
                attempt()
        with pytest.raises(ehub.NotFoundError):
            items.delete("none")  # allowed, and it changes nothing
        root.delete_space("items")
        secrets = [token.split("_")[2] for token in served.tokens.values()]
    log = list(entries(tmp_path / "hub"))
    told = [(one["principal"], one["method"]) for one in log if one["action"] == "mutation"]
    assert told == [
        ("key:root", method)
        for method in (
            *("CreateSpace", "Write", "Write", "Write", "Ingest", "SetTag"),
            *("CreateAverage", "SetAlias", "Optimize", "Write", "DeleteSpace"),
        )
    ]
    denials = [(one["principal"], one["status"]) for one in log if one["action"] == "denial"]
    assert denials == [("key:r", "PERMISSION_DENIED")] * 2
    write = next(one for one in log if one.get("rows") == 2)
    assert (write["space"], write["partitions"], write["verb"]) == ("items", ["p"], "write")
    text = b"".join(path.read_bytes() for path in (tmp_path / "hub" / "audit").iterdir())
    assert [secret for secret in secrets if secret.encode() in text] == []
    assert b"12345" not in text
    assert check(tmp_path / "hub").findings == ()


def test_a_recorded_snapshot_has_a_line_and_one_that_is_held_has_none(tmp_path):
    with guarded(tmp_path / "hub") as served:
        served.hub.create_space("items", dims=2)
        items = served.connect().get_space("items")
        items.snapshot().close()
        items.snapshot("before the weekend").close()
    told = [(one["method"], one["verb"]) for one in entries(tmp_path / "hub")]
    assert told == [("TakeSnapshot", "tag")]


def test_what_a_stream_of_old_clients_changed_before_it_failed_has_a_line(tmp_path):
    with guarded(tmp_path / "hub") as served:
        items = served.hub.create_space("items", dims=1, metric="l2")

        def rows():
            for number in range(10_001):
                values = [1.0] if number < 10_000 else [1.0, 2.0]
                embedding = old.Embedding(values=values)
                yield old.MultiSetRequest(space="items", key=f"k{number}", embedding=embedding)

        write = methods_of(OLD)["MultiSet"].call(served.channel)
        with pytest.raises(grpc.RpcError):
            write(rows(), metadata=bearer(served.tokens["root"]), timeout=60)
        assert len(items) == 10_000
    (line,) = entries(tmp_path / "hub")
    assert (line["action"], line["space"], line["ended"]) == ("mutation", "items", "failed")


def test_callers_whom_config_lets_in_without_a_token_cannot_fill_the_log(tmp_path):
    with guarded(tmp_path / "hub", anonymous=["reader on space:public"]) as served:
        for _ in range(300):
            assert served.refusal("Info", pb.InfoRequest())[0] is DENIED
    log = list(entries(tmp_path / "hub"))
    assert len(log) < 200
    assert len(log) + sum(one.get("suppressed", 0) for one in log) in (300, 301)


def test_the_hub_knows_where_the_log_was_when_the_server_stopped(tmp_path):
    with guarded(tmp_path / "hub") as served:
        served.connect().create_space("items", dims=2)
    with ehub.open(tmp_path / "hub", read_only=True) as hub:
        access = Access(hub)
        assert access.audit_head() == check(tmp_path / "hub").head
        assert list(access.last_used()) == [key.id for key in access.api_keys()]


def test_a_flood_of_wrong_tokens_costs_a_bounded_number_of_lines(tmp_path):
    with guarded(tmp_path / "hub") as served:
        for _ in range(400):
            assert served.refusal("Hello", pb.HelloRequest(), "wrong")[0] is not None
        served.connect().spaces()  # whoever has a key is served all the same
    log = list(entries(tmp_path / "hub"))
    assert len(log) < 200
    assert len(log) + sum(one.get("suppressed", 0) for one in log) in (400, 401)


def test_calls_go_on_while_the_log_cannot_be_written_and_the_gap_is_told(tmp_path, monkeypatch):
    with guarded(tmp_path / "hub") as served:
        root = served.connect()

        def full(descriptor, data):
            raise OSError(28, "full")

        monkeypatch.setattr("ehub.access.audit.os.write", full)
        root.create_space("a", dims=2)
        root.create_space("b", dims=2)
        monkeypatch.undo()
        root.create_space("c", dims=2)
    log = list(entries(tmp_path / "hub"))
    assert [(one["space"], one.get("missed")) for one in log] == [("c", 2)]
    assert check(tmp_path / "hub").findings == ()


def test_names_that_callers_make_up_are_cut_in_the_log(tmp_path):
    with guarded(tmp_path / "hub", [("a",)]) as served:
        request = pb.CreateSpaceRequest(space="x" * 100_000 + "\n")
        served.refusal("CreateSpace", request, served.tokens["a"])
    (line,) = entries(tmp_path / "hub")
    assert len(str(line)) < 2_000


# --- certificates ---


def test_a_client_certificate_names_its_principal(tmp_path):
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    issued = {"server": ca.issue_cert("localhost"), "client": ca.issue_cert("trainer.example")}
    for name, certificate in issued.items():
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = Tls(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub, AuthSettings(certificates=True))
        access.grant("cert:trainer.example", Grant("reader", "space:items"))
        token, _ = access.create_key("root", [Grant("admin", "hub")])
        hub.create_space("items", dims=2)
        hub.create_space("other", dims=2)
        guard = AccessInterceptor(hub, access)
        config = ServerConfig(host="0.0.0.0", port=0, tls=tls)
        with Server(hub, config, [service(hub, config.limits)], [guard]) as server:
            trust = ClientTls(
                ca=tmp_path / "ca.pem",
                certificate=tmp_path / "client.pem",
                key=tmp_path / "client.key",
            )
            address = f"localhost:{server.port}"
            assert ehub.connect(address, tls=trust).spaces() == ["items"]
            assert ehub.connect(address, tls=trust, token=token).spaces() == ["items", "other"]
            with pytest.raises(ehub.UnavailableError):
                ehub.connect(address, tls=ClientTls(ca=tmp_path / "ca.pem"), retry_seconds=0)
