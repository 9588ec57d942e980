"""From the `Target` of a request to what is read or written: a version, its rows at one time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ehub.errors import InvalidArgumentError, NotFoundError
from ehub.named_average import Averages
from ehub.server import scope
from ehub.server.leases import Leases
from ehub.snapshot import Snapshot
from ehub.space import Space
from ehub.subindex import SubIndex
from ehub.version import Version
from ehub.view import View
from ehub.wire import ehub_pb2 as pb

if TYPE_CHECKING:
    from ehub._native import _store
    from ehub.hub import Hub

__all__ = ["Targets"]


class Targets:
    """Finds what requests are about. Any thread may ask."""

    def __init__(self, hub: Hub, leases: Leases) -> None:
        self._hub = hub
        self._leases = leases
        # As of a number of `names_changes`, versions by how targets name them.
        self._found: tuple[int, dict[tuple[str, str], Version]] = (-1, {})

    def space(self, name: str) -> Space:
        """A space; a NotFoundError."""
        return self._hub.get_space(name)

    def version(self, target: pb.Target) -> Version:
        """The version of a target, whatever its time; refused if it names a sub-index."""
        if target.subindex:
            raise InvalidArgumentError(
                "the call is about a version, and the target names sub-index "
                f"{target.subindex!r:.100} of one; leave it out"
            )
        return self.base(target)

    def base(self, target: pb.Target) -> Version:
        """The version of a target, whatever its time, or that a sub-index is of."""
        version = self._named(target.space, target.version)
        if target.version_id and version._table.id != target.version_id:
            raise NotFoundError(
                f"version {version.name!r} of space {target.space!r} was deleted, and another of "
                "its name made"
            )
        return version

    def _named(self, name: str, of: str) -> Version:
        """A version of a space by its name, or an alias; "": the one that the space reads."""
        changes = self._hub._store.names_changes
        seen, found = self._found
        if seen != changes:
            self._found = changes, found = changes, {}
        version = found.get((name, of))
        if version is None:
            space = self._hub.get_space(name)
            version = found[name, of] = space.version(of) if of else space._as_version()
        return version

    def forget(self) -> None:
        """Hold no version by its name: one that was deleted keeps its files until it is let go."""
        self._found = (-1, {})

    def whole(self, target: pb.Target) -> View:
        """What a target reads, before partitions: a version, or a part or a time of it."""
        version = self.base(target)
        time = target.WhichOneof("time")
        if target.subindex:
            if time is not None or target.average:
                raise InvalidArgumentError(
                    "a sub-index has rows of a version as of now; give no time or average with it"
                )
            return self.subindex(target)
        if target.average:
            if time is not None:
                raise InvalidArgumentError("an average is read as of now; give no time with it")
            return version.averages(target.average)
        if time == "snapshot":
            return self.snapshot(target)
        if time == "tag":
            return version.at(target.tag)
        return version

    def snapshot(self, target: pb.Target) -> Snapshot:
        """The held snapshot that a target names."""
        snapshot = self._leases.get(target.snapshot)
        if snapshot.space != target.space:
            raise NotFoundError(f"space {target.space!r} has no such snapshot")
        return snapshot

    def time(self, target: pb.Target) -> Snapshot | None:
        """The time of a target; None is now."""
        self.version(target)
        whole = self.whole(target)
        return whole if isinstance(whole, Snapshot) else None

    def average(self, target: pb.Target) -> Averages:
        """The named average of a target."""
        return self.version(target).averages(target.average)

    def subindex(self, target: pb.Target) -> SubIndex:
        """The sub-index of a target."""
        found = self.base(target).subindex(target.subindex)
        if target.subindex_id and found._keys.id != target.subindex_id:
            raise NotFoundError(
                f"sub-index {found.name!r} of space {target.space!r} was dropped, and another of "
                "its name made"
            )
        return found

    def rows(self, target: pb.Target) -> tuple[View, _store.View]:
        """What a target reads as a view of the facade, and the rows that the caller may see."""
        whole = self.whole(target)
        rows = whole._now()
        for names in readable(target, whole):
            rows = rows.within(names)
        return whole, rows


def readable(target: pb.Target, view: View) -> list[tuple[bytes, ...]]:
    """Lists of partitions, of each of which a row must be in one: as asked for, and as allowed.

    A PermissionDeniedError names what was asked for and is not allowed.
    """
    asked = [tuple(names) for names in (target.partitions, target.and_partitions) if names]
    allowed_of = scope.partitions.get()
    if allowed_of is not None:
        allowed = allowed_of(view._table, tuple(name for names in asked for name in names))
        asked = asked or ([allowed] if allowed else [])
    return [tuple(name.encode() for name in names) for names in asked]
