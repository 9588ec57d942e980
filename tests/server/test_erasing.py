"""Erasures over a server: applied once, refused while clients hold the past; who may ask."""

from __future__ import annotations

import json
import time

import grpc
import numpy as np
import pytest
from guarded import METHODS, guarded
from served import CLIENTS, client_of, losing_an_answer, serving

import ehub
from ehub.access import entries
from ehub.server.config import Limits
from ehub.server.erasing import Receipts
from ehub.server.metrics.recall import RecallSample
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import pack_array, vectors_message

CLIENT = bytes(range(16))
DIMS = 8
SECRET = "secret-person-4711"
VECTOR = np.random.default_rng(1).standard_normal(DIMS).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        people = hub.create_space("people", dims=DIMS, metric="l2")
        people.multiset([SECRET, "a", "b"], [VECTOR, VECTOR + 1, VECTOR + 2])
        people.tag("then")
    return tmp_path / "hub"


def files_with(path, *needles):
    return [
        str(file.relative_to(path))
        for file in path.rglob("*")
        if file.is_file() and any(needle in file.read_bytes() for needle in needles)
    ]


def texts(*names):
    array = np.empty(len(names), np.object_)
    array[:] = names
    return pb.TypedKeys(texts=pack_array(array))


def send(server, number, **options):
    """One attempt of an erasure, as it is on the wire."""
    request = pb.RequestId(client=CLIENT, slot=0, number=number)
    with grpc.insecure_channel(server.address) as channel:
        call = METHODS["Erase"].call(channel)
        return call(pb.EraseRequest(request=request, space="people", keys=texts(SECRET), **options))


# --- applied once ---


def test_an_erasure_that_is_sent_again_leaves_what_was_written_since(path):
    with serving(path) as server:
        first = send(server, 1)
        server.hub.get_space("people").set(SECRET, VECTOR)
        again = send(server, 1)
        assert (first.repeated, again.repeated) == (False, True)
        assert first.receipt == again.receipt
        assert first.receipt.versions[0].rows == first.rows == again.rows == 1
        assert SECRET in server.hub.get_space("people")
        assert send(server, 2).receipt.salt != first.receipt.salt
        assert SECRET not in server.hub.get_space("people")


def test_it_is_not_applied_again_over_a_restart_and_the_receipt_is_not_kept_on_disk(path):
    with serving(path) as server:
        send(server, 1)
        server.hub.get_space("people").set(SECRET, VECTOR)
    with serving(path) as server:
        answer = send(server, 1)
        assert (answer.repeated, answer.HasField("receipt")) == (True, False)
        assert answer.request.number == 1
        assert SECRET in server.hub.get_space("people")


def test_an_erasure_of_other_keys_under_a_number_that_was_used_is_refused(path):
    with serving(path) as server, grpc.insecure_channel(server.address) as channel:
        receipt = send(server, 1).receipt
        other = pb.EraseRequest(
            request=pb.RequestId(client=CLIENT, slot=0, number=1), space="people", keys=texts("a")
        )
        with pytest.raises(grpc.RpcError, match="asked for something else") as error:
            METHODS["Erase"].call(channel)(other)
        assert error.value.code() is grpc.StatusCode.ABORTED
        assert "a" in server.hub.get_space("people")
        assert send(server, 1, wait_seconds=0.01).receipt == receipt


def test_an_erasure_that_is_refused_leaves_its_number_free(path):
    with serving(path) as server:
        with (
            server.hub.get_space("people").snapshot(),
            pytest.raises(grpc.RpcError, match="1 open snapshot"),
        ):
            send(server, 1)
        assert not send(server, 1).repeated


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_lost_answer_is_asked_for_again_and_is_the_same_receipt(path, monkeypatch, kind):
    keep, lost = Receipts.keep, []

    def losing(self, request, answer):
        keep(self, request, answer)
        lost.append(answer)
        server.hub.get_space("people").set("a", VECTOR)

    from ehub.server.requests import Requests

    once = Requests.once

    def losing_once(self, asked, *told):
        answer = once(self, asked, *told)
        if len(lost) == 1 and not answer.repeated:
            raise ehub.UnavailableError("the answer is lost")
        return answer

    monkeypatch.setattr(Receipts, "keep", losing)
    monkeypatch.setattr(Requests, "once", losing_once)
    with serving(path) as server, client_of(server, kind) as hub:
        people = hub.get_space("people")
        receipt = people.erase(["a"])
        assert len(lost) == 1
        assert receipt.salt == lost[0].receipt.salt
        assert receipt.covers("a")
        assert "a" in people


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_receipt_that_is_lost_is_a_conflict_and_the_next_write_is_applied(
    path, monkeypatch, kind
):
    monkeypatch.setattr(Receipts, "get", lambda self, request: None)
    losing_an_answer(monkeypatch)
    with serving(path) as server, client_of(server, kind) as hub:
        people = hub.get_space("people")
        with pytest.raises(ehub.ConflictError, match="were erased, but the answer was lost"):
            people.erase([SECRET])
        people.set("c", VECTOR)
        assert "c" in people
        assert SECRET not in people


def test_what_fails_after_the_erasure_is_no_failure_of_it(path, monkeypatch):
    def fails(self):
        raise ehub.StorageError("the disk is full")

    with serving(path) as server, ehub.connect(server.address) as hub:
        people = hub.get_space("people")
        people.create_average("mean", {"all": [SECRET, "a"]})
        with monkeypatch.context() as patched:
            patched.setattr("ehub.kept_average.KeptAverage.refresh", fails)
            assert people.erase([SECRET]).complete
        assert np.allclose(people.averages("mean").get("all"), VECTOR + 1)


# --- what is in the way ---


def test_snapshots_of_clients_are_counted_in_the_refusal(path):
    with (
        serving(path, limits=Limits(snapshot_idle_seconds=900)) as server,
        ehub.connect(server.address) as other,
        ehub.connect(server.address) as hub,
    ):
        people, held = hub.get_space("people"), other.get_space("people").at("then")
        assert "1 open snapshot" in people.erasure_plan([SECRET]).blockers[0]
        with pytest.raises(
            ehub.ConflictError, match=r"hold 1 of this space; each goes when .* 900"
        ):
            people.erase([SECRET])
        assert SECRET in held
        held.close()
        assert people.erase([SECRET]).complete


def test_a_snapshot_that_nobody_uses_is_in_nobodys_way(path):
    with (
        serving(path, limits=Limits(snapshot_idle_seconds=0.2)) as server,
        ehub.connect(server.address) as hub,
    ):
        people = hub.get_space("people")
        held = people.snapshot()
        deadline = time.monotonic() + 10
        while people.erasure_plan([SECRET]).blockers and time.monotonic() < deadline:
            time.sleep(0.05)
        assert people.erase([SECRET]).complete
        assert not held.closed


def test_a_stream_that_is_under_way_goes_on_and_the_files_go(tmp_path):
    many = [f"key-{i}" for i in range(30_000)]
    with serving(tmp_path) as server, ehub.connect(server.address) as hub:
        people = hub.create_space("people", dims=64, metric="l2")
        needle = np.full(64, 4.5, np.float32)
        people.multiset([*many, SECRET], np.vstack([np.zeros((len(many), 64)), needle[None]]))
        stream = people.scan(1_000)
        next(stream)
        assert people.erase([SECRET]).complete
        assert files_with(tmp_path, SECRET.encode(), needle.tobytes()) == []
        assert sum(len(keys) for keys, _ in stream) == len(many) + 1 - 1_000
        assert (len(people), hub.verify().findings) == (len(many), ())


def test_searches_and_writes_go_on_meanwhile_and_find_it_no_more(path):
    with serving(path) as server, ehub.connect(server.address) as hub:
        people = hub.get_space("people")
        assert people.nearest_neighbors(1, vector=VECTOR).keys[0] == SECRET
        people.create_subindex("few", keys=[SECRET, "a"])
        list(people.scan())
        people.erase([SECRET])
        assert SECRET not in people.nearest_neighbors(3, vector=VECTOR).keys
        assert people.subindex("few").members().tolist() == ["a"]
        assert files_with(path, SECRET.encode(), VECTOR.tobytes()) == []


def test_a_measuring_of_recall_is_in_no_erasures_way(path, monkeypatch):
    with serving(path) as server:
        people, erased = server.hub.get_space("people"), []

        def erase(distances, truth):
            erased.append(people.erase([SECRET]))
            return len(truth)

        monkeypatch.setattr("ehub.server.metrics.recall.as_near", erase)
        sample = RecallSample(server.hub, 3_600, 10)
        sample.keep(
            pb.SearchRequest(
                target=pb.Target(space="people"),
                vectors=vectors_message(VECTOR[None]),
                options=pb.SearchOptions(k=1),
            )
        )
        sample.measure()
        sample.close()
        assert [receipt.complete for receipt in erased] == [True]
        assert SECRET not in people


def test_a_wait_ends_before_the_time_of_the_call_is_over(path):
    with (
        serving(path) as server,
        ehub.connect(server.address, timeout_seconds=2) as hub,
        ehub.open(path, read_only=True) as reader,
    ):
        receipt = hub.get_space("people").erase([SECRET], wait=60)
        assert receipt.held
        assert hub.finish_erasures(wait=60) == list(receipt.held)
        reader.refresh()
        assert hub.finish_erasures(wait=60) == []
        assert files_with(path, SECRET.encode(), VECTOR.tobytes()) == []


def test_what_a_repair_left_is_told_without_where_the_hub_is(path):
    (path / "lost+found").mkdir()
    with serving(path) as server, ehub.connect(server.address) as hub:
        with pytest.raises(ehub.ConflictError, match=r"lost\+found has files") as caught:
            hub.get_space("people").erase([SECRET])
        assert str(path) not in str(caught.value)


# --- who may ---

GRANTS = [
    ("us", "writer on space:people/partition:us"),
    ("editor", "editor on space:people"),
    ("other", "admin on space:other"),
    ("admin", "admin on space:people"),
]


def test_an_admin_of_the_space_erases_and_nobody_less(tmp_path):
    with guarded(tmp_path / "hub", GRANTS) as served:
        people = served.hub.create_space("people", dims=DIMS)
        people.multiset([SECRET, "a"], [VECTOR, VECTOR + 1], partition="us")
        for name in ("us", "editor"):
            with served.connect(name) as hub:
                remote = hub.get_space("people")
                for call in (remote.erase, remote.erasure_plan):
                    with pytest.raises(ehub.PermissionDeniedError):
                        call([SECRET])
        with served.connect("other") as hub, pytest.raises(ehub.NotFoundError):
            hub.get_space("people").erase([SECRET])
        with served.connect("admin") as hub:
            assert hub.get_space("people").erase([SECRET]).complete
            with pytest.raises(ehub.PermissionDeniedError):
                hub.finish_erasures()
        with served.connect("root") as hub:
            assert hub.finish_erasures() == []
        assert list(people) == ["a"]


def test_where_backups_are_and_what_readers_hold_is_told_to_admins_of_the_hub_alone(tmp_path):
    path = tmp_path / "hub"
    with guarded(path, [*GRANTS, ("hubs", "admin on hub")]) as served:
        people = served.hub.create_space("people", dims=DIMS)
        people.multiset([SECRET, "a"], [VECTOR, VECTOR + 1])
        with served.connect("admin") as hub:
            plan = hub.get_space("people").erasure_plan([SECRET])
            assert (plan.readers, plan.backups, plan.hidden) == ((), (), ())
        served.hub.backup(tmp_path / "place")
        for name in ("admin", "hubs"):
            with ehub.open(path, read_only=True), served.connect(name) as hub:
                people = hub.get_space("people")
                told = [people.erasure_plan([SECRET]), people.erase([SECRET])]
            plan, receipt = told
            assert not receipt.complete
            named = {"manifest-", str(tmp_path / "place")}
            if name == "hubs":
                assert all(all(text in str(one) for text in named) for one in told)
                assert plan.hidden == receipt.hidden == ()
                continue
            assert not any(text in json.dumps(plan.to_dict()) for text in named)
            assert (receipt.held, receipt.backups) == ((), ())
            assert str(tmp_path) not in json.dumps(receipt.to_dict())
            assert (plan.hidden, receipt.hidden) == (("backups", "readers"), ("backups", "held"))
            assert "there are backups, which are not erased from: admins of" in str(receipt)
            assert all("reader processes hold" in str(one) for one in told)


def test_a_receipt_that_is_asked_for_again_tells_each_what_it_may_see(tmp_path):
    request = pb.EraseRequest(
        request=pb.RequestId(client=CLIENT, slot=0, number=1), space="people", keys=texts(SECRET)
    )
    with guarded(tmp_path / "hub", GRANTS) as served:
        served.hub.create_space("people", dims=DIMS).set(SECRET, VECTOR)
        served.hub.backup(tmp_path / "place")
        for name, places in ("admin", []), ("root", [str(tmp_path / "place")]), ("admin", []):
            answer = served.call("Erase", request, served.tokens[name])
            assert answer.receipt.backups == places
            assert answer.receipt.hidden == ([] if places else ["backups"])


def test_an_erasure_is_in_the_audit_log_without_its_keys(tmp_path):
    with guarded(tmp_path / "hub", GRANTS) as served:
        served.hub.create_space("people", dims=DIMS).multiset([SECRET, "a"], [VECTOR, VECTOR + 1])
        with served.connect("admin") as hub:
            hub.get_space("people").erasure_plan([SECRET])
            hub.get_space("people").erase([SECRET, "nobody"])
        with served.connect("editor") as hub, pytest.raises(ehub.PermissionDeniedError):
            hub.get_space("people").erase(["a"])
    log = list(entries(tmp_path / "hub"))
    assert [
        (one["principal"], one["method"], one["verb"], one["space"], one["rows"])
        for one in log
        if one["action"] == "mutation"
    ] == [("key:admin", "Erase", "erase", "people", 1)]
    assert [one["method"] for one in log if one["action"] == "denial"] == ["Erase"]
    assert SECRET not in str(log)


# --- odd requests ---

ODD = {
    "no UTF-8": (
        pb.TypedKeys(texts=pb.Keys(utf8=b"\xff", lengths=b"\1\0")),
        {},
        ehub.InvalidKeyError,
    ),
    "integers as texts": (pb.TypedKeys(texts=pb.Keys(integers=bytes(8))), {}, ehub.InvalidKeyError),
    "texts as integers": (
        pb.TypedKeys(integers=texts(SECRET).texts),
        {},
        ehub.InvalidKeyError,
    ),
    "keys of another type": (
        pb.TypedKeys(integers=pb.Keys(integers=bytes(8))),
        {},
        ehub.InvalidKeyError,
    ),
    "a wait below 0": (texts(SECRET), {"wait_seconds": -1}, ehub.InvalidArgumentError),
    "a wait that is none": (texts(SECRET), {"wait_seconds": np.nan}, ehub.InvalidArgumentError),
    "a bad number": (texts(SECRET), {"request": pb.RequestId(number=1)}, ehub.InvalidArgumentError),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_requests_are_refused_with_the_reason_and_erase_nothing(path, odd):
    keys, fields, raised = ODD[odd]
    with guarded(path) as served:
        request = pb.EraseRequest(space="people", keys=keys, **fields)
        _, error = served.refusal("Erase", request, served.tokens["root"])
        assert isinstance(error, raised), error
        assert len(served.hub.get_space("people")) == 3
