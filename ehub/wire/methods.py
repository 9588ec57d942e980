"""A gRPC service as its descriptor says it: methods, their handlers in a server, their calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from ehub.errors import InvalidArgumentError
from ehub.wire import access_pb2, ehub_pb2, old_clients_pb2
from ehub.wire.chunks import Chunk

__all__ = [
    "ACCESS",
    "BY_PATH",
    "CALLS",
    "OLD",
    "SERVICE",
    "SMALL",
    "Method",
    "Unreadable",
    "handlers",
    "handlers_by_path",
    "methods_of",
    "packed",
    "readable",
    "reader_of",
]

SERVICE: ServiceDescriptor = ehub_pb2.DESCRIPTOR.services_by_name["Embeddinghub"]
ACCESS: ServiceDescriptor = access_pb2.DESCRIPTOR.services_by_name["Access"]
# Of the clients of 2021.
OLD: ServiceDescriptor = old_clients_pb2.DESCRIPTOR.services_by_name["EmbeddingHub"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    name: str
    path: str  # "/package.Service/Name", as interceptors see it
    request: type[Any]
    response: type[Any]
    request_streams: bool
    response_streams: bool

    @property
    def shape(self) -> str:
        """How gRPC calls it: "unary_unary", "unary_stream", "stream_unary", "stream_stream"."""
        kinds = {False: "unary", True: "stream"}
        return f"{kinds[self.request_streams]}_{kinds[self.response_streams]}"

    def handler(self, behaviour: Callable[[Any, Any], Any]) -> grpc.RpcMethodHandler:
        """What a server runs: `behaviour(request or iterator of them, context)`."""
        make = getattr(grpc, f"{self.shape}_rpc_method_handler")
        return make(
            behaviour,
            request_deserializer=reader_of(self.request),
            response_serializer=self.response.SerializeToString,
        )

    def call(self, channel: Any) -> Any:
        """The multi-callable of a channel, of `grpc` or `grpc.aio`."""
        return getattr(channel, self.shape)(
            self.path,
            request_serializer=packed,
            response_deserializer=self.response.FromString,
        )


def packed(message: Any) -> bytes:
    """A message as it travels; one that is packed already as it is."""
    data: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return data


# Requests that are something else than messages of protobuf when they are read.
READERS: dict[type[Any], Callable[[bytes], Any]] = {ehub_pb2.WriteRequest: Chunk.read}


class Unreadable:
    """In the place of a request that is no message of its kind."""

    def __init__(self, why: str) -> None:
        self.why = why


def reader_of(kind: type[Any]) -> Callable[[bytes], Any]:
    """From bytes to messages; what is none is no exception, which gRPC would call INTERNAL."""
    from_string = READERS.get(kind, kind.FromString)

    def read(data: bytes) -> Any:
        try:
            return from_string(data)
        except DecodeError as error:
            return Unreadable(f"the request is no {kind.DESCRIPTOR.full_name}: {error}")

    return read


def readable(request: Any) -> Any:
    """The request; an InvalidArgumentError if it was none."""
    if type(request) is Unreadable:
        raise InvalidArgumentError(request.why)
    return request


def methods_of(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a service by name."""
    return {
        method.name: Method(
            method.name,
            f"/{service.full_name}/{method.name}",
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


# Of all our services, by what interceptors see.
BY_PATH: dict[str, Method] = {
    method.path: method
    for service in (SERVICE, ACCESS, OLD)
    for method in methods_of(service).values()
}


# The path of the method whose messages are calls.
CALLS = f"/{SERVICE.full_name}/Calls"
# What is sent as a message of it: reads that are answered in one message.
SMALL: dict[str, Method] = {
    name: BY_PATH[f"/{SERVICE.full_name}/{name}"]
    for name in ("Count", "Get", "Locate", "Recommend", "Search")
}


def handlers_by_path(
    service: ServiceDescriptor, servicer: object
) -> dict[str, grpc.RpcMethodHandler]:
    """The handlers of a service by path: `servicer` has a method for each of its own."""
    return {
        method.path: method.handler(getattr(servicer, name))
        for name, method in methods_of(service).items()
    }


def handlers(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """The handlers of a service: `servicer` has a method of the same name for each of its own."""
    table = {
        name: method.handler(getattr(servicer, name))
        for name, method in methods_of(service).items()
    }
    return grpc.method_handlers_generic_handler(service.full_name, table)
