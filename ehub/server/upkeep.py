"""Calls about the index, the files, and named averages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from ehub.errors import InvalidArgumentError
from ehub.index import IndexStats, measure_recall
from ehub.server.calls import require_active
from ehub.server.naming import described
from ehub.server.reading import stop_of
from ehub.server.targets import Targets
from ehub.types import KeyType
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import floats_of, key_array, numbers, pack_array

__all__ = ["Upkeep"]


class Upkeep:
    """A part of the servicer (service.py)."""

    _targets: Targets

    # --- the index and the files ---

    def IndexStats(self, request: pb.IndexStatsRequest, context: Any) -> pb.IndexStatsResponse:
        table = self._targets.whole(request.target)._table
        return pb.IndexStatsResponse(**asdict(IndexStats(**table.index_stats())))

    def StorageStats(
        self, request: pb.StorageStatsRequest, context: Any
    ) -> pb.StorageStatsResponse:
        stats = self._targets.version(request.target).stats()
        segments = [pb.Segment(**asdict(segment)) for segment in stats.segments]
        return pb.StorageStatsResponse(rows=stats.rows, segments=segments)

    def WaitIndexed(self, request: pb.WaitIndexedRequest, context: Any) -> pb.Done:
        self._targets.whole(request.target)._table.wait_indexed(stop_of(context))
        return pb.Done()

    def Optimize(self, request: pb.OptimizeRequest, context: Any) -> pb.Done:
        stop = stop_of(context)
        if request.target.average:
            average = self._targets.average(request.target)
            average._kept.refresh(before_step=lambda: require_active(context))
            average._table.optimize(stop)
        else:
            self._targets.version(request.target)._table.optimize(stop)
        return pb.Done()

    def Compact(self, request: pb.CompactRequest, context: Any) -> pb.Done:
        self._targets.version(request.target)._table.compact(stop_of(context))
        return pb.Done()

    def MeasureRecall(
        self, request: pb.MeasureRecallRequest, context: Any
    ) -> pb.MeasureRecallResponse:
        report = measure_recall(
            self._targets.version(request.target),
            request.k,
            request.sample,
            request.ef if request.HasField("ef") else None,
            before_step=lambda: require_active(context),
        )
        return pb.MeasureRecallResponse(**asdict(report))

    # --- named averages ---

    def ListAverages(self, request: pb.ListAveragesRequest, context: Any) -> pb.Names:
        return pb.Names(names=self._targets.version(request.target).averages())

    def CreateAverage(self, request: pb.CreateAverageRequest, context: Any) -> pb.Description:
        version = self._targets.version(request.target)
        kind = as_key_type(request.key_type)
        groups, weights = groups_of(request.groups, kind, version.key_type)
        made = version.create_average(
            request.name, groups, weights, key_type=kind, normalize=request.normalize
        )
        return described(version, made)

    def DeleteAverage(self, request: pb.DeleteAverageRequest, context: Any) -> pb.Done:
        self._targets.version(request.target).delete_average(request.target.average)
        return pb.Done()

    def UpdateAverage(self, request: pb.UpdateAverageRequest, context: Any) -> pb.CountResponse:
        version = self._targets.version(request.target)
        average = self._targets.average(request.target)
        if request.HasField("delete"):
            if request.HasField("add") or request.HasField("remove"):
                raise InvalidArgumentError("groups are deleted in a call of their own")
            doomed = key_array(request.delete, average.key_type)
            return pb.CountResponse(count=average.multidelete(doomed))
        added, weights = groups_of(request.add, average.key_type, version.key_type)
        removed, _ = groups_of(request.remove, average.key_type, version.key_type)
        average.multi_update(added, removed, weights)
        return pb.CountResponse(count=len(added) + len(removed))

    def GetMembers(self, request: pb.GetMembersRequest, context: Any) -> pb.Members:
        average = self._targets.average(request.target)
        if not request.HasField("group"):
            return pb.Members(groups=pack_array(average.groups()))
        wanted = key_array(request.group, average.key_type).tolist()
        if len(wanted) != 1:
            raise InvalidArgumentError(f"{len(wanted)} groups were given; expected one")
        members, weights = average.members(wanted[0])
        return pb.Members(
            groups=request.group,
            members=pack_array(members),
            weights=weights.astype("<f8").tobytes(),
        )

    def RefreshAverage(self, request: pb.RefreshAverageRequest, context: Any) -> pb.CountResponse:
        average = self._targets.average(request.target)
        due = average.stale()
        if not request.only_count:
            average._kept.refresh(before_step=lambda: require_active(context))
        return pb.CountResponse(count=due)


def as_key_type(text: str) -> KeyType:
    """A kind of keys."""
    if text == "int":
        return "int"
    if text == "str":
        return "str"
    raise InvalidArgumentError(f"key_type is {text!r:.100}; expected 'str' or 'int'")


def groups_of(
    groups: pb.Groups, group_type: KeyType, key_type: KeyType
) -> tuple[dict[Any, list[Any]], Any]:
    """Members by group, and the weights of all in one sequence; None: all 1."""
    names = key_array(groups.groups, group_type).tolist()
    members = key_array(groups.members, key_type).tolist()
    counts = numbers(groups.counts, "<u4", "counts")
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    if len(names) != len(counts) or (ends[-1] if ends else 0) != len(members):
        raise InvalidArgumentError(
            f"{len(names)} groups, {len(counts)} counts, {len(members)} members: they do not fit"
        )
    begins = [0, *ends][: len(ends)]
    mapped = {
        name: members[begin:end] for name, begin, end in zip(names, begins, ends, strict=True)
    }
    if len(mapped) != len(names):
        raise InvalidArgumentError("a group is named twice")
    return mapped, floats_of(groups.weights, "weights")
