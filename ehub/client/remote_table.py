"""A version of a server, as the engine has it: what the facade writes to."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ehub._native._store import Keys
from ehub._progress import Beside
from ehub.client.batches import BatchMessages
from ehub.client.link import Link
from ehub.client.remote_rows import RemoteRows, one_key
from ehub.errors import NotFoundError
from ehub.names import note_of_version
from ehub.types import KeyType, Metric, Vectors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import (
    keys_message,
    vectors_message,
)

__all__ = ["RemoteTable"]


class RemoteTable:
    """`_store.Table`: a version to be written to."""

    def __init__(self, link: Link, target: pb.Target, info: pb.Description) -> None:
        self.link = link
        self.target = target
        self.info = info
        self._rows = RemoteRows(link, target, info)

    @property
    def id(self) -> int:
        """Of all versions of the hub, for ever."""
        return self.info.version_id

    @property
    def space(self) -> str:
        """The space's name."""
        return self.info.space

    @property
    def version(self) -> str:
        """The version's name."""
        return self.info.version

    @property
    def place(self) -> str:
        """What errors call it: the version, or the space alone where the server is to settle it."""
        named = self.target.version
        return f"version {named!r} of space {self.space!r}" if named else f"space {self.space!r}"

    @property
    def dims(self) -> int:
        """How many numbers a vector has."""
        return self.info.dims

    @property
    def metric(self) -> Metric:
        """What distance means."""
        return cast("Metric", self.info.metric)

    @property
    def key_type(self) -> KeyType:
        """What keys are."""
        return "int" if self.info.key_type == "int" else "str"

    @property
    def M(self) -> int:
        """Half of the links of a row."""
        return self.info.M

    @property
    def ef_construction(self) -> int:
        """Candidates kept while links are sought."""
        return self.info.ef_construction

    @property
    def frozen(self) -> bool:
        """Whether writes are refused."""
        return self.described().frozen

    @property
    def store(self) -> RemoteTable:
        """Where the version's note is: here."""
        return self

    def note(self, name: str) -> str | None:
        """What is noted about the version: its model, lineage, and when it was made."""
        if name != note_of_version(self.space, self.version):
            return None
        now = self.described()
        said = {"created": now.created, "lineage": json.loads(now.lineage_json)}
        if now.model_json:
            said["model"] = json.loads(now.model_json)
        return json.dumps(said)

    def described(self) -> pb.Description:
        """What the version is now."""
        answer: pb.Description
        answer = self.link.read("Describe", pb.DescribeRequest(target=self.target))
        return answer

    def view(self) -> RemoteRows:
        """The rows as of now, whenever they are asked for."""
        return self._rows

    def get(self, key: Any, /) -> Vectors:
        """One vector."""
        return self.view().get(key)

    def contains(self, key: Any, /) -> bool:
        """Whether a key is there."""
        return self.view().contains(key)

    def row_count(self) -> int:
        """How many rows."""
        return self.view().row_count()

    # --- writes ---

    def set(self, key: Any, values: Vectors, partition: bytes | None = None, /) -> None:
        """Store one vector."""
        names = () if partition is None else (partition,)
        keys = one_key(key, self.key_type, self.space)
        self.multiset(keys, values[np.newaxis], names)

    def multiset(
        self,
        keys: Keys,
        vectors: Vectors,
        partitions: tuple[bytes, ...] = (),
        row_partitions: NDArray[np.uint32] | None = None,
    ) -> None:
        """Store many in one atomic batch."""
        if len(keys) == 0:
            self.row_count()  # says so if the hub is closed or the version gone
        else:
            self.link.write(
                lambda request: self.messages(request, keys, vectors, partitions, row_partitions)
            )

    def messages(
        self,
        request: pb.RequestId,
        keys: Keys,
        vectors: Vectors,
        partitions: tuple[bytes, ...] = (),
        row_partitions: NDArray[np.uint32] | None = None,
    ) -> BatchMessages:
        """One batch as messages."""
        return BatchMessages(
            request,
            self.target,
            keys_message(keys, self.key_type),
            vectors,
            partitions,
            row_partitions,
            self.link.transport.message_bytes,
        )

    def part(
        self,
        keys: Keys,
        vectors: Vectors,
        partitions: tuple[bytes, ...],
        row_partitions: NDArray[np.uint32] | None,
    ) -> pb.Part:
        """Rows as a part of a batch."""
        rows = pb.Set(
            keys=keys_message(keys, self.key_type),
            vectors=vectors_message(vectors),
            partitions=[name.decode() for name in partitions],
            row_partitions=b"" if row_partitions is None else row_partitions.tobytes(),
        )
        return pb.Part(target=self.target, set=rows)

    def delete(self, key: Any, /) -> None:
        """Delete one row; a NotFoundError if there is none."""
        if not self.multidelete(one_key(key, self.key_type, self.space)):
            raise NotFoundError(f"{self.place} has no key {key!r}")

    def multidelete(self, keys: Keys) -> int:
        """Delete rows; how many there were."""
        return self.multidelete_within(keys, ())

    def multidelete_within(self, keys: Keys, partitions: tuple[bytes, ...]) -> int:
        """The same in these partitions."""
        doomed = keys_message(keys, self.key_type)
        if not len(keys):
            return 0
        return self._deleted(pb.Part(target=self._within(partitions), delete=doomed))

    def delete_all(self) -> int:
        """Delete every row; how many there were."""
        return self.delete_all_within(())

    def delete_all_within(self, partitions: tuple[bytes, ...]) -> int:
        """The same in these partitions."""
        return self._deleted(pb.Part(target=self._within(partitions), delete_all=True))

    def _deleted(self, part: pb.Part) -> int:
        return self.link.write(lambda request: [pb.WriteRequest(request=request, parts=[part])])

    def _within(self, partitions: tuple[bytes, ...]) -> pb.Target:
        target = pb.Target()
        target.CopyFrom(self.target)
        target.partitions.extend(name.decode() for name in partitions)
        return target

    # --- upkeep ---

    def beside(self) -> Beside:
        """What looks at a call from beside it."""
        return self.link.transport.beside()

    def compact(self) -> None:
        """Rewrite segments without dead rows."""
        self.link.change("Compact", pb.CompactRequest(target=self.target))

    def wait_indexed(self) -> None:
        """Wait for the index."""
        self.link.read("WaitIndexed", pb.WaitIndexedRequest(target=self.target))

    def optimize(self) -> None:
        """Settle the version now."""
        self.link.change("Optimize", pb.OptimizeRequest(target=self.target))

    def index_stats(self) -> dict[str, Any]:
        """The fields of IndexStats."""
        answer = self.link.read("IndexStats", pb.IndexStatsRequest(target=self.target))
        return {field.name: getattr(answer, field.name) for field in answer.DESCRIPTOR.fields}

    def stats(self) -> tuple[int, list[tuple[int, int, int, int]]]:
        """Visible rows, and per segment (id, rows, dead rows, bytes)."""
        answer = self.link.read("StorageStats", pb.StorageStatsRequest(target=self.target))
        return answer.rows, [(s.id, s.rows, s.rows_dead, s.bytes) for s in answer.segments]

    def freeze(self) -> None:
        """Refuse all later writes."""
        self.link.change("Freeze", pb.FreezeRequest(target=self.target))
