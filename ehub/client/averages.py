"""Named averages of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ehub.client.link import Link
from ehub.client.remote_rows import RemoteRows, RemoteSnapshot
from ehub.client.remote_table import RemoteTable
from ehub.errors import NotFoundError
from ehub.kept_average import Pairs
from ehub.named_average import Averages
from ehub.snapshot import Snapshot
from ehub.types import Key, KeyArray, KeyType, Vectors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import floats_of, key_array, pack_array

if TYPE_CHECKING:
    from ehub.client.remote_version import RemoteVersion
    from ehub.kept_average import KeptAverage
    from ehub.version import Version

__all__ = ["RemoteAverages", "RemoteKept", "groups_message"]


class RemoteKept:
    """`KeptAverage`: what keeps an average up to date is the server."""

    def __init__(self, link: Link, base: RemoteTable, means: RemoteTable) -> None:
        self.link = link
        self.base = base
        self.means = means

    @property
    def normalize(self) -> bool:
        """Whether means are scaled to unit length."""
        return self.means.info.normalize

    def view(self, place: str) -> RemoteRows:
        """The means as of now, which the server has a `place` for."""
        return self.means.view()

    def put(self, added: Pairs, shares: NDArray[np.float64], removed: Pairs) -> None:
        """Change members in one atomic batch."""
        request = pb.UpdateAverageRequest(
            target=self.means.target,
            add=groups_message(added, shares, self.means.key_type, self.base.key_type),
            remove=groups_message(removed, None, self.means.key_type, self.base.key_type),
        )
        self.link.change("UpdateAverage", request)

    def remove_groups(self, groups: list[Any]) -> int:
        """Delete groups; how many there were."""
        doomed = packed(groups, self.means.key_type)
        request = pb.UpdateAverageRequest(target=self.means.target, delete=doomed)
        return int(self.link.change("UpdateAverage", request).count)

    def refresh(self, progress: bool = False) -> None:
        """Make means anew now; a bar shows the time alone."""
        with self.link.waiting(progress, f"refresh {self.base.space}"):
            self.link.read("RefreshAverage", pb.RefreshAverageRequest(target=self.means.target))

    def stale(self) -> int:
        """How many groups are due."""
        request = pb.RefreshAverageRequest(target=self.means.target, only_count=True)
        return int(self.link.read("RefreshAverage", request).count)

    def snapshot(self) -> pb.SnapshotInfo:
        """Hold the means and the version, both at one time of it."""
        request = pb.TakeSnapshotRequest(target=self.means.target)
        answer: pb.SnapshotInfo = self.link.change("TakeSnapshot", request)
        return answer

    def members(self, group: Key | None) -> pb.Members:
        """All groups, or the members of one."""
        request = pb.GetMembersRequest(target=self.means.target)
        if group is not None:
            request.group.CopyFrom(packed([group], self.means.key_type))
        answer: pb.Members = self.link.read("GetMembers", request)
        return answer


class RemoteAverages(Averages):
    """The means of the groups of one named average of a server."""

    __slots__ = ("_remote",)

    def __init__(self, version: Version, name: str, kept: RemoteKept) -> None:
        super().__init__(version, name, cast("KeptAverage", kept))
        self._remote = kept

    def get(self, key: Key) -> Vectors:
        """The mean of a group, float32[dims]; a NotFoundError if it has none."""
        try:
            return self._now().get(key)
        except NotFoundError:
            groups = self.groups().tolist()  # says so if the average is gone
            raise NotFoundError(
                f"average {self._name!r} has no mean of group {key!r:.100}"
                + ("" if key in groups else ", because there is no such group")
            ) from None

    def groups(self) -> KeyArray:
        """All groups, those without a mean too."""
        return key_array(self._remote.members(None).groups, self.key_type)

    def members(self, group: Key) -> tuple[KeyArray, NDArray[np.float64]]:
        """The members of a group, those that do not exist too, and their weights."""
        answer = self._remote.members(group)
        weights = floats_of(answer.weights, "weights")
        members = key_array(answer.members, self._remote.base.key_type)
        return members, np.zeros(0) if weights is None else weights.astype(np.float64)

    def snapshot(self) -> tuple[Snapshot, Snapshot]:
        """The means and the version, both at one time of it: `Averages.snapshot()`.

        The server holds each until it is closed, or was not used for a while.
        """
        info = self._remote.snapshot()
        version = cast("RemoteVersion", self._version)
        means: Any = RemoteSnapshot(self._remote.link, info.means)
        return Snapshot(version._of(self._table), means, None), version._taken(info)


def groups_message(
    pairs: Pairs, shares: NDArray[np.float64] | None, group_type: KeyType, key_type: KeyType
) -> pb.Groups:
    """Memberships as they travel."""
    order: dict[Any, list[int]] = {}
    for row, group in enumerate(pairs.groups):
        order.setdefault(group, []).append(row)
    rows = [row for group in order.values() for row in group]
    return pb.Groups(
        groups=packed(list(order), group_type),
        counts=np.array([len(group) for group in order.values()], "<u4").tobytes(),
        members=packed([pairs.members[row] for row in rows], key_type),
        weights=b"" if shares is None else shares[rows].astype("<f8").tobytes(),
    )


def packed(keys: list[Any], key_type: KeyType) -> pb.Keys:
    """Checked keys as a message."""
    array: Any = np.empty(len(keys), np.int64 if key_type == "int" else np.object_)
    array[:] = keys
    return pack_array(array)
