"""The service of the clients of 2021, `featureform.embedding.proto.EmbeddingHub`, over a hub.

What those clients make are ordinary spaces, with the metric "l2", that everybody else sees too; of
spaces with several versions they see the one behind the alias "default". Their protocol has no
batches: each row is a message, so what is streamed is gathered into batches here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeAlias

import grpc
import numpy as np

from ehub.errors import InvalidArgumentError
from ehub.hub import Hub
from ehub.server.calls import CallerLeftError, Guard
from ehub.server.config import Limits
from ehub.server.serve import Service
from ehub.types import Vectors
from ehub.version import Version
from ehub.wire import old_clients_pb2 as pb
from ehub.wire.methods import OLD
from ehub.wire.packing import varint

__all__ = ["OldClients", "old_service"]

Context: TypeAlias = grpc.ServicerContext

DELETE_BATCH_KEYS = 10_000
SCAN_BATCH_ROWS = 1_024
SCAN_BATCH_BYTES = 1 << 20
FLOAT_BYTES = 4
KEY_CHARS_MAX = 1_024


class OldClients:
    """The servicer: a method for each RPC of old_clients.proto, which says what they do."""

    def __init__(self, hub: Hub, limits: Limits) -> None:
        self._hub = hub
        self._limits = limits

    def _version(self, space: str) -> Version:
        """What a space's name stands for, wherever its alias leads later in the call."""
        version = self._hub.get_space(space).current
        if version.key_type != "str":
            raise InvalidArgumentError(
                f"space {space!r:.300} has int keys, and this client knows str keys alone; use a "
                "client of ehub"
            )
        return version

    # --- spaces ---

    def CreateSpace(self, request: pb.CreateSpaceRequest, context: Context) -> Any:
        self._hub.create_space(request.name, request.dims, metric="l2")
        return pb.CreateSpaceResponse()

    def CheckSpace(self, request: pb.CheckSpaceRequest, context: Context) -> Any:
        self._hub.get_space(request.name)
        return pb.CheckSpaceResponse()

    def DeleteSpace(self, request: pb.DeleteSpaceRequest, context: Context) -> Any:
        self._hub.delete_space(request.name)
        return pb.DeleteSpaceResponse()

    def FreezeSpace(self, request: pb.FreezeSpaceRequest, context: Context) -> Any:
        self._hub.get_space(request.name).current.freeze()
        return pb.FreezeSpaceResponse()

    # --- one row ---

    def Set(self, request: pb.SetRequest, context: Context) -> Any:
        version = self._version(request.space)
        if request.HasField("embedding"):
            version.set(request.key, vector_of(request.embedding))
        else:
            version.delete(request.key)
        return pb.SetResponse()

    def Get(self, request: pb.GetRequest, context: Context) -> Any:
        vector = self._version(request.space).get(request.key)
        return pb.GetResponse(embedding=embedding_of(vector))

    def Delete(self, request: pb.DeleteRequest, context: Context) -> Any:
        self._version(request.space).delete(request.key)
        return pb.DeleteResponse()

    # --- streams of rows ---

    def MultiSet(self, requests: Iterator[pb.MultiSetRequest], context: Context) -> Any:
        came = Came(requests)
        for version, run in self._runs(came):
            keyed = ((key_of(one, version), vector_of(one.embedding)) for one in run)
            version.multiset(keyed)
        came.require_whole()
        return pb.MultiSetResponse()

    def MultiGet(self, requests: Iterator[pb.MultiGetRequest], context: Context) -> Iterator[Any]:
        # Each is answered before the next is read, because a client may wait for that.
        for version, run in self._runs(requests):
            for one in run:
                yield pb.MultiGetResponse(embedding=embedding_of(version.get(one.key)))

    def MultiDelete(self, requests: Iterator[pb.MultiDeleteRequest], context: Context) -> Any:
        came = Came(requests)
        for version, run in self._runs(came):
            while keys := [key_of(one, version) for one in islice(run, DELETE_BATCH_KEYS)]:
                version.multidelete(keys)
        came.require_whole()
        return pb.MultiDeleteResponse()

    def _runs(self, requests: Iterable[Any]) -> Iterator[tuple[Version, Iterable[Any]]]:
        """Requests in their order, those together that follow each other and are of one space."""
        versions: dict[str, Version] = {}
        for space, run in groupby(requests, attrgetter("space")):
            if space not in versions:
                versions[space] = self._version(space)
            yield versions[space], run

    # --- search, and all rows ---

    def NearestNeighbor(self, request: pb.NearestNeighborRequest, context: Context) -> Any:
        if bool(request.key) == request.HasField("embedding"):
            raise InvalidArgumentError("give either a key or an embedding")
        if request.num > self._limits.k:
            raise InvalidArgumentError(
                f"num is {request.num:,}; this server answers with at most {self._limits.k:,}, "
                "its limit `k`"
            )
        version = self._version(request.space)
        if request.key:
            found = version.nearest_neighbors(request.num, key=request.key)
        else:
            found = version.nearest_neighbors(request.num, vector=vector_of(request.embedding))
        return pb.NearestNeighborResponse(keys=found.keys.tolist())

    def Download(self, request: pb.DownloadRequest, context: Context) -> Iterator[Any]:
        version = self._version(request.space)
        rows = min(SCAN_BATCH_ROWS, max(1, SCAN_BATCH_BYTES // (FLOAT_BYTES * version.dims)))
        for keys, vectors in version.scan(rows):
            for key, vector in zip(keys.tolist(), vectors, strict=True):
                yield pb.DownloadResponse(key=key, embedding=embedding_of(vector))


class Came:
    """The requests of a stream, as many as come: one that is cut ends there, too.

    The server of 2021 did each as it came, so what came before a cut was done. Its clients rely on
    that unknowingly: their `multiset` returns before the stream is whole, and a process that ends
    then cuts it.
    """

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests
        self._is_cut = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._requests
        except CallerLeftError:
            self._is_cut = True

    def require_whole(self) -> None:
        """When all is done: end the call as one that was cut, if it was."""
        if self._is_cut:
            raise CallerLeftError


def old_service(hub: Hub, limits: Limits) -> Service:
    """The service of a hub for old clients, to be given to a Server."""
    return Service(OLD, Guard(hub.path).around(OLD, OldClients(hub, limits)))


def key_of(request: Any, version: Version) -> str:
    """The key of a request that is gathered with others; one that could be none is refused now."""
    key: str = request.key
    if not 1 <= len(key) <= KEY_CHARS_MAX:
        version._pack([key])  # says why
    return key


def vector_of(embedding: pb.Embedding) -> Vectors:
    """float32[n], whatever n is: the numbers as they lie packed at the end of the message's bytes.

    They are cut out, because the engine takes no array that is not aligned.
    """
    size = len(embedding.values) * FLOAT_BYTES
    packed = embedding.SerializeToString()
    vector: Vectors = np.frombuffer(packed[len(packed) - size :], "<f4")
    return vector


def embedding_of(vector: Vectors) -> pb.Embedding:
    """The message of float32[n]: read from the bytes it travels as, which saves n Python floats."""
    packed = vector.astype("<f4", copy=False).tobytes()
    return pb.Embedding.FromString(PACKED_VALUES + varint(len(packed)) + packed)


# The tag of field 1 with a length: (1 << 3) | 2.
PACKED_VALUES = b"\x0a"
