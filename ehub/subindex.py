"""Sub-indices: named, saved sets of a version's keys, read and searched like a space of their rows.

    items.create_subindex("fruit", keys=["apple", "pear"])
    items.subindex("fruit").nearest_neighbors(10, vector=query)

The keys are those of a hidden version, so that they are as durable as rows are, and no vector is
stored twice. The engine finds the rows with these keys (src/store/subindex.h) and gives them a
graph of their own where they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ehub import hidden, names
from ehub._native import _store
from ehub.condition import Condition, as_condition, passing
from ehub.errors import ExistsError, InvalidArgumentError, NotFoundError
from ehub.types import Key, KeyArray
from ehub.view import BATCH_ROWS, View, joined

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.version import Version

__all__ = ["SubIndex", "SubIndices", "know_subindices"]

Notes = dict[str, "str | None"]


class SubIndex(View):
    """The rows of a version whose keys are in a named set, read and searched like a space.

    It comes from `Version.subindex()` or `Version.create_subindex()`. A key of the set need not
    have a row. One that is written over shows its new row, one that is deleted shows none, and one
    that is set again is back: a key leaves the set by `remove()` and `refresh()` alone. Writing to
    the version costs nothing, and the next read shows it.
    """

    __slots__ = ("_keys", "_members", "_name", "_place", "_version")

    def __init__(self, version: Version, name: str, keys: _store.Table) -> None:
        self._version = version
        self._table = version._table
        self._name = name
        self._keys = keys
        self._place = f"sub-index {name!r} of space {self._table.space!r}"
        self._members = self._table.subindex(keys)

    def _now(self) -> _store.View:
        return self._members.view(self._place)

    @property
    def version(self) -> Version:
        """The version that it is a part of."""
        return self._version

    @property
    def name(self) -> str:
        """The sub-index's name."""
        return self._name

    # --- the set ---

    def members(self) -> KeyArray:
        """All keys of the set, those without a row too, in no particular order."""
        return joined(self._keys.view().scan_keys(BATCH_ROWS), self.key_type)

    def add(self, keys: Iterable[Key]) -> int:
        """Add keys in one atomic batch, durable when it returns; how many were new.

        They need not have rows yet.
        """
        packed = self._pack(keys)
        with self._version.hub._names_lock:
            before = self._keys.row_count()
            put(self._keys, packed)
            return self._keys.row_count() - before

    def remove(self, keys: Iterable[Key]) -> int:
        """Remove keys in one atomic batch; how many were there. Their rows stay in the version."""
        return self._keys.multidelete(self._pack(keys))

    def refresh(self, where: Condition | None = None) -> None:
        """Make it the set of those keys of the version that `where` says, as of now.

        Two atomic batches: the keys that are new come, then the others go.

        Args:
            where: A function that is called with each key of the version. Without it, the one that
                the sub-index was last made or refreshed with since the hub was opened; functions
                are not stored, so after an open it must be given again.

        Raises:
            InvalidArgumentError: No function is given or known.
        """
        hub = self._version.hub
        condition = (
            hub._conditions.get(self._keys.id) if where is None else as_condition(where, "where")
        )
        if condition is None:
            raise InvalidArgumentError(
                f"sub-index {self._name!r} has no function to refresh by: it was made of keys, or "
                "before the hub was opened, and functions are not stored; give where="
            )
        with hub._names_lock:
            wanted = chosen(self._table, condition)
            gone = set(self.members().tolist()).difference(wanted)
            put(self._keys, self._pack(wanted))
            if gone:
                self._keys.multidelete(self._pack(list(gone)))
            hub._conditions[self._keys.id] = condition

    def __repr__(self) -> str:
        return f"<ehub.SubIndex {self._name!r} of {self._version!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SubIndex cannot be pickled: open its hub where you need it")


class SubIndices(View):
    """What a version can do with its sub-indices; `Version` has it all."""

    __slots__ = ()

    _hub: Hub

    if TYPE_CHECKING:

        def _as_version(self) -> Version: ...

    def create_subindex(
        self, name: str, keys: Iterable[Key] | None = None, *, where: Condition | None = None
    ) -> SubIndex:
        """Save a set of keys under a name of this version, to be read and searched like a space.

        It is deleted with the version; a fork begins without, and a tag shows all rows of its time,
        not those of a sub-index. An ExistsError if there is a sub-index of that name.

        Args:
            name: Up to 255 bytes.
            keys: The keys, which need not have rows yet; without them, none.
            where: Instead of keys, a function that is called with each key of the version, now and
                when `SubIndex.refresh()` is.
        """
        if keys is not None and where is not None:
            raise InvalidArgumentError("create_subindex() takes either keys= or where=")
        names.as_name(name, "a sub-index")
        condition = None if where is None else as_condition(where, "where")
        version = self._as_version()
        given = [] if keys is None else keys

        def packed() -> _store.Keys:
            return version._pack(given if condition is None else chosen(version._table, condition))

        with self._hub._names_lock:
            kept = create(version, name, packed)
            if condition is not None:
                self._hub._conditions[kept.id] = condition
        return SubIndex(version, name, kept)

    def subindex(self, name: str) -> SubIndex:
        """The sub-index of that name; a NotFoundError if there is none."""
        version = self._as_version()
        return SubIndex(version, name, table_of_keys(version._table, name))

    def subindices(self) -> dict[str, int]:
        """The names of the sub-indices, and how many rows each has."""
        return {name: len(self.subindex(name)) for name in names_of(self._table)}

    def drop_subindex(self, name: str) -> None:
        """Forget a sub-index; its rows stay. A NotFoundError if there is none of that name."""
        with self._hub._names_lock:
            version = self._as_version()
            drop(version, name, table_of_keys(version._table, name))


def create(
    version: Version, name: str, packed: Callable[[], _store.Keys], notes: Notes | None = None
) -> _store.Table:
    """Make a sub-index; the hidden version of its keys. Another's `notes` go with its own.

    Args:
        version: Of what.
        name: Its name.
        packed: Its keys, asked for when the name is known to be free, and no name may change.
        notes: What is noted in the same step as the sub-index itself.
    """
    table, hub = version._table, version.hub
    note = names.note_of_subindex(table, names.as_name(name, "a sub-index"))
    with hub._names_lock:
        if table.store.note(note) is not None:
            raise exists(version, name)
        keys = packed()
        hidden.drop_unnamed(hub, version.space)
        number = hidden.next_number(table)
        part = hidden.name_of_part(table, number, hidden.KEYS)
        kept = table.store.create_version(table.space, part, 1, "l2", table.key_type)
        try:
            put(kept, keys)
            about = {"created": names.now(), "created_by": names.user(), "number": number}
            table.store.set_notes({note: names.written(about), **(notes or {})})
        except BaseException:
            kept.drop()
            raise
    return kept


def exists(version: Version, name: str) -> ExistsError:
    """What to say of a name that is taken."""
    return ExistsError(
        f"version {version.name!r} of space {version.space!r} has a sub-index {name!r} already"
    )


def drop(version: Version, name: str, keys: _store.Table, notes: Notes | None = None) -> None:
    """Forget the sub-index that has these keys. Requires: the hub's lock of names is held."""
    table, hub = version._table, version.hub
    hidden.drop_unnamed(hub, table.space)  # first: what fails after the notes would be done
    keys.drop({names.note_of_subindex(table, name): None, **(notes or {})})
    hub._conditions.pop(keys.id, None)


def know_subindices(store: _store.Store) -> None:
    """Let the engine know the sub-indices of a hub, so that their rows keep their graphs."""
    if not store.notes(names.SUBINDEX):
        return
    for space in store.spaces():
        for table in store.versions(space):
            for name in names_of(table):
                table.subindex(table_of_keys(table, name))


def names_of(base: _store.Table) -> list[str]:
    """The names of a version's sub-indices, sorted."""
    return sorted(names.read_all(base.store, names.notes_of_subindices(base)))


def table_of_keys(base: _store.Table, name: str) -> _store.Table:
    """The hidden version that has the keys of a sub-index."""
    note = names.note_of_subindex(base, names.as_name(name, "a sub-index"))
    if base.store.note(note) is None:
        raise NotFoundError(
            f"version {base.version!r} of space {base.space!r} has no sub-index {name!r}"
        )
    number = names.value_of(note, names.read(base.store, note), "number", int)
    return base.store.get_version(base.space, hidden.name_of_part(base, number, hidden.KEYS))


def put(keys: _store.Table, packed: _store.Keys, notes: Notes | None = None) -> None:
    """Add keys to a set; those that it has stay as they are."""
    if len(packed):
        keys.multiset(packed, np.zeros((len(packed), 1), np.float32), (), None, notes)


def chosen(base: _store.Table, condition: Condition) -> list[Any]:
    """The keys of a version for which a function says so."""
    every = (key for keys in base.view().scan_keys(BATCH_ROWS) for key in keys.tolist())
    return passing(every, condition, "where")
