"""Callers who open calls and keep still: they get so many places for so long, and others go on."""

from __future__ import annotations

import gc
import queue
import threading
import time
from contextlib import ExitStack, suppress

import grpc
import numpy as np
import pytest
from guarded import METHODS, bearer, guarded
from http2 import Wire
from metered import messages, metered, until

import ehub
from ehub.access import Grant
from ehub.access.access import NotAuthenticated
from ehub.server import admission, serve
from ehub.server.admission import WATCHES, Places
from ehub.server.config import Limits
from ehub.server.handlers import REFUSALS_BURST, REFUSALS_PER_SECOND, Refusals
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import OLD, methods_of

Code = grpc.StatusCode
FEW = Limits(calls=8, streams=4, idle_seconds=1.0)
PATIENT = Limits(calls=8, streams=4)
HEALTH = "/grpc.health.v1.Health"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
OTHER = [("other", "admin on hub")]
OLD_METHODS = methods_of(OLD)


def spaces_of(served, name):
    """What a caller is told of spaces, without trying again."""
    address, token = served.server.address, served.tokens[name]
    with ehub.connect(address, token=token, retry_seconds=0) as hub:
        return hub.spaces()


@pytest.fixture
def patient(tmp_path):
    with guarded(tmp_path / "hub", OTHER, limits=PATIENT) as served:
        yield served


@pytest.fixture
def impatient(tmp_path):
    with guarded(tmp_path / "hub", OTHER, limits=FEW) as served:
        yield served


# --- places ---


def test_one_caller_gets_three_quarters_of_the_places():
    places = Places("calls", 4)
    for _ in range(3):
        places.take("a")
    with pytest.raises(ehub.UnavailableError, match="3 calls in progress, all that one caller"):
        places.take("a")
    places.take("b")
    with pytest.raises(ehub.UnavailableError, match="the server has 4 calls"):
        places.take("c")
    places.give_back("a")
    places.take("c")


def test_a_single_place_is_for_anybody():
    places = Places("streams", 1)
    places.take("a")
    places.give_back("a")
    places.take("b")


def test_half_open_calls_of_one_caller_leave_places_for_others(patient):
    with ExitStack() as wires:
        for _ in range(10):
            wire = wires.enter_context(Wire(patient.server.address))
            for _ in range(10):
                wire.begin(patient.tokens["root"])

        def refused():
            try:
                spaces_of(patient, "root")
            except ehub.UnavailableError as error:
                return str(error)

        assert "all that one caller gets" in until(refused)
        for _ in range(20):
            assert spaces_of(patient, "other") == []


def test_streams_count_together_whichever_service_has_them(patient):
    patient.hub.create_space("items", dims=2)
    wait, root = threading.Event(), bearer(patient.tokens["root"])
    paths = [METHODS["Ingest"].path, OLD_METHODS["MultiSet"].path] * 2
    calls = [
        patient.channel.stream_stream(path)(iter(wait.wait, True), metadata=root, timeout=60)
        for path in paths
    ]
    # One caller gets three quarters of them.
    refused = until(lambda: [one for one in calls if one.done()])
    assert [(one.code(), "`streams` is 4" in one.details()) for one in refused] == [
        (Code.UNAVAILABLE, True)
    ]
    assert spaces_of(patient, "root") == ["items"]
    wait.set()


def test_a_caller_is_their_token_however_it_is_written(patient):
    wait, path = threading.Event(), METHODS["Ingest"].path
    patient.hub.create_space("items", dims=2)
    ways = ("Bearer ", "bearer ", "BEARER  ", "beareR ")
    calls = [
        patient.channel.stream_stream(path)(
            iter(wait.wait, True),
            metadata=[("authorization", way + patient.tokens["root"])],
            timeout=60,
        )
        for way in ways
    ]
    refused = until(lambda: [one for one in calls if one.done()])
    assert [one.code() for one in refused] == [Code.UNAVAILABLE]
    wait.set()


# --- time ---


def test_a_call_without_its_request_ends(impatient):
    with Wire(impatient.server.address) as wire:
        begun = [wire.begin(impatient.tokens["root"]) for _ in range(6)]
        began = time.monotonic()
        assert sorted(wire.ended() for _ in begun) == begun
        assert 0.9 < time.monotonic() - began < 10
    assert spaces_of(impatient, "root") == []


def test_a_request_that_stops_in_its_middle_ends(impatient):
    with Wire(impatient.server.address) as wire:
        stream = wire.begin(impatient.tokens["root"])
        wire.send(stream, b"\0\0\0\0\x64" + b"x" * 50)
        assert wire.ended() == stream


def test_a_call_of_one_request_that_closes_without_it_is_the_callers_mistake(patient):
    call = patient.channel.stream_unary(METHODS["Count"].path)
    with pytest.raises(grpc.RpcError, match="no request") as failed:
        call(iter(()), metadata=bearer(patient.tokens["root"]), timeout=60)
    assert failed.value.code() is Code.INVALID_ARGUMENT


def test_a_stream_that_says_nothing_ends(impatient):
    impatient.hub.create_space("items", dims=2)
    wait, root = threading.Event(), bearer(impatient.tokens["root"])
    answers = METHODS["Ingest"].call(impatient.channel)(iter(wait.wait, True), metadata=root)
    with pytest.raises(grpc.RpcError) as failed:
        next(answers)
    wait.set()
    assert failed.value.code() is Code.CANCELLED


def test_a_client_that_pauses_in_an_ingest_goes_on_after_it(impatient):
    items = impatient.connect().create_space("items", dims=2)

    def rows():
        for i in range(30_000):
            if i % 10_000 == 1:  # the batch before is on its way
                time.sleep(3)
            yield f"k{i}", [1, i]

    assert items.multiset(rows()) == 30_000
    assert len(items) == 30_000


def test_a_reader_who_stops_reading_is_left(impatient):
    items = impatient.hub.create_space("items", dims=512)
    items.multiset([f"k{i}" for i in range(40_000)], np.ones((40_000, 512), np.float32))
    scan = impatient.connect().get_space("items").scan(1_000)
    next(scan)
    time.sleep(3)
    with pytest.raises(ehub.UnavailableError):
        list(scan)


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_that_is_never_taken_frees_its_place(impatient, streams):
    items = impatient.hub.create_space("items", dims=512)
    items.multiset(["a", "b"], np.ones((2, 512), np.float32))
    target = pb.Target(space="items")
    request = pb.ScanRequest(target=target) if streams else pb.CountRequest(target=target)
    path = METHODS["Scan" if streams else "Count"].path
    with Wire(impatient.server.address, window=0) as wire:
        begun = [
            wire.begin(impatient.tokens["root"], path, request.SerializeToString())
            for _ in range(3)
        ]
        assert {wire.ended() for _ in begun} == set(begun)
    assert spaces_of(impatient, "root") == ["items"]


def test_a_call_that_works_is_not_ended(impatient, monkeypatch):
    impatient.hub.create_space("items", dims=2)
    versions = ehub.Space.versions
    monkeypatch.setattr(ehub.Space, "versions", lambda space: time.sleep(2.5) or versions(space))
    assert impatient.connect().get_space("items").versions() == ["initial"]


# --- connections ---


def test_connections_leave_descriptors_for_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "descriptors_max", lambda: 24)
    with guarded(tmp_path / "hub", OTHER) as served:
        token = served.tokens["root"]
        with ExitStack() as wires:
            served.call("ListSpaces", pb.ListSpacesRequest(), token)
            for _ in range(40):
                with suppress(ConnectionError):
                    wires.enter_context(Wire(served.server.address))
            assert is_cut_off(served.server.address, token)
            served.call("CreateSpace", space_of(2), token)  # who has one keeps it
        assert until(lambda: reached(served)) == ["items"]


def is_cut_off(address, token):
    """Whether the server closes a connection without a word about its call."""
    try:
        with Wire(address) as wire:
            wire.begin(token)
            wire.ended(5)
    except ConnectionError:
        return True
    return False


def space_of(dims):
    return pb.CreateSpaceRequest(space="items", schema=pb.Schema(dims=dims))


def reached(served):
    try:
        return spaces_of(served, "other")
    except ehub.UnavailableError:
        return None


# --- strangers ---


def test_strangers_hold_health_checks_and_nothing_else(patient):
    """What nobody needs a token for has places and threads of its own."""
    began = time.monotonic()
    with ExitStack() as wires:
        for _ in range(10):
            wire = wires.enter_context(Wire(patient.server.address, window=0))
            for _ in range(40):
                wire.begin(None, f"{HEALTH}/Check")
                wire.begin(None, f"{HEALTH}/Watch", b"")
        for _ in range(20):
            assert spaces_of(patient, "other") == []
        patient.server.stop(0)  # and the watchers do not keep it from stopping
    assert time.monotonic() - began < 60


def test_who_watches_health_under_many_names_leaves_room_for_who_asks(patient):
    watch = patient.channel.unary_stream(f"{HEALTH}/Watch")
    check = patient.channel.unary_unary(f"{HEALTH}/Check")
    watching = [watch(b"", metadata=[("authorization", f"x{i}")], timeout=60) for i in range(60)]
    refused = until(lambda: [one for one in watching if one.done()])
    assert {one.code() for one in refused} == {Code.UNAVAILABLE}
    until(lambda: sum(one.done() for one in watching) == 60 - (WATCHES - WATCHES // 4))
    for _ in range(10):
        assert check(b"", timeout=10) == b"\x08\x01"


def test_nobody_watches_health_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "WATCH_SECONDS", 0.5)
    with guarded(tmp_path / "hub", OTHER, limits=PATIENT) as served:
        watch = served.channel.unary_stream(f"{HEALTH}/Watch")(b"", timeout=60)
        assert next(watch) == b"\x08\x01"
        with pytest.raises(grpc.RpcError):
            next(watch)
        assert watch.code() is Code.CANCELLED


def test_health_is_told_to_who_asks_and_who_watches(patient):
    check = patient.channel.unary_unary(f"{HEALTH}/Check")
    watch = patient.channel.unary_stream(f"{HEALTH}/Watch")(b"", timeout=60)
    assert check(b"", timeout=60) == next(watch) == b"\x08\x01"  # SERVING
    time.sleep(1)
    patient.server.stop(1)
    assert next(watch) == b"\x08\x02"


def test_callers_who_are_nobody_hold_no_place(patient):
    with Wire(patient.server.address) as wire:
        begun = [wire.begin("ehub_made_up") for _ in range(40)]
        assert {wire.ended() for _ in begun} == set(begun)
    assert spaces_of(patient, "root") == []


def test_a_flood_of_callers_who_are_nobody_stops_nobody(patient):
    with Wire(patient.server.address) as wire:
        for _ in range(8):
            begun = [wire.begin("ehub_made_up") for _ in range(30)]
            assert {wire.ended() for _ in begun} == set(begun)
            assert spaces_of(patient, "root") == []


def test_refusals_are_made_in_order_and_at_leisure():
    done, began = [], time.monotonic()
    with Refusals() as refusals:
        for number in range(REFUSALS_BURST + 100):
            refusals.submit(done.append, number)
    assert done == list(range(REFUSALS_BURST + 100))
    assert time.monotonic() - began > 0.9 * 100 / REFUSALS_PER_SECOND


# --- who leaves ---


@pytest.mark.parametrize(
    "path", [*(METHODS[name].path for name in ("Count", "Ingest", "Calls")), REFLECTION]
)
def test_whoever_leaves_many_calls_is_not_refused_further_ones(patient, path):
    """What refers to a call that has ended counts as one of its connection, for gRPC."""
    root = bearer(patient.tokens["root"])
    options = [("grpc.use_local_subchannel_pool", 1)]
    gc.collect()
    gc.disable()
    try:
        with grpc.insecure_channel(patient.server.address, options) as channel:
            begin = channel.stream_stream(path)
            for _ in range(2 * PATIENT.connection_streams):
                over = threading.Event()
                left = begin(messages(over), metadata=root, timeout=60)
                time.sleep(0.01)  # so that it is read
                left.cancel()
                over.set()
            count = channel.unary_unary(METHODS["Count"].path)
            with pytest.raises(grpc.RpcError, match="space"):
                count(b"", metadata=root, timeout=60)
    finally:
        gc.enable()


def refusals():
    return [one for one in gc.get_objects() if type(one) is NotAuthenticated]


@pytest.mark.parametrize("metadata", [None, bearer("ehub_made_up"), [("authorization", "x")]])
def test_whoever_is_refused_much_leaves_nothing_behind(patient, metadata):
    count = patient.channel.unary_unary(METHODS["Count"].path)
    gc.collect()
    before = refusals()  # what tests before this one have left
    gc.disable()
    try:
        for _ in range(REFUSALS_BURST - 10):
            with pytest.raises(grpc.RpcError) as failed:
                count(b"", metadata=metadata, timeout=60)
            assert failed.value.code() is Code.UNAUTHENTICATED
        kept = [one for one in refusals() if not any(one is other for other in before)]
        assert len(kept) < 10  # some are about to go
    finally:
        gc.enable()


# --- what is no request ---


def test_who_is_believed_no_more_loses_the_stream_of_their_calls(patient):
    token, key = patient.access.create_key("guest", [Grant.parse("reader on hub")])
    asked = queue.SimpleQueue()
    path = METHODS["Calls"]
    answers = path.call(patient.channel)(iter(asked.get, None), metadata=bearer(token), timeout=60)
    message = pb.CallRequest(method="Count", request=pb.CountRequest().SerializeToString())
    asked.put(message)
    assert next(answers).code != Code.UNAUTHENTICATED.value[0]
    patient.access.revoke(key.id)
    asked.put(message)
    assert next(answers).code == Code.UNAUTHENTICATED.value[0]
    with pytest.raises(StopIteration):
        next(answers)
    asked.put(None)


def test_a_connection_that_sends_what_is_no_request_is_slow_and_others_are_not(patient):
    options, quick = [("grpc.use_local_subchannel_pool", 1)], []
    with grpc.insecure_channel(patient.server.address, options) as channel:
        count, began = channel.unary_unary(METHODS["Count"].path), time.monotonic()
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as failed:
                count(b"\xff" * 100, metadata=bearer(patient.tokens["root"]), timeout=60)
            assert failed.value.code() is Code.INVALID_ARGUMENT
            others = time.monotonic()
            for _ in range(5):
                assert spaces_of(patient, "root") == []
            quick.append(time.monotonic() - others)
        assert time.monotonic() - began > 1.5
    assert min(quick) < 0.9  # who is made to wait, waits each time


@pytest.mark.parametrize("method", ["Count", "Ingest", "Calls"])
def test_a_connection_that_sends_messages_beyond_the_limit_is_slow_and_others_are_not(
    tmp_path, method
):
    limits, quick = Limits(calls=8, streams=4, message_bytes=8 << 20), []
    with guarded(tmp_path / "hub", OTHER, limits=limits) as served:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
        ]
        with grpc.insecure_channel(served.server.address, options) as channel:
            call, began = channel.unary_unary(METHODS[method].path), time.monotonic()
            for _ in range(3):
                with pytest.raises(grpc.RpcError, match="larger than max") as failed:
                    call(b"\xff" * (9 << 20), metadata=bearer(served.tokens["root"]), timeout=60)
                assert failed.value.code() is Code.RESOURCE_EXHAUSTED
                others = time.monotonic()
                for _ in range(5):
                    assert spaces_of(served, "root") == []
                quick.append(time.monotonic() - others)
            assert time.monotonic() - began > 1.5
        assert min(quick) < 0.9  # who is made to wait, waits each time


def test_who_leaves_while_made_to_wait_is_not_made_to_wait_for_it(patient, monkeypatch):
    """Else a client that waits for less than that would never be answered again."""
    monkeypatch.setattr(admission, "OFFENCE_SECONDS", 3.0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    root = bearer(patient.tokens["root"])
    with grpc.insecure_channel(patient.server.address, options) as channel:
        count = channel.unary_unary(METHODS["Count"].path)
        with pytest.raises(grpc.RpcError):
            count(b"\xff" * 100, metadata=root, timeout=60)
        offended = time.monotonic()
        while time.monotonic() - offended < 2.4:
            with pytest.raises(grpc.RpcError) as failed:
                count(b"", metadata=root, timeout=0.1)
            assert failed.value.code() is Code.DEADLINE_EXCEEDED
        with pytest.raises(grpc.RpcError):
            count(b"", metadata=root, timeout=60)
        assert time.monotonic() - offended < 2.4 + 2.4


@pytest.mark.parametrize("method", ["Ingest", "Calls", "old MultiSet"])
def test_who_sends_nothing_and_who_leaves_before_a_message_does_not_become_slow(patient, method):
    options = [("grpc.use_local_subchannel_pool", 1)]
    root = bearer(patient.tokens["root"])
    called = OLD_METHODS["MultiSet"] if method.startswith("old") else METHODS[method]
    with grpc.insecure_channel(patient.server.address, options) as channel:
        count = channel.unary_unary(METHODS["Count"].path)
        call, began = channel.stream_stream(called.path), time.monotonic()
        for _ in range(3):
            with suppress(grpc.RpcError):  # not all take nothing at all
                list(call(iter(()), metadata=root, timeout=60))
            never = queue.SimpleQueue()
            left = call(iter(never.get, None), metadata=root, timeout=60)
            time.sleep(0.1)
            left.cancel()
            late = call(iter(never.get, None), metadata=root, timeout=0.1)
            with pytest.raises(grpc.RpcError) as failed:
                next(late)
            assert failed.value.code() is Code.DEADLINE_EXCEEDED
            for _ in range(2):
                never.put(None)
            with pytest.raises(grpc.RpcError, match="space"):
                count(b"", metadata=root, timeout=60)
        assert time.monotonic() - began < 3


def test_a_message_beyond_the_limit_behind_others_makes_slow_too(tmp_path):
    limits = Limits(calls=8, streams=4, message_bytes=8 << 20)
    with guarded(tmp_path / "hub", limits=limits) as served:
        served.hub.create_space("items", dims=2, metric="l2")
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
        ]
        with grpc.insecure_channel(served.server.address, options) as channel:
            set_all = OLD_METHODS["MultiSet"]
            call = channel.stream_unary(set_all.path)
            row = set_all.request(space="items", key="a", embedding={"values": [1, 2]})
            sent = [row.SerializeToString(), b"\xff" * (9 << 20)]
            root, began = bearer(served.tokens["root"]), time.monotonic()
            for _ in range(3):
                with pytest.raises(grpc.RpcError, match="larger than max"):
                    call(iter(sent), metadata=root, timeout=60)
            assert time.monotonic() - began > 1.5


def test_who_shares_an_address_with_an_offender_on_this_machine_is_not_made_to_wait():
    """Clients of a socket have none of their own."""
    offenders, began = admission.Offenders(), time.monotonic()
    offenders.add("unix:")
    offenders.wait("unix:")
    assert time.monotonic() - began < 0.9


# --- figures ---


def test_calls_for_which_there_is_no_place_are_counted(tmp_path):
    with metered(tmp_path / "hub", limits=PATIENT) as served, Wire(served.address) as wire:
        for _ in range(10):
            wire.begin(None)
        refused = lambda: served.value("ehub_calls_total", method="Count", code="UNAVAILABLE")  # noqa: E731
        assert until(lambda: refused() == 4)
        running = served.value("ehub_calls_in_progress", method="Count")
        assert running == 6
