"""Calls as messages of a stream: each is allowed what it would be alone, and audited."""

from __future__ import annotations

import random
import time
from datetime import timedelta

import grpc
import pytest
from guarded import guarded
from metered import metered
from streamed import CODES, counted, one_stream, outcome
from test_access_matrix import PRINCIPALS
from test_hostile import CALLERS, MISTAKES, fill, made_up, mutated, require_hushed

from ehub.access import Access, Grant, entries
from ehub.wire import ehub_pb2 as pb
from ehub.wire.methods import SMALL


@pytest.fixture
def forgiving(monkeypatch):
    """Nobody has to wait for what they sent before."""
    monkeypatch.setattr("ehub.server.admission.OFFENCE_SECONDS", 0)


def test_each_message_is_allowed_what_a_call_would_be(tmp_path):
    grants = [(name.replace(" ", "-"), *given) for name, given in PRINCIPALS.items()]
    with guarded(tmp_path / "hub", grants) as served:
        items = served.hub.create_space("items", dims=2)
        items.multiset(["a", "b"], [[1, 1], [2, 2]], partition="us")
        items.multiset(["c"], [[3, 3]], partition="eu")
        for name in (name.replace(" ", "-") for name in PRINCIPALS if name != "nobody"):
            with one_stream(served.channel, served.tokens[name]) as call:
                for method, space, parts in (
                    (method, space, parts)
                    for method in SMALL
                    for space in ("items", "none")
                    for parts in ([], ["us"], ["eu"])
                ):
                    target = pb.Target(space=space, partitions=parts)
                    request = SMALL[method].request(target=target)
                    code, error = served.refusal(method, request, served.tokens[name])
                    told = None if error is None else str(error)
                    assert outcome(call(method, request)) == (code, told), (name, method)


@pytest.mark.parametrize("change", ["revoke", "ungrant", "expire"])
def test_what_a_caller_loses_counts_for_the_next_message(tmp_path, change):
    with guarded(tmp_path / "hub") as served:
        served.hub.create_space("items", dims=2)
        soon = timedelta(seconds=1.5) if change == "expire" else None
        grant = Grant.parse("reader on space:items")
        token, key = served.access.create_key("r", [grant], expires_in=soon)
        with one_stream(served.channel, token) as call:
            assert outcome(call("Count", counted()))[0] is None
            if change == "revoke":
                served.access.revoke(key.id)
            elif change == "ungrant":
                served.access.ungrant("key:r", grant)
            else:
                time.sleep(2)
            lost = grpc.StatusCode.UNAUTHENTICATED
            lost = grpc.StatusCode.NOT_FOUND if change == "ungrant" else lost
            assert outcome(call("Count", counted()))[0] is lost


def test_a_hub_that_becomes_guarded_is_guarded_for_streams_that_are_open(tmp_path):
    with metered(tmp_path) as served, grpc.insecure_channel(served.address) as channel:
        served.hub.create_space("items", dims=2)
        with one_stream(channel) as call:
            assert outcome(call("Count", counted()))[0] is None
            Access(served.hub).create_key("root", [Grant("admin", "hub")])
            assert outcome(call("Count", counted()))[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_message_cannot_say_who_calls(tmp_path):
    with guarded(tmp_path / "hub", anonymous=["reader on space:other"]) as served:
        served.hub.create_space("items", dims=2)
        served.hub.create_space("other", dims=2)
        root = {"authorization": f"Bearer {served.tokens['root']}"}
        with one_stream(served.channel) as call:
            assert outcome(call("Count", counted("other")))[0] is None
            for trace in (root, {"Authorization": root["authorization"]}):
                answer = call("Count", counted(), trace=trace)
                assert outcome(answer)[0] is grpc.StatusCode.NOT_FOUND


def test_who_may_read_nothing_holds_no_stream_open(tmp_path):
    with guarded(tmp_path / "hub", [("nobody",)]) as served:
        for token in (served.tokens["nobody"], "ehub_x", None):
            with one_stream(served.channel, token) as call, pytest.raises(grpc.RpcError):
                call("Count", counted())


@pytest.mark.usefixtures("forgiving")
@pytest.mark.parametrize("caller", [one for one in CALLERS if one != "nobody"])
@pytest.mark.parametrize("name", SMALL)
def test_made_up_and_mutated_messages_end_in_typed_errors_that_leak_nothing(tmp_path, name, caller):
    grants = [(each, *given) for each, given in CALLERS.items()]
    rng = random.Random(f"{name} {caller} streamed")
    with guarded(tmp_path / "hub", grants) as served:
        fill(served.hub)
        with one_stream(served.channel, served.tokens[caller]) as call:
            for turn in range(40):
                data = made_up(SMALL[name].request, rng).SerializeToString()
                data = mutated(data, rng) if turn % 2 else data
                answer = call(name, data, timeout_seconds=rng.choice([0, -1, 60, float("nan")]))
                assert CODES[answer.code] not in MISTAKES, answer
                if caller != "root":
                    require_hushed(str(answer), [data])


def test_denied_messages_are_in_the_audit_log_under_their_methods(tmp_path):
    with guarded(tmp_path / "hub", [("r", "reader on space:items")]) as served:
        served.hub.create_space("items", dims=2)
        served.hub.create_space("other", dims=2)
        hub = served.connect("r")
        assert len(hub.get_space("items")) == 0
        with one_stream(served.channel, served.tokens["r"]) as call:
            call("Count", counted("other"))
        log = entries(tmp_path / "hub")
    denials = [one["method"] for one in log if one["action"] == "denial"]
    assert denials == ["Count"]
