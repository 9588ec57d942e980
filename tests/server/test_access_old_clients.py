"""Clients that know no tokens: they are given a role by config, or send a token as metadata.

The service here answers nothing but "reached": what is tested is what lets a call through to it.
"""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from guarded import bearer

import ehub
from ehub.access import Access, AuthSettings, Grant
from ehub.server.config import ServerConfig
from ehub.server.interceptor import AccessInterceptor
from ehub.server.rules import OLD_SERVICE
from ehub.server.serve import Server, Service
from ehub.wire.methods import methods_of

# Method, whether its requests are a stream, and the fields of one: as those clients send them.
OLD = {
    "CheckSpace": (False, ["name"]),
    "Get": (False, ["key", "space"]),
    "Set": (False, ["key", "embedding", "space"]),
    "MultiSet": (True, ["key", "embedding", "space"]),
}


def old_service():
    """A descriptor of some of that service, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="old.proto", package=OLD_SERVICE.rpartition(".")[0], syntax="proto3"
    )
    file.message_type.add(name="Embedding")
    file.message_type.add(name="Reached")
    service = file.service.add(name=OLD_SERVICE.rpartition(".")[2])
    for name, (streams, fields) in OLD.items():
        message = file.message_type.add(name=f"{name}Request")
        for number, field in enumerate(fields, 1):
            one = message.field.add(name=field, number=number, label=1, type=9)
            if field == "embedding":
                one.type, one.type_name = 11, f".{file.package}.Embedding"
        service.method.add(
            name=name,
            input_type=f".{file.package}.{name}Request",
            output_type=f".{file.package}.Reached",
            client_streaming=streams,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName(OLD_SERVICE)


class Reached:
    """Takes every request that comes through, and counts them."""

    def __init__(self, answer):
        self.count = 0
        for name, (streams, _) in OLD.items():
            setattr(self, name, self._stream if streams else self._one)
        self._answer = answer

    def _one(self, request, context):
        self.count += 1
        return self._answer()

    def _stream(self, requests, context):
        for _ in requests:
            self.count += 1
        return self._answer()


@pytest.fixture
def old(tmp_path):
    """Calls a method of a server whose config lets old clients write to "items"."""
    described = old_service()
    methods = methods_of(described)
    reached = Reached(methods["Get"].response)
    settings = AuthSettings(old_clients=(Grant("writer", "space:items"),))
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub, settings)
        token, _ = access.create_key("r", [Grant("reader", "space:other")])
        guard = AccessInterceptor(hub, access)
        config = ServerConfig(port=0)
        with Server(hub, config, [Service(described, reached)], [guard]) as server:
            channel = grpc.insecure_channel(server.address)

            def call(name, *requests, token=None):
                made = [methods[name].request(**request) for request in requests]
                sent = iter(made) if OLD[name][0] else made[0]
                metadata = bearer(token) if token else []
                try:
                    methods[name].call(channel)(sent, metadata=metadata, timeout=10)
                except grpc.RpcError as error:
                    return error.code()
                return grpc.StatusCode.OK

            call.token, call.reached = token, reached
            call.embedding = GetMessageClass(described.file.message_types_by_name["Embedding"])()
            yield call
            channel.close()


OK, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND
DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


def test_without_a_token_they_have_the_role_of_the_config(old):
    assert old("Get", {"space": "items"}) is OK
    assert old("Set", {"space": "items", "embedding": old.embedding}) is OK
    assert old("Set", {"space": "items"}) is OK  # their delete
    assert old("MultiSet", {"space": "items"}, {"space": "items"}) is OK
    assert old("CheckSpace", {"name": "items"}) is OK
    for name, field in (("Get", "space"), ("Set", "space"), ("CheckSpace", "name")):
        assert old(name, {field: "other"}) is NOT_FOUND


def test_with_a_token_they_are_who_it_proves_and_nothing_more(old):
    assert old("Get", {"space": "other"}, token=old.token) is OK
    assert old("Set", {"space": "other"}, token=old.token) is DENIED
    assert old("Get", {"space": "items"}, token=old.token) is NOT_FOUND
    assert old("Get", {"space": "items"}, token="wrong") is UNAUTHENTICATED


def test_each_message_of_a_stream_is_checked_before_the_service_has_it(old):
    assert old("MultiSet", {"space": "items"}, {"space": "other"}, {"space": "items"}) is NOT_FOUND
    assert old.reached.count == 1


def test_what_config_gives_old_clients_is_not_for_others(tmp_path):
    with ehub.open(tmp_path / "hub") as hub:
        access = Access(hub, AuthSettings(old_clients=(Grant("admin", "hub"),)))
        with pytest.raises(ehub.PermissionDeniedError, match="a token is needed"):
            access.authenticate(None)
