"""Sub-indices of a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ehub.client.batches import key_ends
from ehub.client.link import Link
from ehub.client.remote_rows import RemoteRows
from ehub.client.remote_table import RemoteTable
from ehub.condition import Condition, as_condition
from ehub.errors import InvalidArgumentError, NotFoundError
from ehub.subindex import SubIndex, chosen, exists
from ehub.types import Key, KeyArray
from ehub.view import joined
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import key_array, key_count, keys_message

if TYPE_CHECKING:
    from ehub.client.remote_version import RemoteVersion
    from ehub.version import Version

__all__ = ["RemoteSubIndex", "create", "drop"]

# Of keys in one message, at most.
CHUNK_BYTES = 4 << 20


class RemoteSubIndex(SubIndex):
    """The rows of a version of a server whose keys are in a named set of it.

    Keys travel in messages of a few megabytes, each of which is an atomic batch of its own. So a
    reader may see some keys of a very large `add()`, `remove()` or `create_subindex()` before the
    others; one that fails halfway leaves those that were done.
    """

    __slots__ = ("_id", "_link", "_rows")

    def __init__(self, version: RemoteVersion, name: str, info: pb.Description) -> None:
        self._version = version
        self._table = version._table
        self._name = name
        self._id = info.subindex_id
        self._link: Link = version._link
        target = version._at(None)
        target.subindex, target.subindex_id = name, info.subindex_id
        self._rows = RemoteRows(self._link, target, info)

    def _now(self) -> Any:
        return self._rows

    # --- the set ---

    def members(self) -> KeyArray:
        """All keys of the set, those without a row too, in no particular order."""
        request = pb.ScanSubIndexKeysRequest(target=self._rows.target)
        parts = self._link.transport.stream("ScanSubIndexKeys", request)
        return joined((key_array(part.keys, self.key_type) for part in parts), self.key_type)

    def add(self, keys: Iterable[Key]) -> int:
        """Add keys, durable when it returns; how many were new. They need not have rows yet."""
        return self._change("add", keys)

    def remove(self, keys: Iterable[Key]) -> int:
        """Remove keys; how many were there. Their rows stay in the version."""
        return self._change("remove", keys)

    def _change(self, what: str, keys: Iterable[Key]) -> int:
        parts = messages_of(keys_message(self._pack(keys), self.key_type), self._link)
        return sum(self._changed(what, part) for part in parts)

    def _changed(self, what: str, keys: pb.Keys) -> int:
        """Add or remove the keys of one message; how many it was about."""
        about: dict[str, Any] = {"target": self._rows.target, what: keys}
        return self._link.change_once(
            "UpdateSubIndex", lambda request: pb.UpdateSubIndexRequest(request=request, **about)
        )

    def refresh(self, where: Condition | None = None) -> None:
        """Make it the set of those keys of the version that `where` says: `SubIndex.refresh()`.

        The function is called here, with keys that the server sends.
        """
        known = conditions_of(self._version)
        condition = known.get(self._id) if where is None else as_condition(where, "where")
        if condition is None:
            raise InvalidArgumentError(
                f"sub-index {self._name!r} has no function to refresh by: it was made of keys, or "
                "by another connection, and functions are not stored; give where="
            )
        wanted = chosen(self._table, condition)
        members = set(self.members().tolist())
        self.add([key for key in wanted if key not in members])
        self.remove(list(members.difference(wanted)))
        known[self._id] = condition


def create(
    version: RemoteVersion, name: str, keys: Iterable[Key], condition: Condition | None
) -> RemoteSubIndex:
    """Make a sub-index of a version that is a certain one, of keys or by a function."""
    table = cast("RemoteTable", version._table)
    require_free(version, name)
    given = keys if condition is None else chosen(version._table, condition)
    packed = keys_message(version._pack(given), version.key_type)
    first, *others = list(messages_of(packed, table.link)) or [packed]
    table.link.change_once(
        "CreateSubIndex",
        lambda request: pb.CreateSubIndexRequest(
            request=request, target=table.target, name=name, keys=first
        ),
    )
    made = cast("RemoteSubIndex", version.subindex(name))
    for part in others:
        made._changed("add", part)
    if condition is not None:
        conditions_of(version)[made._id] = condition
    return made


def require_free(version: RemoteVersion, name: str) -> None:
    """Refuse a name that is taken, before its keys are asked for; the server does so again."""
    try:
        version.subindex(name)
    except NotFoundError:
        return
    raise exists(version, name)


def drop(version: RemoteVersion, name: str) -> None:
    """Forget a sub-index."""
    target = version._at(None)
    target.subindex = name
    version._link.change_once(
        "DropSubIndex", lambda request: pb.DropSubIndexRequest(request=request, target=target)
    )


def conditions_of(version: Version) -> dict[int, Condition]:
    """What sub-indices were last made or refreshed by over this connection, by their ids."""
    hub: Any = version.hub
    known: dict[int, Condition] = hub._conditions
    return known


def messages_of(keys: pb.Keys, link: Link) -> Iterator[pb.Keys]:
    """Keys in messages that are not too large; none for no keys."""
    size = min(CHUNK_BYTES, link.transport.message_bytes // 2)
    count, begin = key_count(keys), 0
    ends = key_ends(keys.lengths)
    before = 8 * np.arange(count + 1) if keys.integers else ends + 2 * np.arange(count + 1)
    while begin < count:
        fits = int(np.searchsorted(before, before[begin] + size, "right")) - 1
        end = max(fits, begin + 1)
        if keys.integers:
            yield pb.Keys(integers=keys.integers[8 * begin : 8 * end])
        else:
            utf8 = keys.utf8[ends[begin] : ends[end]]
            yield pb.Keys(utf8=utf8, lengths=keys.lengths[2 * begin : 2 * end])
        begin = end
