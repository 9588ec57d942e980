"""Named averages: means of groups of a version's keys that follow every write.

    items.create_average("profile", groups={"user-7": ["apple", "pear"]})
    items.averages("profile").nearest_neighbors(10, key="user-7")  # users like this user

What a named average is made of, and when its means are made anew, is in kept_average.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays, average, names
from ehub._native import _store
from ehub._watching import building, waiting
from ehub.errors import ExistsError, InvalidArgumentError, InvalidKeyError, NotFoundError
from ehub.hidden import AVERAGE_PARTS, drop_unnamed, name_of_part, next_number
from ehub.interrupts import stoppable
from ehub.kept_average import KeptAverage, Pairs
from ehub.snapshot import Snapshot
from ehub.types import Finding, Key, KeyArray, KeyType, Vectors
from ehub.view import View

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.version import Version

__all__ = ["Averages", "NamedAverages", "wrong_averages"]

PART_DIMS = {"members": 4, "stamps": 8}


class Averages(View):
    """The means of the groups of one named average, read and searched like a space.

    It comes from `Version.averages()` or `Version.create_average()`. Keys are the groups. A group
    is a set of keys of the version, each with a weight; its mean is what `multi_average()` gives of
    those members that exist. It has no row while it has no mean: while none of its members exists,
    their weights have the sum zero, the mean is too large for float32 or, under cosine, it is zero.

    A read shows every write to the version that was acknowledged before the call, and one time of
    it in all groups. Means are made anew by the first read after a write, all of a group's members
    being read for that. A hub opened with `read_only=True` shows the means as the writer last made
    them (by a read, or `refresh()`); `stale()` says how many groups have changed since.
    """

    __slots__ = ("_kept", "_name", "_version")

    def __init__(self, version: Version, name: str, kept: KeptAverage) -> None:
        self._version = version
        self._name = name
        self._kept = kept
        self._table = kept.means

    def _now(self) -> _store.View:
        return self._kept.view(self._place)

    @property
    def _place(self) -> str:
        """What errors call it."""
        return f"average {self._name!r} of {self._version._table.place}"

    @property
    def name(self) -> str:
        """The average's name."""
        return self._name

    @property
    def normalize(self) -> bool:
        """Whether means are scaled to unit length."""
        return self._kept.normalize

    def get(self, key: Key) -> Vectors:
        """The mean of a group, float32[dims]; a NotFoundError if it has none."""
        try:
            return super().get(key)
        except InvalidKeyError:
            self._as_groups([key])
            raise
        except NotFoundError:
            if not _store_is_there(self._kept):
                raise
            raise NotFoundError(
                f"average {self._name!r} has no mean of group {key!r:.100}"
                + ("" if key in self.groups().tolist() else ", because there is no such group")
            ) from None

    # --- groups ---

    def groups(self) -> KeyArray:
        """All groups, those without a mean too."""
        with self._kept.lock:
            known = self._kept.members()
            return known.groups.of(known.living_groups())

    def members(self, group: Key) -> tuple[KeyArray, NDArray[np.float64]]:
        """The members of a group, those that do not exist too, and their weights."""
        with self._kept.lock:
            known = self._kept.members()
            _, members, weights = known.of(known.groups.find([group]))
            if not len(members):
                raise NotFoundError(f"average {self._name!r} has no group {group!r:.100}")
            return known.members.of(members), weights

    def update(
        self,
        group: Key,
        add: Iterable[Key] = (),
        remove: Iterable[Key] = (),
        weights: Any = None,
    ) -> None:
        """Change the members of one group, made if it is new: `multi_update()` of one."""
        shares = None if weights is None else {group: weights}
        self.multi_update({group: add}, {group: remove}, shares)

    def multi_update(
        self,
        add: Mapping[Any, Iterable[Key]] | None = None,
        remove: Mapping[Any, Iterable[Key]] | None = None,
        weights: Any = None,
        *,
        progress: bool = False,
    ) -> None:
        """Change the members of many groups in one atomic batch; durable when it returns.

        Args:
            add: By group, keys that become members; they need not exist yet. A key is a member
                once: adding it again gives it the new weight.
            remove: By group, keys that are members no more; others are ignored. A group is gone
                with its last member.
            weights: One number for each key of `add`, finite; by group, or all in one sequence.
                Without them, 1.
            progress: Show a bar if standard error is a terminal: the time alone.
        """
        with waiting(progress, self._table, f"multi_update {self._name}"):
            self._change(add or {}, remove or {}, weights)

    def _change(
        self, add: Mapping[Any, Iterable[Key]], remove: Mapping[Any, Iterable[Key]], weights: Any
    ) -> None:
        added, shares = self._pairs(add, weights)
        removed, _ = self._pairs(remove, None)
        both = set(zip(removed.groups, removed.members, strict=True)).intersection(
            zip(added.groups, added.members, strict=True)
        )
        if both:
            group, key = next(iter(both))
            raise InvalidArgumentError(
                f"group {group!r:.100} is to get and to lose the member {key!r:.100}"
            )
        self._kept.put(added, shares, removed)

    def delete(self, group: Key) -> None:
        """Delete a group; a NotFoundError if there is none."""
        if not self.multidelete([group]):
            raise NotFoundError(f"average {self._name!r} has no group {group!r:.100}")

    def multidelete(self, groups: Iterable[Key]) -> int:
        """Delete groups in one atomic batch; return how many there were."""
        return self._kept.remove_groups(as_plain(groups, self.key_type, self._table.space))

    def _pairs(
        self, groups: Mapping[Any, Iterable[Key]], weights: Any
    ) -> tuple[Pairs, NDArray[np.float64]]:
        """Memberships of a mapping, all checked, and their weights."""
        if not isinstance(groups, Mapping):
            raise TypeError(f"groups are {groups!r:.100}; expected a mapping of group to keys")
        members = [average.as_members(name, keys) for name, keys in groups.items()]
        space = self._table.space
        if members and all(average.is_integers(keys) for keys in members):
            flat: Any = np.concatenate(members)
        else:
            flat = list(chain.from_iterable(average.as_list(keys) for keys in members))
        keys = as_plain(flat, self._kept.base.key_type, space)
        owners = as_plain(self._as_groups(groups), self.key_type, space)
        sizes = [len(keys) for keys in members]
        if isinstance(weights, Mapping):
            weights = average.mapped_weights(weights, list(groups), members)
        shares = _arrays.as_weights(weights, len(keys))
        if shares is None:
            shares = np.ones(len(keys))
        if not np.isfinite(shares).all():
            row = int(np.argmin(np.isfinite(shares)))
            raise InvalidArgumentError(f"the weight of member {row} is {shares[row]}")
        repeated = chain.from_iterable([o] * n for o, n in zip(owners, sizes, strict=True))
        return Pairs(list(repeated), keys), shares

    def _as_groups(self, groups: Iterable[Any]) -> list[Any]:
        """Names of groups, of the type that this average has."""
        given = list(groups)
        kind = str if self.key_type == "str" else (int, np.integer)
        for group in given:
            if not isinstance(group, kind):
                raise InvalidKeyError(
                    f"group {group!r:.100} is {type(group).__name__}; average {self._name!r} has "
                    f"{self.key_type} groups"
                )
        return given

    # --- upkeep ---

    def refresh(self, *, progress: bool = False) -> None:
        """Make the means anew now, instead of in the next read.

        Args:
            progress: Show a bar if standard error is a terminal: groups made anew.
        """
        self._kept.refresh(progress)

    def stale(self, *, progress: bool = False) -> int:
        """How many groups have stored means that the next refresh makes anew.

        Args:
            progress: Show a bar if standard error is a terminal: the time alone.
        """
        with waiting(progress, self._table, f"stale {self._name}"):
            return self._kept.stale()

    def snapshot(self) -> tuple[Snapshot, Snapshot]:
        """The means and the version, both at one time of the version: each mean is of its rows.

        Both are held until they are closed.
        """
        means, base = self._kept.snapshots(self._place)
        version = self._version
        return Snapshot(version._of(self._table), means, None), Snapshot(version, base, None)

    def optimize(self, *, progress: bool = False) -> None:
        """Bring the means up to date and give them their index now.

        Args:
            progress: Show a bar if standard error is a terminal: groups made anew, and then rows of
                the graphs built.
        """
        self.refresh(progress=progress)
        with building(progress, self._table, f"optimize {self._name} of"):
            stoppable(self._table.optimize)

    def __repr__(self) -> str:
        base = self._kept.base
        return (
            f"<ehub.Averages {self._name!r} of {base.space!r}/{base.version!r} dims={self.dims} "
            f"metric={self.metric!r} key_type={self.key_type!r}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("Averages cannot be pickled: open their hub where you need them")


class NamedAverages(View):
    """What a version can do with its named averages; `Version` has it all."""

    __slots__ = ()

    _hub: Hub

    if TYPE_CHECKING:

        def _as_version(self) -> Version: ...

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
        """Keep the means of groups of keys up to date, under a name of this version.

        They are deleted with the version; a fork begins without. An ExistsError if there is an
        average of that name.

        Args:
            name: Up to 255 bytes.
            groups: A mapping of group to keys, which need not exist yet; more by `update()`.
            weights: As of `Averages.multi_update()`.
            key_type: What groups are, "str" or "int"; by default what those of `groups` are.
            normalize: Scale each mean to unit length.
            progress: Show a bar if standard error is a terminal: the time alone.
        """
        version = self._as_version()
        store = version._table.store
        flag = average.as_flag(normalize, "normalize")
        wanted = {} if groups is None else groups
        kind = kind_of(wanted) if key_type is None else key_type
        with self._hub._names_lock:
            note = names.note_of_average(version._table, names.as_name(name, "an average"))
            if store.note(note) is not None:
                raise ExistsError(
                    f"version {version.name!r} of space {version.space!r} has an average "
                    f"{name!r} already"
                )
            drop_unnamed(self._hub, version.space)
            number = next_number(version._table)
            tables = create_parts(version._table, number, kind)
            kept = KeptAverage(version._table, *tables, normalize=flag)
            made = Averages(version, name, kept)
            try:
                if wanted or weights is not None:
                    made.multi_update(wanted, weights=weights, progress=progress)
                about = {
                    "created": names.now(),
                    "created_by": names.user(),
                    "number": number,
                    "normalize": flag,
                }
                store.set_notes({note: names.written(about)})
            except BaseException:
                for table in tables:
                    table.drop()
                raise
            self._hub._averages[tables[0].id] = kept
        return made

    @overload
    def averages(self) -> list[str]: ...
    @overload
    def averages(self, name: str) -> Averages: ...
    def averages(self, name: str | None = None) -> list[str] | Averages:
        """The average of that name, a NotFoundError if there is none; or the names of all."""
        table = self._table
        if name is None:
            return sorted(names.read_all(table.store, names.notes_of_averages(table)))
        version = self._as_version()
        return Averages(version, name, kept_average(self._hub, version._table, name))

    def delete_average(self, name: str) -> None:
        """Delete an average with its groups; a NotFoundError if there is none."""
        with self._hub._names_lock:
            table = self._as_version()._table
            kept = kept_average(self._hub, table, name)
            self._hub._averages.pop(kept.means.id, None)
            kept.means.drop({names.note_of_average(table, name): None})
            drop_unnamed(self._hub, table.space)


def kept_average(hub: Hub, base: _store.Table, name: str) -> KeptAverage:
    """The one object that keeps an average of a version up to date."""
    with hub._names_lock:
        note = names.note_of_average(base, names.as_name(name, "an average"))
        if base.store.note(note) is None:
            raise NotFoundError(
                f"version {base.version!r} of space {base.space!r} has no average {name!r}"
            )
        about = names.read(base.store, note)
        number = names.value_of(note, about, "number", int)
        tables = [
            base.store.get_version(base.space, name_of_part(base, number, part))
            for part in AVERAGE_PARTS
        ]
        found: KeptAverage | None = hub._averages.get(tables[0].id)
        if found is None:
            normalize = names.value_of(note, about, "normalize", bool)
            found = KeptAverage(base, *tables, normalize=normalize)
            hub._averages[tables[0].id] = found
        return found


def wrong_averages(hub: Hub, before_step: Callable[[], object]) -> Iterator[Finding]:
    """The groups whose stored mean is not that of the members that it was made of.

    All of them, unless `before_step`, called for each part of them, raises.
    """
    for space in hub.spaces():
        for table in hub._store.versions(space):
            for name in names.read_all(hub._store, names.notes_of_averages(table)):
                for group in kept_average(hub, table, name).wrong_means(before_step):
                    where = f"average {name!r} of version {table.version!r} of space {space!r}"
                    yield Finding(where, f"the mean of group {group!r} is not that of its members")


# --- hidden versions ---


def create_parts(
    base: _store.Table, number: int, key_type: KeyType
) -> tuple[_store.Table, _store.Table, _store.Table]:
    """Make the hidden versions of an average."""
    store, space = base.store, base.space
    means, members, stamps = (name_of_part(base, number, part) for part in AVERAGE_PARTS)
    graph = base.M, base.ef_construction
    return (
        store.create_version(space, means, base.dims, base.metric, key_type, *graph),
        store.create_version(space, members, PART_DIMS["members"], "l2", "str"),
        store.create_version(space, stamps, PART_DIMS["stamps"], "l2", key_type),
    )


# --- groups ---


def kind_of(groups: Mapping[Any, Any]) -> KeyType:
    """What the groups of a mapping are."""
    integers = bool(groups) and all(
        isinstance(group, (int, np.integer)) and not isinstance(group, bool) for group in groups
    )
    return "int" if integers else "str"


def as_plain(keys: Any, key_type: KeyType, space: str) -> list[Any]:
    """Keys as Python's own objects, each of which the engine would take."""
    if isinstance(keys, np.ndarray):
        if keys.dtype.kind == "i" and key_type == "int":
            _arrays.as_keys(keys, key_type, space)
            return list(keys.tolist())
        keys = keys.tolist()
    elif isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise TypeError(f"expected a collection of keys, not one: {keys!r:.100}")
    given = list(keys)
    _arrays.as_keys(given, key_type, space)
    return [int(key) for key in given] if key_type == "int" else [str(key) for key in given]


def _store_is_there(kept: KeptAverage) -> bool:
    """Whether the average was not deleted."""
    try:
        kept.means.view()
    except NotFoundError:
        return False
    return True
