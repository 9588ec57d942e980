"""Calls about sub-indices. What is read of one is read like all rows (reading.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ehub.errors import InvalidArgumentError
from ehub.hub import Hub
from ehub.server.config import Limits
from ehub.server.reading import chunk_keys
from ehub.server.requests import Requests, Ticket
from ehub.server.targets import Targets
from ehub.subindex import SubIndex, create, drop, names_of, put
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import key_array, native_keys, pack_array

__all__ = ["SubIndexing"]


class SubIndexing:
    """A part of the servicer (service.py)."""

    _hub: Hub
    _limits: Limits
    _targets: Targets
    _requests: Requests

    def ListSubIndices(self, request: pb.ListSubIndicesRequest, context: Any) -> pb.SubIndexCounts:
        if request.target.average or request.target.WhichOneof("time") is not None:
            raise InvalidArgumentError(
                "sub-indices are of a version as of now; give no time or average with it"
            )
        target = pb.Target()
        target.CopyFrom(request.target)
        counts = pb.SubIndexCounts()
        with self._hub._names_lock:  # else one that is dropped meanwhile could not be counted
            for name in names_of(self._targets.version(target)._table):
                target.subindex = name
                counts.names.append(name)
                counts.rows.append(self._targets.rows(target)[1].row_count())
        return counts

    def CreateSubIndex(self, request: pb.CreateSubIndexRequest, context: Any) -> pb.WriteResponse:
        version = self._targets.version(request.target)

        def apply(ticket: Ticket | None) -> int:
            create(
                version,
                request.name,
                lambda: native_keys(request.keys, version.key_type),
                None if ticket is None else ticket.notes(1),
            )
            return 1

        return self._requests.once(request, apply)

    def DropSubIndex(self, request: pb.DropSubIndexRequest, context: Any) -> pb.WriteResponse:
        def apply(ticket: Ticket | None) -> int:
            with self._hub._names_lock:
                doomed = self._targets.subindex(request.target)
                notes = None if ticket is None else ticket.notes(1)
                drop(doomed.version, doomed.name, doomed._keys, notes)
            return 1

        return self._requests.once(request, apply)

    def UpdateSubIndex(self, request: pb.UpdateSubIndexRequest, context: Any) -> pb.WriteResponse:
        what = request.WhichOneof("what")
        if what is None:
            raise InvalidArgumentError("a change says neither which keys to add nor to remove")
        change = added if what == "add" else removed
        given = getattr(request, what)

        def apply(ticket: Ticket | None) -> int:
            with self._hub._names_lock:
                return change(self._targets.subindex(request.target), given, ticket)

        return self._requests.once(request, apply)

    def ScanSubIndexKeys(
        self, request: pb.ScanSubIndexKeysRequest, context: Any
    ) -> Iterator[pb.Rows]:
        view = self._targets.subindex(request.target)._keys.view()
        for keys in view.scan_keys(chunk_keys(self._limits.message_bytes)):
            yield pb.Rows(keys=pack_array(keys))


def added(subindex: SubIndex, given: pb.Keys, ticket: Ticket | None) -> int:
    """Add keys; how many were new. Requires: the hub's lock of names is held."""
    keys = native_keys(given, subindex.key_type)
    missing = subindex._keys.view().births(keys) == 0
    new = key_array(given, subindex.key_type)[missing]
    count = len(set(new.tolist()))
    # What adds nothing costs no write, and is looked at again if it is sent again; but where
    # nothing may be written it is refused as all else.
    if count or subindex.version.hub.read_only:
        put(subindex._keys, keys, None if ticket is None else ticket.notes(count))
    return count


def removed(subindex: SubIndex, given: pb.Keys, ticket: Ticket | None) -> int:
    """Remove keys; how many were there. Requires: the hub's lock of names is held."""
    keys = native_keys(given, subindex.key_type)
    there = subindex._keys.view().births(keys) != 0
    count = len(set(key_array(given, subindex.key_type)[there].tolist()))
    if count == 0 and not subindex.version.hub.read_only:
        return 0
    return subindex._keys.multidelete(keys, None if ticket is None else ticket.notes(count))
