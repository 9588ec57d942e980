"""The code that was made of the protocols is what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from ehub.wire import access_pb2, ehub_pb2, old_clients_pb2
from ehub.wire.generate import PROTOS, generate

MODULES = {
    "ehub/wire/ehub.proto": ehub_pb2,
    "ehub/wire/access.proto": access_pb2,
    "ehub/wire/old_clients.proto": old_clients_pb2,
}


def test_every_protocol_is_known():
    assert set(PROTOS) == set(MODULES)


@pytest.mark.parametrize("proto", PROTOS)
def test_generated_code_is_current(proto, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # grpc_tools puts its own there
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles protocols")
    described = tmp_path / "described"
    generate(tmp_path, "--include_imports", f"--descriptor_set_out={described}")
    found = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
    now = next(file for file in found.file if file.name == proto)
    committed = descriptor_pb2.FileDescriptorProto()
    MODULES[proto].DESCRIPTOR.CopyToProto(committed)
    for file in (now, committed):
        forget_json_names(file.message_type)
    assert committed == now, "run python -m ehub.wire.generate"
    assert (tmp_path / Path(proto).with_name(Path(proto).stem + "_pb2.pyi")).exists()


def forget_json_names(messages):
    """Of each field; only the compiler says them."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        forget_json_names(message.nested_type)
