"""A version of a server: its past, its averages, its streams of rows.

What is read and how rows are written is inherited, over `remote_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import numpy as np

from ehub import _arrays, names
from ehub._progress import bar
from ehub.average import as_flag
from ehub.client import subindices
from ehub.client.averages import RemoteAverages, RemoteKept, groups_message
from ehub.client.ingest import IngestStream
from ehub.client.link import Link
from ehub.client.messages import joined, tag_of
from ehub.client.remote_rows import RemoteSnapshot
from ehub.client.remote_table import RemoteTable
from ehub.condition import Condition, as_condition
from ehub.diff import Diff, diff_of
from ehub.errors import EhubError, InvalidArgumentError
from ehub.hub import Hub
from ehub.index import RecallReport
from ehub.model import as_labels
from ehub.named_average import Averages, kind_of
from ehub.snapshot import Snapshot, Tag
from ehub.subindex import SubIndex
from ehub.types import Key, KeyType
from ehub.version import Version, say_what_is_stored
from ehub.view import View
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import key_array, numbers

__all__ = ["RemoteVersion", "version_of"]


class RemoteVersion(Version):
    """A version on a server, with the methods of a `Version`."""

    __slots__ = ()

    @property
    def _link(self) -> Link:
        hub: Any = self._hub
        link: Link = hub._link
        return link

    @property
    def _remote(self) -> RemoteTable:
        return cast("RemoteTable", self._table)

    def _at(self, at: str | Tag | Snapshot | None) -> pb.Target:
        """This version as of a time."""
        target = pb.Target()
        target.CopyFrom(self._remote.target)
        if isinstance(at, Snapshot):
            target.snapshot = cast("RemoteSnapshot", self._held(at)).target.snapshot
        elif at is not None:
            target.tag = at.name if isinstance(at, Tag) else names.as_name(at, "a tag")
        return target

    # --- points in time ---

    def snapshot(self, message: str | None = None) -> Snapshot:
        """The version as it is now, held by the server: `Version.snapshot()`.

        The server lets go of one that was not used for a while (an hour, unless it was told else).
        """
        said = None if message is None else names.as_text(message, "message")
        request = pb.TakeSnapshotRequest(target=self._at(None), message=said)
        return self._taken(self._link.change("TakeSnapshot", request))

    def at(self, name: str | Tag) -> Snapshot:
        """The version as it was when the tag was made; a NotFoundError if there is none."""
        text = name.name if isinstance(name, Tag) else names.as_name(name, "a tag")
        request = pb.OpenTagRequest(target=self._at(None), tag=text)
        return self._taken(self._link.read("OpenTag", request))

    def _taken(self, info: pb.SnapshotInfo) -> Snapshot:
        version = version_of(self._hub, self._link, info.description)
        held: Any = RemoteSnapshot(self._link, info)
        return Snapshot(version, held, tag_of(info.tag) if info.HasField("tag") else None)

    def tag(
        self,
        name: str,
        snapshot: Snapshot | None = None,
        *,
        message: str = "",
        labels: Mapping[str, str] | None = None,
        created_by: str | None = None,
    ) -> Tag:
        """Give the time of `snapshot`, or now, a name that lasts: `Version.tag()`."""
        if snapshot is not None:
            self._held(snapshot)  # is it one?
        request = pb.SetTagRequest(
            target=self._at(snapshot),
            name=names.as_name(name, "a tag"),
            message=names.as_text(message, "message"),
            labels=as_labels(labels),
            created_by=None if created_by is None else names.as_text(created_by, "created_by"),
        )
        return tag_of(self._link.change("SetTag", request))

    def untag(self, name: str) -> None:
        """Let a tag go, and what only it has kept; a NotFoundError if there is none."""
        text = names.as_name(name, "a tag")
        self._link.change("RemoveTag", pb.RemoveTagRequest(target=self._at(None), name=text))

    def _all_tags(self) -> list[Tag]:
        answer = self._link.read("ListTags", pb.ListTagsRequest(target=self._at(None)))
        return [tag_of(tag) for tag in answer.tags]

    def expire_snapshots(
        self, *, keep_last: int | None = None, keep_for: timedelta | None = None
    ) -> list[Tag]:
        """Let recorded snapshots go that no rule keeps: `Version.expire_snapshots()`."""
        if keep_last is None and keep_for is None:
            raise InvalidArgumentError("expire_snapshots() needs keep_last= or keep_for=")
        if not (keep_for is None or isinstance(keep_for, timedelta)):
            raise TypeError(f"keep_for is {keep_for!r:.100}; expected a timedelta")
        request = pb.ExpireSnapshotsRequest(
            target=self._at(None),
            keep_last=None if keep_last is None else _arrays.as_count(keep_last, "keep_last"),
            keep_for_seconds=None if keep_for is None else keep_for.total_seconds(),
        )
        return [tag_of(tag) for tag in self._link.change("ExpireSnapshots", request).tags]

    def restore(self, at: str | Tag | Snapshot) -> None:
        """Make the rows again what they were at a tag, or in a snapshot: one atomic batch."""
        self._link.change("Restore", pb.RestoreRequest(target=self._at(at)))

    def fork(
        self,
        name: str,
        *,
        at: str | Tag | Snapshot | None = None,
        created_by: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Version:
        """A new version that begins with the rows of this one: `Version.fork()`."""
        request = pb.ForkRequest(
            target=self._at(at),
            name=names.as_name(name, "a version"),
            created_by=None if created_by is None else names.as_text(created_by, "created_by"),
            labels=as_labels(labels),
        )
        return version_of(self._hub, self._link, self._link.change("Fork", request))

    def diff(
        self,
        since: str | Tag | View,
        until: str | Tag | View | None = None,
        *,
        progress: bool = False,
    ) -> Diff:
        """Which keys were added, removed and changed: `Version.diff()`, found by the server.

        Views that are no times of this version are compared here.
        """
        if since is None:
            raise TypeError("diff() was given None; expected a tag or a view")
        before, after = self._time_of(since), self._time_of(until)
        if before is None or after is None:
            with self._readable(since) as first, self._readable(until) as second:
                return diff_of(first, second, progress)
        request = pb.DiffRequest(since=before, until=after)
        with self._link.waiting(progress, f"diff {self.space}"):
            parts = list(self._link.transport.stream("Diff", request))
        keys = {
            name: joined([key_array(getattr(part, name), self.key_type) for part in parts])
            for name in ("added", "removed", "changed")
        }
        cosine, l2 = (
            numbers(b"".join(getattr(part, name) for part in parts), "<f4", name).astype(np.float32)
            for name in ("cosine", "l2")
        )
        return Diff(keys["added"], keys["removed"], keys["changed"], cosine, l2)

    def _time_of(self, view: str | Tag | View | None) -> pb.Target | None:
        if isinstance(view, RemoteVersion):
            return view._at(None)
        if isinstance(view, Snapshot):
            held = view._held
            return held.target if isinstance(held, RemoteSnapshot) else None
        return None if isinstance(view, View) else self._at(view)

    # --- writing ---

    def _write_all(
        self, batches: Iterable[tuple[Any, Any]], partition: Any, total: int | None, progress: bool
    ) -> int:
        """The batches of a stream, several of them on their way at once, in order."""
        if not (partition is None or isinstance(partition, str)):
            raise TypeError("a stream or a table takes one partition for all its rows")
        stream = IngestStream(self._link)
        labels, _ = _arrays.as_partitions(partition, 0)
        try:
            with bar(progress, total, "row", f"multiset {self._table.space}") as shown:
                for keys, vectors in batches:
                    packed = self._pack(keys)
                    rows = _arrays.as_vectors(vectors, self._table.dims, self._table.space)
                    _arrays.require_same_length(packed, rows)
                    if len(packed):
                        stream.put(self._remote, packed, rows, labels)
                    shown.update(len(packed))
                stream.finish()
        except BaseException as error:
            with suppress(EhubError):
                stream.finish()
            if stream.done:
                say_what_is_stored(error, stream.done)
            raise
        finally:
            stream.close()
        return stream.done

    # --- upkeep ---

    def measure_recall(
        self, k: int = 10, sample: int = 200, *, ef: int | None = None, progress: bool = False
    ) -> RecallReport:
        """Compare the live index with exact search, in the server: `Version.measure_recall()`.

        A bar shows the time alone.
        """
        request = pb.MeasureRecallRequest(
            target=self._at(None),
            k=_arrays.as_integer(k, "k", 1, 10_000),
            sample=_arrays.as_integer(sample, "sample", 1, 100_000),
            ef=ef,
        )
        with self._link.waiting(progress, f"measure_recall {self.space}"):
            answer = self._link.read("MeasureRecall", request)
        return RecallReport(**{f.name: getattr(answer, f.name) for f in answer.DESCRIPTOR.fields})

    # --- named averages ---

    def create_average(
        self,
        name: str,
        groups: Mapping[Any, Iterable[Key]] | None = None,
        weights: Any = None,
        *,
        key_type: KeyType | None = None,
        normalize: bool = False,
        progress: bool = False,
    ) -> Averages:
        """Keep the means of groups of keys up to date: `Version.create_average()`."""
        wanted = {} if groups is None else groups
        kind = kind_of(wanted) if key_type is None else key_type
        names.as_text(kind, "key_type")
        info = pb.Description(
            space=self.space, dims=self.dims, key_type=kind, metric=self._table.metric
        )
        text = names.as_name(name, "an average")
        pairs, shares = self._averages(text, info)._pairs(wanted, weights)
        request = pb.CreateAverageRequest(
            target=self._at(None),
            name=text,
            groups=groups_message(pairs, shares, kind, self.key_type),
            key_type=kind,
            normalize=as_flag(normalize, "normalize"),
        )
        with self._link.waiting(progress, f"create_average {text}"):
            return self._averages(text, self._link.change("CreateAverage", request))

    def averages(self, name: str | None = None) -> Any:
        """The average of that name, a NotFoundError if there is none; or the names of all."""
        if name is None:
            request = pb.ListAveragesRequest(target=self._at(None))
            return list(self._link.read("ListAverages", request).names)
        target = self._at(None)
        target.average = names.as_name(name, "an average")
        return self._averages(name, self._link.read("Describe", pb.DescribeRequest(target=target)))

    def _averages(self, name: str, info: pb.Description) -> RemoteAverages:
        target = self._at(None)
        target.average = name
        means = RemoteTable(self._link, target, info)
        return RemoteAverages(self, name, RemoteKept(self._link, self._remote, means))

    def delete_average(self, name: str) -> None:
        """Delete an average with its groups; a NotFoundError if there is none."""
        target = self._at(None)
        target.average = names.as_name(name, "an average")
        self._link.change("DeleteAverage", pb.DeleteAverageRequest(target=target))

    # --- sub-indices ---

    def create_subindex(
        self, name: str, keys: Iterable[Key] | None = None, *, where: Condition | None = None
    ) -> SubIndex:
        """Save a set of keys under a name of this version: `Version.create_subindex()`.

        A function `where` is called here, with keys that the server sends. Very many keys take
        several batches; a reader may see the sub-index with some of them before the others.
        """
        if keys is not None and where is not None:
            raise InvalidArgumentError("create_subindex() takes either keys= or where=")
        text = names.as_name(name, "a sub-index")
        condition = None if where is None else as_condition(where, "where")
        return subindices.create(self._bound(), text, [] if keys is None else keys, condition)

    def subindex(self, name: str) -> SubIndex:
        """The sub-index of that name; a NotFoundError if there is none."""
        target = self._at(None)
        target.subindex = names.as_name(name, "a sub-index")
        info = self._link.read("Describe", pb.DescribeRequest(target=target))
        return subindices.RemoteSubIndex(version_of(self._hub, self._link, info), name, info)

    def subindices(self) -> dict[str, int]:
        """The names of the sub-indices, and how many rows each has."""
        request = pb.ListSubIndicesRequest(target=self._at(None))
        answer = self._link.read("ListSubIndices", request)
        return dict(zip(answer.names, answer.rows, strict=True))

    def drop_subindex(self, name: str) -> None:
        """Forget a sub-index; its rows stay. A NotFoundError if there is none of that name."""
        subindices.drop(self, names.as_name(name, "a sub-index"))

    def _bound(self) -> RemoteVersion:
        """This version, whatever aliases lead to later."""
        return self

    def _of(self, table: Any) -> Version:
        return RemoteVersion(self._hub, table)


def version_of(hub: Hub, link: Link, info: pb.Description) -> RemoteVersion:
    """A certain version, as the server describes it."""
    target = pb.Target(space=info.space, version=info.version, version_id=info.version_id)
    table: Any = RemoteTable(link, target, info)
    return RemoteVersion(hub, table)
