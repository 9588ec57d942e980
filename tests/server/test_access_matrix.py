"""Every RPC has a rule, and each cell of role x RPC is as a table that was written apart says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Reflect
from guarded import METHODS, bearer, guarded

import ehub
from ehub.access import Access, Grant
from ehub.server.rules import RULES
from ehub.wire import ehub_pb2 as pb

DENIED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}

# --- a rule for every RPC ---


def test_every_rpc_that_a_server_offers_has_a_rule_and_there_are_no_rules_for_others(tmp_path):
    """The list is the server's own, by reflection: a service that is added to it is in it."""
    with ehub.open(tmp_path / "hub") as hub:
        token, _ = Access(hub).create_key("root", [Grant("admin", "hub")])
    command = [sys.executable, "-m", "ehub.cli", "serve", str(tmp_path / "hub"), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = next(address_of(line) for line in process.stderr if '"address"' in line)
            with grpc.insecure_channel(address) as channel:
                offered = rpcs_of(channel, token)
        finally:
            process.terminate()
            process.stderr.read()
    assert {method.path for method in METHODS.values()} < offered
    assert sorted(offered - set(RULES)) == [], "these have no rule in ehub/server/rules.py"
    # Not every release of grpcio-health-checking that we take has this one.
    assert set(RULES) - offered <= {"/grpc.health.v1.Health/List"}


def address_of(line):
    return json.loads(line)["address"]


def rpcs_of(channel, token):
    """The paths of all RPCs, as the server's reflection describes them."""
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo

    def asked(**what):
        (answer,) = ask(iter([Reflect(**what)]), metadata=bearer(token), timeout=10)
        return answer

    found = set()
    for offered in asked(list_services="").list_services_response.service:
        described = asked(file_containing_symbol=offered.name).file_descriptor_response
        for text in described.file_descriptor_proto:
            file = FileDescriptorProto.FromString(text)
            for one in file.service:
                if f"{file.package}.{one.name}" == offered.name:
                    found |= {f"/{offered.name}/{method.name}" for method in one.method}
    return found


def test_an_rpc_without_a_rule_is_denied_to_everybody(tmp_path, monkeypatch):
    monkeypatch.delitem(RULES, "/ehub.v1.Embeddinghub/Count")
    with guarded(tmp_path / "hub") as served:
        code, error = served.refusal("Count", pb.CountRequest(), served.tokens["root"])
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert "no rule" in str(error)


# --- the matrix: who may call what on the space "items" ---

# For each RPC: who may, as the least role; on the space, unless it says hub. "part" is whoever may
# read or write in a partition; "known" is any key.
LEAST = {
    "Hello": "known",
    "Info": "reader of hub",
    "Sync": "writer anywhere",
    "Checkpoint": "admin of hub",
    "Verify": "admin of hub",
    "Metrics": "reader of hub",
    "Backup": "admin of hub",
    "ListSpaces": "known",
    "CreateSpace": "editor",
    "DeleteSpace": "editor",
    "Describe": "reader or part",
    "ListVersions": "reader or part",
    "CreateVersion": "editor",
    "DeleteVersion": "editor",
    "Freeze": "editor",
    "Fork": "editor",
    "ListAliases": "reader or part",
    "SetAlias": "editor",
    "RemoveAlias": "editor",
    "Promote": "editor",
    "Rollback": "editor",
    "TakeSnapshot": "reader or part",
    "OpenTag": "reader or part",
    "CloseSnapshot": "reader or part",
    "ListTags": "reader or part",
    "SetTag": "editor",
    "RemoveTag": "editor",
    "ExpireSnapshots": "editor",
    "Restore": "editor",
    "Diff": "reader",
    "Count": "reader or part",
    "Get": "reader or part",
    "MultiGet": "reader or part",
    "Locate": "reader or part",
    "Scan": "reader or part",
    "ListPartitions": "reader or part",
    "Search": "reader or part",
    "Recommend": "reader or part",
    "Average": "reader or part",
    "AveragePartitions": "reader or part",
    "KMeans": "reader or part",
    "Write": "writer",
    "Ingest": "writer",
    "IndexStats": "reader",
    "StorageStats": "reader",
    "WaitIndexed": "reader",
    "Optimize": "editor",
    "Compact": "editor",
    "MeasureRecall": "reader",
    "ListAverages": "reader or part",
    "CreateAverage": "editor",
    "DeleteAverage": "editor",
    "UpdateAverage": "writer",
    "GetMembers": "reader",
    "RefreshAverage": "reader",
    "ListSubIndices": "reader or part",
    "CreateSubIndex": "editor",
    "DropSubIndex": "editor",
    "UpdateSubIndex": "writer",
    "ScanSubIndexKeys": "reader",
    "PlanErasure": "admin",
    "Erase": "admin",
    "FinishErasures": "admin of hub",
    "Calls": "reader anywhere",
    "CreateKey": "admin of hub",
    "RevokeKey": "admin of hub",
    "AddGrant": "admin of hub",
    "RemoveGrant": "admin of hub",
    "ListAccess": "admin of hub",
}

ORDER = ["reader", "writer", "editor", "admin"]
PRINCIPALS = {
    **{f"{role} of hub": [f"{role} on hub"] for role in ORDER},
    **{f"{role} of items": [f"{role} on space:items"] for role in ORDER},
    **{f"{role} of another": [f"{role} on space:other"] for role in ORDER},
    "part reader": ["reader on space:items/partition:us"],
    "part writer": ["writer on space:items/partition:us"],
    "nobody": [],
}


def may(principal, rpc):
    """What the tables above say."""
    least, role = LEAST[rpc], principal.split()[0]
    if least == "known":
        return True
    if least == "reader anywhere":
        return role != "nobody"
    if least == "writer anywhere":
        return role in ("writer", "editor", "admin") or principal == "part writer"
    if principal.startswith("part"):
        return least.endswith("or part")
    if role == "nobody" or principal.endswith("of another"):
        return False
    if least.endswith("of hub") and not principal.endswith("of hub"):
        return False
    return ORDER.index(role) >= ORDER.index(least.split()[0])


def request_for(rpc):
    """A request about the space, that fails later if it gets so far and would destroy something."""
    make = METHODS[rpc].request
    fields = make.DESCRIPTOR.fields_by_name
    if rpc in ("Write", "Ingest"):
        return pb.WriteRequest(parts=[pb.Part(target=target(), set=pb.Set())])
    if rpc == "Diff":
        return pb.DiffRequest(since=target(), until=target())
    if "target" in fields:
        return make(target=target())
    return make(space="items") if "space" in fields else make()


def target(space="items", **more):
    return pb.Target(space=space, version="" if more.pop("now", False) else "none-such", **more)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    grants = [(name.replace(" ", "-"), *given) for name, given in PRINCIPALS.items()]
    with guarded(tmp_path_factory.mktemp("matrix") / "hub", grants) as one:
        one.hub.create_space("items", dims=2)
        yield one


def test_the_matrix_has_every_rpc():
    assert set(LEAST) == set(METHODS)


@pytest.mark.parametrize("rpc", METHODS)
@pytest.mark.parametrize("principal", PRINCIPALS)
def test_each_cell_of_role_and_rpc_is_as_the_table_says(served, principal, rpc):
    if "items" not in served.hub:
        served.hub.create_space("items", dims=2)
    token = served.tokens[principal.replace(" ", "-")]
    code, error = served.refusal(rpc, request_for(rpc), token)
    hidden = code == grpc.StatusCode.NOT_FOUND and str(error) == "there is no space 'items'"
    assert (code not in DENIED and not hidden) == may(principal, rpc), error


@pytest.mark.parametrize("rpc", METHODS)
def test_no_rpc_is_served_without_a_token_that_is_believed(served, rpc):
    for token in (None, "x", "a.b.c", "ehub_x", served.tokens["nobody"][:-1]):
        code, error = served.refusal(rpc, request_for(rpc), token)
        assert code == grpc.StatusCode.UNAUTHENTICATED
        assert isinstance(error, ehub.PermissionDeniedError)


def names_a_space(rpc):
    return bool(
        {"target", "space", "since", "parts"} & set(request_for(rpc).DESCRIPTOR.fields_by_name)
    )


@pytest.mark.parametrize("rpc", list(filter(names_a_space, METHODS)))
def test_a_space_that_may_not_be_seen_cannot_be_told_from_one_that_is_missing(served, rpc):
    if "items" not in served.hub:
        served.hub.create_space("items", dims=2)
    there = served.refusal(rpc, request_for(rpc), served.tokens["editor-of-another"])
    served.hub.delete_space("items")
    missing = served.refusal(rpc, request_for(rpc), served.tokens["editor-of-another"])
    assert there[0] == missing[0]
    assert type(there[1]) is type(missing[1])
    assert str(there[1]) == str(missing[1])


def test_an_unknown_method_is_refused_before_anything_else(served):
    call = served.channel.unary_unary("/ehub.v1.Embeddinghub/Nothing")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10, metadata=bearer(served.tokens["root"]))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_is_told_to_everybody_and_reflection_to_keys(served):
    health = served.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"", timeout=10) == b"\x08\x01"
    database = ProtoReflectionDescriptorDatabase(served.channel)
    with pytest.raises(grpc.RpcError) as caught:
        database.get_services()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "")],
        [("authorization", "Basic eDp5")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer " + "x" * 8_000)],
        [("authorization-bin", b"\xff\x00")],
        [("authorization", "Bearer x"), ("authorization", "Bearer y")],
    ],
    ids=lambda metadata: repr(metadata)[:40],
)
def test_odd_metadata_is_refused_as_any_wrong_token(served, metadata):
    code, _ = served.refusal("Hello", pb.HelloRequest(), metadata=metadata)
    assert code == grpc.StatusCode.UNAUTHENTICATED


def test_the_name_of_the_scheme_may_be_in_any_case(served):
    for scheme in ("Bearer", "bearer", "BEARER"):
        metadata = [("authorization", f"{scheme} {served.tokens['root']}")]
        assert served.refusal("Hello", pb.HelloRequest(), metadata=metadata)[0] is None


def test_a_refused_call_is_ended_before_its_request_is_read(served):
    """A stream that sends nothing at all is refused; so is a message that would not parse."""
    wait = threading.Event()
    answers = METHODS["Ingest"].call(served.channel)(iter(wait.wait, True), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    wait.set()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    call = served.channel.unary_unary("/ehub.v1.Embeddinghub/Write")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff" * (8 << 20), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
