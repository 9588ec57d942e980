"""Calls about points in time: snapshots, tags, going back, differences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import numpy as np

from ehub.errors import EhubError, InvalidArgumentError, NotFoundError
from ehub.named_average import Averages
from ehub.server.calls import require_active
from ehub.server.leases import Leases
from ehub.server.naming import creator, described
from ehub.server.targets import Targets
from ehub.snapshot import Snapshot, Tag
from ehub.version import Version
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import pack_array

__all__ = ["Times"]

DIFF_KEYS = 16_384
SECONDS_MAX = 1e10  # three hundred years


class Times:
    """A part of the servicer (service.py)."""

    _targets: Targets
    _leases: Leases

    def TakeSnapshot(self, request: pb.TakeSnapshotRequest, context: Any) -> pb.SnapshotInfo:
        version = self._targets.version(request.target)
        message = request.message if request.HasField("message") else None
        if request.target.average:
            if message is not None:
                raise InvalidArgumentError(
                    "snapshots of averages are not recorded; leave the message out"
                )
            info = self._held_with_means(version, self._targets.average(request.target))
        else:
            info = self._held(version, version.snapshot(message))
        return self._awaited(info, context)

    def OpenTag(self, request: pb.OpenTagRequest, context: Any) -> pb.SnapshotInfo:
        version = self._targets.version(request.target)
        return self._awaited(self._held(version, version.at(request.tag)), context)

    def _awaited(self, info: pb.SnapshotInfo, context: Any) -> pb.SnapshotInfo:
        """What somebody waits for; else nothing of it is held, as nobody would let it go."""
        try:
            require_active(context)
        except EhubError:
            for handle in (info.snapshot, info.means.snapshot):
                self._leases.remove(handle)
            raise
        return info

    def _held_with_means(self, version: Version, average: Averages) -> pb.SnapshotInfo:
        """Both, or neither."""
        means, base = average.snapshot()
        with ExitStack() as undo:
            undo.callback(means.close)
            info = self._held(version, base)
            undo.callback(self._leases.remove, info.snapshot)
            info.means.CopyFrom(self._held(version, means, average))
            undo.pop_all()
        return info

    def _held(
        self, version: Version, snapshot: Snapshot, average: Averages | None = None
    ) -> pb.SnapshotInfo:
        seq, tag = snapshot.seq, snapshot.tag
        info = pb.SnapshotInfo(
            snapshot=self._leases.add(snapshot), seq=seq, description=described(version, average)
        )
        if tag is not None:
            info.tag.CopyFrom(tag_message(tag))
        return info

    def CloseSnapshot(self, request: pb.CloseSnapshotRequest, context: Any) -> pb.Done:
        with suppress(NotFoundError):  # it is gone already, or of another space
            self._targets.snapshot(request.target)
            self._leases.remove(request.target.snapshot)
        return pb.Done()

    def ListTags(self, request: pb.ListTagsRequest, context: Any) -> pb.Tags:
        version = self._targets.version(request.target)
        return pb.Tags(tags=[tag_message(tag) for tag in version._all_tags()])

    def SetTag(self, request: pb.SetTagRequest, context: Any) -> pb.Tag:
        target = request.target
        tag = self._targets.version(target).tag(
            request.name,
            self._targets.time(target),
            message=request.message,
            labels=dict(request.labels),
            created_by=creator(request),
        )
        return tag_message(tag)

    def RemoveTag(self, request: pb.RemoveTagRequest, context: Any) -> pb.Done:
        self._targets.version(request.target).untag(request.name)
        return pb.Done()

    def ExpireSnapshots(self, request: pb.ExpireSnapshotsRequest, context: Any) -> pb.Tags:
        keep_for = None
        if request.HasField("keep_for_seconds"):
            keep_for = span_of(request.keep_for_seconds)
        expired = self._targets.version(request.target).expire_snapshots(
            keep_last=request.keep_last if request.HasField("keep_last") else None,
            keep_for=keep_for,
        )
        return pb.Tags(tags=[tag_message(tag) for tag in expired])

    def Restore(self, request: pb.RestoreRequest, context: Any) -> pb.Done:
        time = self._targets.time(request.target)
        if time is None:
            raise InvalidArgumentError("restore needs a tag or a snapshot")
        self._targets.version(request.target).restore(time)
        return pb.Done()

    def Diff(self, request: pb.DiffRequest, context: Any) -> Iterator[pb.DiffPart]:
        before = self._targets.whole(request.since)
        after = self._targets.whole(request.until)
        diff = self._targets.base(request.until).diff(before, after)
        for name in ("added", "removed"):
            keys = getattr(diff, name)
            for begin in range(0, len(keys), DIFF_KEYS):
                part = pb.DiffPart()
                getattr(part, name).CopyFrom(pack_array(keys[begin : begin + DIFF_KEYS]))
                yield part
        for begin in range(0, len(diff.changed), DIFF_KEYS):
            those = slice(begin, begin + DIFF_KEYS)
            yield pb.DiffPart(
                changed=pack_array(diff.changed[those]),
                cosine=diff.cosine[those].astype(np.float32).tobytes(),
                l2=diff.l2[those].astype(np.float32).tobytes(),
            )


def span_of(seconds: float) -> timedelta:
    """A time that travels as seconds."""
    if not abs(seconds) <= SECONDS_MAX:
        raise InvalidArgumentError(
            f"keep_for is {seconds:g} seconds; expected at most {SECONDS_MAX:g}"
        )
    return timedelta(seconds=seconds)


def tag_message(tag: Tag) -> pb.Tag:
    """A tag as it travels."""
    return pb.Tag(
        name=tag.name,
        seq=tag.seq,
        created=tag.created,
        created_by=tag.created_by,
        message=tag.message,
        labels=tag.labels,
    )
