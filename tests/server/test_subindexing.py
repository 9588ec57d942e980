"""Sub-indices over a server: who may see what, changes that are sent again, large and odd sets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from guarded import guarded
from served import CLIENTS, client_of, losing_an_answer, serving

import ehub
from ehub.access import entries
from ehub.client import subindices
from ehub.client.transport import METHODS
from ehub.server.config import Limits
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import pack_array

CLIENT = bytes(range(16))


@pytest.fixture
def path(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        items = hub.create_space("items", dims=2, metric="l2")
        items.multiset(list("abcd"), [[i, 0] for i in range(4)])
    return tmp_path / "hub"


def keys_of(*names):
    array = np.empty(len(names), np.object_)
    array[:] = names
    return pack_array(array)


# --- changes that are sent again ---


def send(server, name, number, /, **fields):
    """One attempt of a change, as it is on the wire."""
    target = pb.Target(space="items", subindex="" if name == "CreateSubIndex" else "few")
    request = pb.RequestId(client=CLIENT, slot=0, number=number)
    with grpc.insecure_channel(server.address) as channel:
        call = METHODS[name].call(channel)
        return call(METHODS[name].request(request=request, target=target, **fields))


def test_changes_that_are_sent_again_are_not_applied_again_over_a_restart_too(path):
    changes = [
        ("CreateSubIndex", {"name": "few", "keys": keys_of("a", "b")}, 1, ["a", "b"]),
        ("UpdateSubIndex", {"add": keys_of("b", "c", "c", "z")}, 2, ["a", "b", "c", "z"]),
        ("UpdateSubIndex", {"remove": keys_of("a", "a", "nobody")}, 1, ["b", "c", "z"]),
        ("DropSubIndex", {}, 1, None),
    ]
    for number, (name, fields, rows, members) in enumerate(changes, 1):
        with serving(path) as server:
            answers = [send(server, name, number, **fields) for _ in range(2)]
        with serving(path) as server, ehub.connect(server.address) as hub:
            answers.append(send(server, name, number, **fields))
            items = hub.get_space("items")
            if members is None:
                assert items.subindices() == {}
            else:
                assert sorted(items.subindex("few").members()) == members
        assert [answer.rows for answer in answers] == [rows] * 3
        assert [answer.repeated for answer in answers] == [False, True, True]


def test_a_change_of_nothing_leaves_its_number_free(path):
    with serving(path) as server:
        send(server, "CreateSubIndex", 1, name="few", keys=keys_of("a"))
        for what in ({"add": keys_of("a")}, {"remove": keys_of("z")}, {"add": keys_of()}):
            answer = send(server, "UpdateSubIndex", 2, **what)
            assert (answer.rows, answer.HasField("request")) == (0, False)
        assert send(server, "UpdateSubIndex", 2, add=keys_of("b")).rows == 1


def test_a_drop_that_fails_drops_nothing(path, monkeypatch):
    def fails(hub, space):
        raise ehub.StorageError("the disk is full")

    with serving(path) as server:
        send(server, "CreateSubIndex", 1, name="few", keys=keys_of("a"))
        with monkeypatch.context() as patched:
            patched.setattr("ehub.hidden.drop_unnamed", fails)
            with pytest.raises(grpc.RpcError):
                send(server, "DropSubIndex", 2)
    with serving(path) as server:
        assert send(server, "UpdateSubIndex", 2, add=keys_of("b")).rows == 1


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_lost_answer_to_a_creation_is_asked_for_again(path, monkeypatch, kind):
    lost = losing_an_answer(monkeypatch)
    with serving(path) as server, client_of(server, kind) as hub:
        few = hub.get_space("items").create_subindex("few", keys=["a"])
        assert few.keys().tolist() == ["a"]
        assert len(lost) == 1


# --- sets of all sizes ---


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("key_type", ["str", "int"])
def test_keys_of_any_number_travel_in_messages_that_fit(tmp_path, monkeypatch, kind, key_type):
    monkeypatch.setattr(subindices, "CHUNK_BYTES", 4_000)
    keys = (
        list(range(3_000)) if key_type == "int" else ["é" * (i % 9) + str(i) for i in range(3_000)]
    )
    limits = Limits(message_bytes=65_536)
    with serving(tmp_path, limits=limits) as server, client_of(server, kind) as hub:
        items = hub.create_space("items", dims=2, metric="l2", key_type=key_type)
        items.multiset(keys[:100], np.ones((100, 2)))
        many = items.create_subindex("many", keys=keys[:2_000])
        assert sorted(many.members()) == sorted(keys[:2_000])
        assert many.add(keys) == 1_000
        assert sorted(many.members()) == sorted(keys)
        assert many.remove(keys[50:]) == 2_950
        assert (len(many), sorted(many.members())) == (50, sorted(keys[:50]))
        assert items.create_subindex("none").members().tolist() == []


def test_a_subindex_survives_a_restart_of_the_server_and_its_function_does_not(path):
    with serving(path) as server, ehub.connect(server.address) as hub:
        late = hub.get_space("items").create_subindex("late", where=lambda key: key > "b")
        assert sorted(late) == ["c", "d"]
    with serving(path) as server, ehub.connect(server.address) as hub:
        late = hub.get_space("items").subindex("late")
        assert (sorted(late), hub.get_space("items").subindices()) == (["c", "d"], {"late": 2})
        with pytest.raises(ehub.InvalidArgumentError, match="functions are not stored"):
            late.refresh()


# --- searches that are gathered ---


def test_searches_in_different_subindices_are_never_answered_together(path):
    with serving(path) as server, ehub.connect(server.address) as hub:
        items = hub.get_space("items")
        views = [items, *(items.create_subindex(key, keys=[key]) for key in "abcd")]
        expected = [list("abcd"), *([key] for key in "abcd")]
        wrong, start = [], threading.Barrier(10)

        def search(number):
            start.wait()
            for _ in range(100):
                view = views[number % 5]
                found = view.nearest_neighbors(4, vector=[-1, 0]).keys.tolist()
                if found != expected[number % 5]:
                    wrong.append((number % 5, found))

        with ThreadPoolExecutor(10) as threads:
            list(threads.map(search, range(10)))
        assert wrong == []


# --- who may what ---

GRANTS = [
    ("us", "writer on space:items/partition:us"),
    ("reader", "reader on space:items"),
    ("writer", "writer on space:items"),
    ("editor", "editor on space:items"),
]


@pytest.fixture
def parts(tmp_path):
    """A sub-index with rows of two partitions, and a key without a row."""
    with guarded(tmp_path / "hub", GRANTS) as served:
        items = served.hub.create_space("items", dims=2, metric="l2")
        for place, name in enumerate(("us", "eu")):
            keys = [f"{name}-{i}" for i in range(3)]
            items.multiset(keys, [[place, i] for i in range(3)], partition=name)
        items.create_subindex("few", keys=["us-0", "us-1", "eu-0", "eu-1", "eu-9"])
        items.create_subindex("foreign", keys=["eu-0"])
        yield served


def test_a_caller_of_a_partition_sees_its_own_rows_of_a_subindex_alone(parts):
    with parts.connect("us") as hub:
        items = hub.get_space("items")
        few = items.subindex("few")
        assert (len(few), sorted(few), sorted(few.keys())) == (
            2,
            ["us-0", "us-1"],
            ["us-0", "us-1"],
        )
        assert items.subindices() == {"few": 2, "foreign": 0}
        assert sorted(few.nearest_neighbors(9, vector=[1, 0]).keys) == ["us-0", "us-1"]
        many = few.multi_nearest_neighbors(9, vectors=[[1, 0]] * 2)
        assert [sorted(near.keys) for near in many] == [["us-0", "us-1"]] * 2
        assert ("eu-0" in few, "eu-9" in few, "us-2" in few) == (False, False, False)
        assert few.multiget(["us-0", "eu-0"], default=None)[1].tolist() == [True, False]
        assert few.partitions() == {"us": 2}
        assert few.to_numpy()[0].tolist() == ["us-0", "us-1"]
        assert few.kmeans(1).counts.tolist() == [2]
        with pytest.raises(ehub.NotFoundError):
            few.average(["us-0", "eu-0"])
        with pytest.raises(ehub.PermissionDeniedError):
            few.nearest_neighbors(1, vector=[0, 0], partition="eu")
        assert len(items.subindex("foreign")) == 0


def test_a_caller_of_a_partition_learns_no_key_of_the_set_and_changes_none(parts):
    with parts.connect("us") as hub:
        items = hub.get_space("items")
        few = items.subindex("few")
        for call in (
            few.members,
            lambda: few.add(["us-2"]),
            lambda: few.remove(["eu-9"]),
            lambda: few.refresh(where=bool),
            lambda: items.create_subindex("own", keys=["us-0"]),
            lambda: items.drop_subindex("few"),
        ):
            with pytest.raises(ehub.PermissionDeniedError):
                call()


def test_readers_read_writers_change_keys_and_editors_make_and_drop(parts):
    for name in ("reader", "writer", "editor"):
        with parts.connect(name) as hub:
            items = hub.get_space("items")
            few = items.subindex("few")
            assert "eu-9" in few.members().tolist()
            for rank, call in (
                ("writer editor", lambda few=few: few.add(["us-2"])),
                ("writer editor", lambda few=few: few.remove(["us-2"])),
                ("editor", lambda items=items: items.create_subindex("new")),
                ("editor", lambda items=items: items.drop_subindex("new")),
            ):
                if name in rank.split():
                    call()
                else:
                    with pytest.raises(ehub.PermissionDeniedError):
                        call()


def test_each_change_of_a_subindex_and_each_denial_has_a_line_in_the_audit_log(tmp_path):
    with guarded(tmp_path / "hub", GRANTS) as served:
        served.hub.create_space("items", dims=2).set("a", [1, 0])
        with served.connect("editor") as hub:
            items = hub.get_space("items")
            made = items.create_subindex("few", keys=["a", "secret"])
            made.add(["b", "c"])
            made.remove(["a"])
            assert (len(made), items.subindices(), len(made.members())) == (0, {"few": 0}, 3)
            items.drop_subindex("few")
        with served.connect("reader") as hub, pytest.raises(ehub.PermissionDeniedError):
            hub.get_space("items").create_subindex("few")
    log = list(entries(tmp_path / "hub"))
    assert [
        (one["principal"], one["method"], one["verb"], one["space"], one.get("rows"))
        for one in log
        if one["action"] == "mutation"
    ] == [
        ("key:editor", "CreateSubIndex", "subindex", "items", 1),
        ("key:editor", "UpdateSubIndex", "write", "items", 2),
        ("key:editor", "UpdateSubIndex", "write", "items", 1),
        ("key:editor", "DropSubIndex", "subindex", "items", 1),
    ]
    denied = [(one["principal"], one["method"]) for one in log if one["action"] == "denial"]
    assert denied == [("key:reader", "CreateSubIndex")]
    assert "secret" not in str(log)


def test_a_server_that_only_reads_reads_subindices_and_changes_none(path):
    from ehub.server.config import ServerConfig
    from ehub.server.serve import Server
    from ehub.server.service import service

    with ehub.open(path) as hub:
        hub.get_space("items").create_subindex("few", keys=["a"])
    config = ServerConfig(port=0)
    with (
        ehub.open(path, read_only=True) as opened,
        Server(opened, config, [service(opened, config.limits)]) as server,
        ehub.connect(server.address) as hub,
    ):
        items = hub.get_space("items")
        few = items.subindex("few")
        assert (few.keys().tolist(), few.members().tolist()) == (["a"], ["a"])
        assert (few.add([]), few.remove([])) == (0, 0)
        for call in (
            lambda: few.add(["b"]),
            lambda: few.add(["a"]),
            lambda: few.remove(["a"]),
            lambda: few.remove(["z"]),
            lambda: items.create_subindex("new"),
            lambda: items.drop_subindex("few"),
        ):
            with pytest.raises(ehub.ReadOnlyError):
                call()


# --- odd requests ---


def few(**more):
    return pb.Target(**{"space": "items", "subindex": "few", **more})


SPACE = pb.Target(space="items")
NUMBERS = pb.Keys(integers=bytes(8))
ODD = {
    "an unknown one": ("Count", {"target": few(subindex="no")}, ehub.NotFoundError),
    "another of its name": ("Count", {"target": few(subindex_id=1 << 40)}, ehub.NotFoundError),
    "a name that is too long": (
        "Count",
        {"target": few(subindex="x" * 256)},
        ehub.InvalidArgumentError,
    ),
    "with a tag": ("Count", {"target": few(tag="then")}, ehub.InvalidArgumentError),
    "with an average": ("Count", {"target": few(average="mean")}, ehub.InvalidArgumentError),
    "in no partition": ("Count", {"target": few(partitions=["no"])}, ehub.NotFoundError),
    "a fork of one": ("Fork", {"target": few(), "name": "fork"}, ehub.InvalidArgumentError),
    **{
        f"{name} of one": (name, {"target": few(), **fields}, ehub.InvalidArgumentError)
        for name, fields in {
            "ListSubIndices": {},
            "Freeze": {},
            "Restore": {},
            "SetTag": {"name": "t"},
            "RemoveTag": {"name": "t"},
            "ListTags": {},
            "TakeSnapshot": {},
            "Optimize": {},
            "Compact": {},
            "MeasureRecall": {"k": 1, "sample": 1},
            "StorageStats": {},
            "ListAverages": {},
            "CreateAverage": {"name": "m", "key_type": "str"},
            "DeleteAverage": {},
        }.items()
    },
    "a restore of one to a tag": (
        "Restore",
        {"target": few(tag="then")},
        ehub.InvalidArgumentError,
    ),
    "a list at a time": (
        "ListSubIndices",
        {"target": pb.Target(space="items", tag="then")},
        ehub.InvalidArgumentError,
    ),
    "a list of an average": (
        "ListSubIndices",
        {"target": pb.Target(space="items", average="mean")},
        ehub.InvalidArgumentError,
    ),
    "one without a name": ("CreateSubIndex", {"target": SPACE}, ehub.InvalidArgumentError),
    "one in one": ("CreateSubIndex", {"target": few(), "name": "n"}, ehub.InvalidArgumentError),
    "one with too long a name": (
        "CreateSubIndex",
        {"target": SPACE, "name": "x" * 256},
        ehub.InvalidArgumentError,
    ),
    "one that exists": ("CreateSubIndex", {"target": SPACE, "name": "few"}, ehub.ExistsError),
    "one of wrong keys": (
        "CreateSubIndex",
        {"target": SPACE, "name": "n", "keys": NUMBERS},
        ehub.InvalidKeyError,
    ),
    "a change of nothing": ("UpdateSubIndex", {"target": few()}, ehub.InvalidArgumentError),
    "a change of none": (
        "UpdateSubIndex",
        {"target": SPACE, "add": keys_of("a")},
        ehub.InvalidArgumentError,
    ),
    "wrong keys to add": (
        "UpdateSubIndex",
        {"target": few(), "add": NUMBERS},
        ehub.InvalidKeyError,
    ),
    "wrong keys to remove": (
        "UpdateSubIndex",
        {"target": few(), "remove": NUMBERS},
        ehub.InvalidKeyError,
    ),
    "keys of none": ("ScanSubIndexKeys", {"target": SPACE}, ehub.InvalidArgumentError),
    "a drop of none": ("DropSubIndex", {"target": SPACE}, ehub.InvalidArgumentError),
    "a delete of its rows": (
        "Write",
        {"parts": [pb.Part(target=few(), delete_all=True)]},
        ehub.InvalidArgumentError,
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_requests_are_refused_with_the_reason_and_change_nothing(tmp_path, odd):
    name, fields, raised = ODD[odd]
    with guarded(tmp_path / "hub") as served:
        items = served.hub.create_space("items", dims=2)
        items.multiset(["a", "b"], [[1, 0], [0, 1]])
        items.create_subindex("few", keys=["a"])
        _, error = served.refusal(name, METHODS[name].request(**fields), served.tokens["root"])
        assert isinstance(error, raised), error
        assert (len(items), items.versions(), items.subindices()) == (2, ["initial"], {"few": 1})
        assert (items.frozen, items.tags()) == (False, [])
