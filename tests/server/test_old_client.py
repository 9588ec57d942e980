"""The stock client of 2021, from PyPI and in a process of its own, works unchanged."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from old_client import OldClient, reported

import ehub
from ehub.access import Access, AuthSettings, Grant
from ehub.server.config import Limits, ServerConfig
from ehub.server.interceptor import AccessInterceptor
from ehub.server.old_clients import embedding_of, old_service, vector_of
from ehub.server.serve import Server
from ehub.server.service import service
from ehub.wire import old_clients_pb2 as pb
from ehub.wire.methods import OLD, methods_of


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that all tests of the module share; each has spaces of its own."""
    config = ServerConfig(port=0, limits=Limits(k=1_000))
    with ehub.open(tmp_path_factory.mktemp("old") / "hub", durability="off") as hub:
        offered = [service(hub, config.limits), old_service(hub, config.limits)]
        with Server(hub, config, offered) as running:
            yield running


@pytest.fixture(scope="module")
def old(server):
    return OldClient(server.address)


@pytest.fixture
def space(server, request):
    """A space of the old kind, named for the test: three rows on a line."""
    made = server.hub.create_space(request.node.name, dims=2, metric="l2")
    made.multiset({"a": [0, 0], "b": [1, 0], "c": [3, 0]})
    return made


@pytest.fixture
def call(server):
    """Calls a method as those clients do, with what the stock one never sends."""
    with grpc.insecure_channel(server.address) as channel:

        def call(name, request):
            return methods_of(OLD)[name].call(channel)(request, timeout=20)

        yield call


# --- spaces ---


def test_its_spaces_are_ordinary_ones(old, server):
    old.run("hub.create_space('made', 3); hub.get_space('made').set('k', [1, 2, 3])")
    made = server.hub.get_space("made")
    assert (made.dims, made.metric, made.key_type) == (3, "l2", "str")
    with ehub.connect(server.address) as new:
        assert "made" in new
        assert new.get_space("made")["k"].tolist() == [1, 2, 3]
        new.get_space("made").set("k", [4, 5, 6])
    assert old.run("report(hub.get_space('made').get('k'))") == [4, 5, 6]


def test_a_deleted_space_is_gone(old, server):
    server.hub.create_space("short-lived", dims=2)
    found = old.run(
        "hub.delete_space('short-lived')\n"
        "report([failure(hub.get_space, 'short-lived'), failure(hub.delete_space, 'short-lived')])"
    )
    assert [code for _, code, _ in found] == ["NOT_FOUND", "NOT_FOUND"]
    assert "short-lived" in found[0][2]
    assert "short-lived" not in server.hub


def test_a_space_is_made_once(old, server):
    found = old.run(
        "hub.create_space('once', 2)\n"
        "report([failure(hub.create_space, *what) for what in [('once', 2), ('none', 0), ('', 2)]])"
    )
    assert [code for _, code, _ in found] == [
        "ALREADY_EXISTS",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ]
    assert "none" not in server.hub


def test_a_frozen_space_takes_no_write(old, space):
    found = old.run(
        """
space = hub.get_space(ARGUMENT)
client.freeze_space(ARGUMENT)
report([
    failure(space.set, "a", [5, 5]), failure(space.delete, "a"),
    failure(space.multiset, {"d": [1, 1]}), failure(space.multidelete, ["a"]),
    space.get("a"), space.nearest_neighbors(1, key="a"),
])
""",
        space.space,
    )
    # Of set and delete the client itself makes a TypeError of FAILED_PRECONDITION.
    assert [one[0] for one in found[:2]] == ["TypeError", "TypeError"]
    assert [one[1] for one in found[2:4]] == ["FAILED_PRECONDITION", "FAILED_PRECONDITION"]
    assert found[4:] == [[0, 0], ["b"]]
    assert space.frozen
    assert len(space) == 3


# --- rows ---


def test_rows_are_set_read_and_deleted(old, space):
    found = old.run(
        """
space = hub.get_space(ARGUMENT)
space.set("d", [0.5, -2.25])
space.set("a", [9, 9])
space.delete("b")
space.multiset({"e": [5, 0], "f": [6, 0]})
space.multiset(iter([("g", [7, 0]), ("g", [8, 0])]))
space.multidelete(["c", "f", "not there"])
report([space.get("d"), list(map(list, space.multiget(iter(["g", "a", "g"]))))])
""",
        space.space,
    )
    assert found == [[0.5, -2.25], [[8, 0], [9, 9], [8, 0]]]
    assert sorted(space) == ["a", "d", "e", "g"]


def test_set_without_an_embedding_deletes_and_with_an_empty_one_does_not(old, space):
    found = old.run(
        "space = hub.get_space(ARGUMENT); space.delete('a')\n"
        "report([failure(space.set, 'b', []), failure(space.delete, 'a')])",
        space.space,
    )
    assert [code for _, code, _ in found] == ["INVALID_ARGUMENT", "NOT_FOUND"]
    assert sorted(space) == ["b", "c"]


def test_the_method_delete_deletes_too(call, space):
    call("Delete", pb.DeleteRequest(key="a", space=space.space))
    assert sorted(space) == ["b", "c"]
    with pytest.raises(grpc.RpcError) as failed:
        call("Delete", pb.DeleteRequest(key="a", space=space.space))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


def test_one_stream_may_write_to_several_spaces(call, server):
    for name in ("one", "two"):
        server.hub.create_space(name, dims=1, metric="l2")
    rows = [("one", "k", 1), ("two", "k", 2), ("two", "l", 3), ("one", "k", 4)]
    call(
        "MultiSet",
        (
            pb.MultiSetRequest(space=space, key=key, embedding=pb.Embedding(values=[value]))
            for space, key, value in rows
        ),
    )
    assert server.hub.get_space("one")["k"] == [4]
    assert server.hub.get_space("two").multiget(["k", "l"]).tolist() == [[2], [3]]


def test_what_it_asks_wrongly_is_told(old, space):
    found = old.run(
        """
space, nan = hub.get_space(ARGUMENT), float("nan")
nowhere = lambda call, *rest: failure(call, "nowhere", *rest)
report({
    "NOT_FOUND": [
        nowhere(client.set, "k", [1, 2]), nowhere(client.get, "k"), nowhere(client.delete, "k"),
        nowhere(client.multiset, {"k": [1]}), nowhere(client.multidelete, ["k"]),
        nowhere(client.freeze_space), nowhere(client.nearest_neighbor, 1, "k"),
        failure(list, client.download("nowhere")), failure(list, client.multiget("nowhere", "k")),
        failure(space.get, "k"), failure(list, space.multiget(["a", "k"])),
        failure(space.nearest_neighbors, 1, key="k"),
    ],
    "INVALID_ARGUMENT": [
        failure(space.set, "a", [1]), failure(space.set, "a", [1, nan]),
        failure(space.set, "k" * 2000, [1, 2]), failure(space.multiset, {"a": [1, 2, 3]}),
        failure(space.nearest_neighbors, 1), failure(space.nearest_neighbors, 0, key="a"),
        failure(space.nearest_neighbors, -1, key="a"),
        failure(space.nearest_neighbors, 1001, key="a"),
        failure(space.nearest_neighbors, 1, key="a", vector={"values": [1, 2]}),
        failure(space.nearest_neighbors, 1, vector={"values": [1, 2, 3]}),
        failure(space.nearest_neighbors, 1, vector={}),
    ],
})
""",
        space.space,
    )
    for code, failures in found.items():
        assert [one and one[1] for one in failures] == [code] * len(failures)
        assert all(one[2] for one in failures)
    assert "nowhere" in found["NOT_FOUND"][0][2]
    assert sorted(space) == ["a", "b", "c"]
    assert space["a"].tolist() == [0, 0]


def test_of_a_stream_that_fails_the_error_says_what_is_stored(old, server):
    server.hub.create_space("half", dims=1, metric="l2")
    found = old.run(
        "rows = ((str(i), [i] if i < 10_500 else [i, i]) for i in range(11_000))\n"
        "report(failure(hub.get_space('half').multiset, rows))"
    )
    assert found[1] == "INVALID_ARGUMENT"
    assert "10,000" in found[2]
    assert len(server.hub.get_space("half")) == 10_000


def test_a_space_of_int_keys_is_refused(old, server):
    server.hub.create_space("numbered", dims=1, key_type="int").multiset([1], [[1.0]])
    found = old.run(
        "space = hub.get_space('numbered')\n"
        "report([failure(space.get, 1), failure(list, space.iterator())])"
    )
    assert [code for _, code, _ in found] == ["INVALID_ARGUMENT", "INVALID_ARGUMENT"]


# --- search ---


def test_neighbours_come_by_key_and_by_vector(old, space):
    found = old.run(
        """
space = hub.get_space(ARGUMENT)
report([
    space.nearest_neighbors(2, key="a"), space.nearest_neighbors(100, key="b"),
    space.nearest_neighbors(2, vector={"values": [2.5, 0]}),
    space.nearest_neighbors(1, vector=pb.Embedding(values=[0.1, 0])),
])
""",
        space.space,
    )
    # A key is not among its own neighbours, and of more than there are all come.
    assert found == [["b", "c"], ["a", "c"], ["c", "b"], ["a"]]


def test_an_empty_space_has_no_neighbours(old, server):
    server.hub.create_space("empty", dims=2, metric="l2")
    found = old.run(
        "space = hub.get_space('empty')\n"
        "report([space.nearest_neighbors(3, vector={'values': [0, 0]}), list(space.iterator())])"
    )
    assert found == [[], []]


# --- much, and many ---


def test_large_streams_go_in_and_come_out_whole(old, server):
    server.hub.create_space("large", dims=64, metric="l2")
    found = old.run(
        """
import numpy as np
rows = np.random.default_rng(7).standard_normal((12_000, 64)).astype(np.float32)
space = hub.get_space("large")
space.multiset((str(i), row.tolist()) for i, row in enumerate(rows))
after = space.get("11999")
down = dict(space.iterator())
some = [str(i) for i in range(0, 12_000, 12)]
got = np.array([list(one) for one in space.multiget(some)], np.float32)
space.multidelete(some)
report([
    np.array_equal(np.float32(after), rows[-1]), len(down),
    all(np.array_equal(np.float32(down[str(i)]), row) for i, row in enumerate(rows)),
    np.array_equal(got, rows[::12]), sum(1 for _ in space.iterator()),
])
"""
    )
    assert found == [True, 12_000, True, True, 11_000]
    assert len(server.hub.get_space("large")) == 11_000


def test_a_download_shows_one_moment(call, server):
    # The first answer fixes it; what is written meanwhile is not in it.
    space = server.hub.create_space("moment", dims=256, metric="l2")
    space.multiset([str(i) for i in range(5_000)], np.ones((5_000, 256)))
    answers = call("Download", pb.DownloadRequest(space="moment"))
    rows = [next(answers)]
    space.multiset([str(i) for i in range(6_000)], np.zeros((6_000, 256)))
    rows += answers
    assert len(rows) == 5_000
    assert all(row.embedding.values[0] == 1 for row in rows)


def test_many_clients_write_and_read_at_once(old, server):
    server.hub.create_space("shared", dims=8, metric="l2")
    script = """
from concurrent.futures import ThreadPoolExecutor
space = hub.get_space("shared")

def work(thread):
    name = f"{ARGUMENT}-{thread}"
    space.multiset({f"{name}-{i}": [i, ARGUMENT, thread] + [0] * 5 for i in range(100)})
    for i in range(0, 100, 2):
        space.set(f"{name}-{i}", [i, ARGUMENT, thread] + [1] * 5)
        space.delete(f"{name}-{i + 1}")
    near = space.nearest_neighbors(1, vector={"values": [50, ARGUMENT, thread] + [1] * 5})
    return list(near) == [f"{name}-50"] and list(space.get(f"{name}-50"))[-1] == 1

with ThreadPoolExecutor(4) as pool:
    report(list(pool.map(work, range(4))))
"""
    processes = [old.start(script, number) for number in range(3)]
    assert [reported(one) for one in processes] == [[True] * 4] * 3
    space = server.hub.get_space("shared")
    assert len(space) == 3 * 4 * 50
    assert all(vector[-1] == 1 for _, vector in space.iterator())


def test_a_client_that_is_killed_while_it_streams_leaves_its_first_rows(old, server):
    space = server.hub.create_space("killed", dims=4, metric="l2")
    process = old.start(
        """
def rows():
    for i in range(10_000_000):
        if i == 15_000:
            report("sent")
        yield str(i), [i] * 4
hub.get_space("killed").multiset(rows())
"""
    )
    with process:
        assert process.stdout.readline()
        process.kill()
    # How many have come is left to chance.
    keys = [str(i) for i in range(len(space))]
    assert (space.multiget(keys) == np.arange(len(keys), dtype=np.float32)[:, None]).all()
    assert old.run("space = hub.get_space('killed'); space.set('x', [1] * 4)") is None
    assert "x" in space


# --- guarded ---


def test_on_a_guarded_hub_it_has_the_role_of_the_config(tmp_path):
    settings = AuthSettings(old_clients=(Grant("writer", "space:items"),))
    config = ServerConfig(port=0)
    with ehub.open(tmp_path / "hub") as hub:
        for name in ("items", "secret"):
            hub.create_space(name, dims=1, metric="l2")
        guard = AccessInterceptor(hub, Access(hub, settings))
        with Server(hub, config, [old_service(hub, config.limits)], [guard]) as server:
            found = OldClient(server.address).run(
                """
space = hub.get_space("items")
space.multiset({"k": [1], "l": [2]})
space.delete("l")
report([
    space.get("k"), failure(client.freeze_space, "items"), failure(hub.get_space, "secret"),
    failure(client.multiset, "secret", {"k": [1]}),
])
"""
            )
        assert found[0] == [1]
        codes = [one[1] for one in found[1:]]
        assert codes == ["PERMISSION_DENIED", "NOT_FOUND", "NOT_FOUND"]
        assert sorted(hub.get_space("items")) == ["k"]
        assert len(hub.get_space("secret")) == 0


# --- without the client ---


def test_it_has_every_method_of_the_protocol():
    names = "CreateSpace CheckSpace DeleteSpace FreezeSpace Set Get Delete MultiSet MultiGet"
    assert set(methods_of(OLD)) == {*names.split(), "MultiDelete", "NearestNeighbor", "Download"}
    assert OLD.full_name == "featureform.embedding.proto.EmbeddingHub"


def test_its_protocol_is_that_of_the_stock_client(old):
    described = old.run(
        """
from google.protobuf import descriptor_pb2
file = descriptor_pb2.FileDescriptorProto()
pb.DESCRIPTOR.CopyToProto(file)
report([
    {m.name: [[f.name, f.number, f.type, f.label, f.type_name] for f in m.field]
     for m in file.message_type},
    {m.name: [m.input_type, m.output_type, m.client_streaming, m.server_streaming]
     for m in file.service[0].method},
])
"""
    )
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    assert described == [
        {
            m.name: [[f.name, f.number, f.type, f.label, f.type_name] for f in m.field]
            for m in file.message_type
        },
        {
            m.name: [m.input_type, m.output_type, m.client_streaming, m.server_streaming]
            for m in file.service[0].method
        },
    ]


@pytest.mark.parametrize("dims", [0, 1, 31, 32, 4096, 65_535])
def test_vectors_travel_bit_for_bit(dims):
    vector = np.random.default_rng(1).standard_normal(dims).astype(np.float32)
    plain = pb.Embedding(values=vector.tolist())
    assert np.array_equal(vector_of(plain), vector)
    assert embedding_of(vector) == plain
