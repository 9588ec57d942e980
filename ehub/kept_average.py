"""How a named average is kept up to date.

An average is three hidden versions of its space, so that durability, checks, snapshots and the
index are those of all rows:

    means     group -> its mean; dims and metric of the version that the average is of, the base
    members   memberships and their weights (memberships.py)
    stamps    group -> what its mean was made of: a hash of its members, weights and the births of
              their rows, and the birth of the mean's own row

Writing to the base costs nothing. A read brings the means up to date first: it asks which rows of
the base came and went since the last time (which is held for that by a lease), and makes the means
of the groups that have one of them anew, from all of their members, so nothing can drift. Opened
again, the stamps tell which means are no longer those of the members. A mean is written before its
stamp, and the stamp names the row it is about, so whatever a crash leaves between the two is made
again; and memberships are written in one batch before anything that follows from them. Nobody waits
for means and stamps to be durable: a power cut takes the last batches first, so it leaves the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._native import _store
from ehub._progress import bar
from ehub.errors import ReadOnlyError
from ehub.memberships import Memberships, as_pieces, from_pieces, pair_of, row_keys
from ehub.types import KeyType, Vectors

__all__ = ["KeptAverage", "Pairs"]

SCAN_ROWS = 65_536

# Means that are made and written at a time.
CHUNK_BYTES = 64 << 20
CHUNK_MEMBERS = 4_000_000

MEMBER_DIMS = 4
STAMP_DIMS = 8

# Under cosine no vector is stored whose squared norm is no normal float32.
NORM2_MIN, NORM2_MAX = 1.2e-38, 3.4e38

Numbers = NDArray[np.int64]

# What a process that only reads has of a hub: two numbers that are the same as long as it is.
Moment = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Memberships: the group and the member of each."""

    groups: list[Any]
    members: list[Any]


@dataclass(frozen=True, slots=True)
class Means:
    """What was found of some groups; `mean` has rows for those that `exists` says."""

    groups: Numbers
    mean: Vectors
    exists: NDArray[np.bool_]
    has_members: NDArray[np.bool_]
    hashes: NDArray[np.uint64]


class KeptAverage:
    """One average of one version, and its memberships once they were asked for.

    Safe for threads: they take turns by `lock`.
    """

    def __init__(
        self,
        base: _store.Table,
        means: _store.Table,
        members: _store.Table,
        stamps: _store.Table,
        *,
        normalize: bool,
    ) -> None:
        self.lock = RLock()
        self.base = base
        self.means = means
        self.normalize = normalize
        self._rows = members
        self._stamps = stamps
        self._held: _store.Snapshot | None = None  # the base, as the means show it
        self._held_seq = -1
        self._members: Memberships | None = None
        self._loaded: Moment | None = None
        self._dirty: set[int] = set()
        self._stored: tuple[Numbers, NDArray[np.uint64]] | None = None

    # --- reading ---

    def view(self, place: str) -> _store.View:
        """The means, up to date; in a process that only reads, as they were last written.

        `place` is what errors call them.
        """
        with self.lock:
            if not self.base.store.read_only:
                self.refresh()
            return self.means.view(place)

    def members(self) -> Memberships:
        """Who is in which group, as stored. Requires: the lock is held."""
        store = self.base.store
        self.means.view()  # an error if the average was deleted, or the hub closed
        if store.read_only and self._loaded != moment_of(store):
            self._load()
        return self._known()

    def _known(self) -> Memberships:
        if self._members is None:
            self._load()
        assert self._members is not None
        return self._members

    def snapshots(self, place: str) -> tuple[_store.Snapshot, _store.Snapshot]:
        """The means, called `place` by errors, and the base, held at one time of the base."""
        with self.lock:
            base, again = self.base.snapshot(), self.base.snapshot()
            while base.view().seq != again.view().seq:
                base, again = again, self.base.snapshot()
            if not self.base.store.read_only:
                self._refresh_to(again)
            elif behind := self.stale():
                raise ReadOnlyError(
                    f"the stored means of {behind} groups are older than the version, and a hub "
                    "opened with read_only=True cannot renew them: the writer's refresh() does"
                )
            return self.means.snapshot(place), base

    # --- changing ---

    def put(self, pairs: Pairs, weights: NDArray[np.float64], removed: Pairs) -> None:
        """Add memberships and remove others, in one atomic batch."""
        with self.lock:
            known = self.members()
            try:
                self._store_pairs(pairs, weights, removed)
            except BaseException:
                self._members = None  # what is stored counts, whichever that is
                raise
            for change in (pairs, removed):
                self._dirty.update(known.groups.add(change.groups).tolist())
            known.put(known.groups.add(pairs.groups), known.members.add(pairs.members), weights)
            known.drop(known.groups.add(removed.groups), known.members.add(removed.members))

    def remove_groups(self, groups: list[Any]) -> int:
        """Remove groups with all their memberships, in one batch; how many there were."""
        with self.lock:
            known = self.members()
            numbers = np.intersect1d(known.groups.find(groups), known.living_groups())
            begins, members, _ = known.of(numbers)
            owners = np.repeat(numbers, (begins[1:] - begins[:-1]).astype(np.int64))
            pairs = Pairs(known.groups.of(owners).tolist(), known.members.of(members).tolist())
            self.put(Pairs([], []), np.empty(0), pairs)
            return len(numbers)

    def _store_pairs(self, pairs: Pairs, weights: NDArray[np.float64], removed: Pairs) -> None:
        gone = row_keys(removed.groups, removed.members)
        if pairs.groups:
            keys = row_keys(pairs.groups, pairs.members) + gone
            # One batch adds and removes: a weight that is none stands for the latter.
            shares = np.append(weights, np.full(len(gone), np.nan))
            self._rows.multiset(self._pack(keys), as_pieces(shares))
        if gone:
            self._rows.multidelete(self._pack(gone))

    def forget(self) -> None:
        """Hold nothing in memory, and no time of the base: the next call reads what is stored."""
        with self.lock:
            if self._held is not None:
                self._held.close()
            self._held, self._held_seq = None, -1
            self._members, self._stored, self._loaded = None, None, None
            self._dirty = set()

    def stored_pairs(self) -> list[str]:
        """The keys of all membership rows that are still stored, removed ones included."""
        return _store.stored_keys(self._rows)

    @property
    def hidden(self) -> tuple[_store.Table, _store.Table, _store.Table]:
        """The versions that it is made of: means, memberships, stamps."""
        return self.means, self._rows, self._stamps

    # --- up to date ---

    def refresh(
        self, progress: bool = False, before_step: Callable[[], object] = lambda: None
    ) -> None:
        """Make the means those of the base as it is now.

        Until all are, or `before_step`, called for each part of them, raises: then those that are
        made stay.
        """
        with self.lock:
            store = self.base.store
            if self._held is not None and not self._dirty and self._held_seq == store.seq:
                return
            self._refresh_to(self.base.snapshot(), progress, before_step)

    def stale(self) -> int:
        """How many groups have stored means that are not those of their members now."""
        with self.lock:
            self.members()
            return len(self._compare(self.base.snapshot().view()))

    def wrong_means(self, before_step: Callable[[], object]) -> list[Any]:
        """The groups whose stored means are not those of the very members they were made of.

        Until all are made, or `before_step`, called for each part of them, raises.
        """
        with self.lock:
            self._load()
            view = self.base.snapshot().view()
            known = self._known()
            stored = self._stored_stamps()
            wrong = []
            for groups in self._chunks(known.living_groups()):
                before_step()
                found = self._compute(view, groups)
                same = stored[groups, 0] == found.hashes
                wrong += self._differing(view, found, same)
            return wrong

    def _refresh_to(
        self,
        now: _store.Snapshot,
        progress: bool = False,
        before_step: Callable[[], object] = lambda: None,
    ) -> None:
        known = self.members()
        if self._held is None or self._held.closed:
            self._dirty |= self._compare(now.view())
        else:
            gone, come = _store.changed_keys(self._held, now)
            touched = known.members.find(chain(gone.tolist(), come.tolist()))
            if len(touched):
                self._dirty.update(known.groups_with(touched).tolist())
        with bar(progress, len(self._dirty), "group", f"refresh {self.base.space}") as shown:
            for groups in self._chunks(np.array(sorted(self._dirty), np.int64)):
                before_step()
                self._write(self._compute(now.view(), groups))
                self._dirty.difference_update(groups.tolist())
                shown.update(len(groups))
        if self._held is not None:
            self._held.close()
        self._held, self._held_seq = now, now.view().seq
        self._stored = None

    def _chunks(self, groups: Numbers) -> list[Numbers]:
        """Groups in parts of which means and keys fit well into memory."""
        if not len(groups):
            return []
        begins, _, _ = self._known().of(groups)
        rows = max(1, CHUNK_BYTES // (4 * self.base.dims))
        ends = np.arange(len(groups)) // rows + begins[:-1].astype(np.int64) // CHUNK_MEMBERS
        return np.split(groups, np.flatnonzero(np.diff(ends)) + 1)

    def _compute(self, view: _store.View, groups: Numbers) -> Means:
        """The means of groups at one time of the base."""
        known = self._known()
        begins, members, weights = known.of(groups)
        keys = _arrays.as_keys(known.members.of(members), self.base.key_type, self.base.space)
        mean, _, states = view.averages(keys, begins, weights, self.normalize, True)
        exists = states == 0
        if self.base.metric == "cosine":
            norms = np.einsum("ij,ij->i", mean, mean, dtype=np.float64)
            exists &= (norms > NORM2_MIN) & (norms < NORM2_MAX)
        births = view.births(keys)
        hashes = known.hash_of(begins, members, weights, births)
        return Means(groups, mean, exists, begins[1:] != begins[:-1], hashes)

    def _write(self, found: Means) -> None:
        """Store means, each before its stamp."""
        self._stored = None
        # Mostly all exist, and then there is nothing to be copied.
        made = slice(None) if found.exists.all() else found.exists
        self._set(self.means, found.groups[made], found.mean[made])
        self._unset(self.means, found.groups[~found.exists])
        kept = found.groups[found.has_members]
        births = self.means.view().births(self._group_keys(kept))
        stamps = np.stack([found.hashes[found.has_members], births], axis=1)
        self._set(self._stamps, kept, as_pieces(stamps))
        self._unset(self._stamps, found.groups[~found.has_members])

    def _set(self, table: _store.Table, groups: Numbers, vectors: Vectors) -> None:
        if len(groups):
            table.multiset(self._group_keys(groups), np.ascontiguousarray(vectors), derived=True)

    def _unset(self, table: _store.Table, groups: Numbers) -> None:
        if len(groups):
            table.multidelete(self._group_keys(groups), derived=True)

    def _differing(self, view: _store.View, found: Means, same: NDArray[np.bool_]) -> list[Any]:
        """Of the groups made of the `same` members as was stamped, those with another mean."""
        stored, there = self.means.view().multiget_found(self._group_keys(found.groups))
        wrong = same & (there != found.exists)
        both = same & there & found.exists
        for row in np.flatnonzero(both & (stored != found.mean).any(axis=1)).tolist():
            wrong[row] = not self._agrees(view, found.groups[row], stored[row], found.mean[row])
        return list(self._known().groups.of(found.groups[wrong]).tolist())

    def _agrees(self, view: _store.View, group: int, stored: Vectors, made: Vectors) -> bool:
        """Whether two means differ only by the order in which members were summed."""
        known = self._known()
        _, members, weights = known.of(np.array([group], np.int64))
        keys = _arrays.as_keys(known.members.of(members), self.base.key_type, self.base.space)
        rows, there = view.multiget_found(keys)
        shares = np.abs(weights[there])
        scale = shares @ np.abs(rows[there].astype(np.float64)) / abs(weights[there].sum())
        if self.normalize:
            scale = scale / max(np.linalg.norm(scale), np.finfo(np.float64).tiny) + 1.0
        rounding = 2 * np.spacing(np.maximum(np.abs(stored), np.abs(made)))
        differ = np.abs(stored.astype(np.float64) - made)
        return bool((differ <= rounding + 1e-12 * scale).all())

    # --- what is stored ---

    def _load(self) -> None:
        """Read memberships and stamps."""
        moment = moment_of(self.base.store)
        known = Memberships(self.means.key_type, self.base.key_type)
        void: list[str] = []
        parts = []
        for keys, pieces in self._rows.view().scan(SCAN_ROWS):
            shares = from_pieces(pieces, np.float64)[:, 0]
            pairs = [pair_of(key) for key in keys.tolist()]
            live = ~np.isnan(shares)
            groups = known.groups.add(typed(pairs, 0, self.means.key_type))
            members = known.members.add(typed(pairs, 1, self.base.key_type))
            parts.append((groups[live], members[live], shares[live]))
            void += keys[~live].tolist()
        if parts:
            known.put(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        if void and not self.base.store.read_only:  # a crash came between two batches
            self._rows.multidelete(self._pack(void))
        found = [(keys.tolist(), pieces) for keys, pieces in self._stamps.view().scan(SCAN_ROWS)]
        stamped = [known.groups.add(keys) for keys, _ in found]
        stamps = [from_pieces(pieces, np.uint64) for _, pieces in found]
        for keys in self.means.view().scan_keys(SCAN_ROWS):
            known.groups.add(keys.tolist())
        self._stored = (
            np.concatenate([np.empty(0, np.int64), *stamped]),
            np.concatenate([np.empty((0, 2), np.uint64), *stamps]),
        )
        if self._held is not None:
            self._held.close()
        self._members, self._held, self._loaded = known, None, moment
        self._dirty = set()  # by numbers that count no more; the stamps tell

    def _stored_stamps(self) -> NDArray[np.uint64]:
        """What is stamped, by the groups' numbers; zeros for groups without a stamp."""
        if self._stored is None:
            self._load()
        assert self._stored is not None
        stamps = np.zeros((len(self._known().groups), 2), np.uint64)
        stamps[self._stored[0]] = self._stored[1]
        return stamps

    def _compare(self, view: _store.View) -> set[int]:
        """The groups whose stored means are not those of the members at a time of the base."""
        stored = self._stored_stamps()
        known = self._known()
        living = known.living_groups()
        begins, members, weights = known.of(living)
        everyone = np.arange(len(known.members))
        keys = _arrays.as_keys(known.members.of(everyone), self.base.key_type, self.base.space)
        births = view.births(keys)[members]
        hashes = known.hash_of(begins, members, weights, births)
        made = self.means.view().births(self._group_keys(living))
        differs = (stored[living, 0] != hashes) | (stored[living, 1] != made)
        left = np.setdiff1d(np.arange(len(known.groups)), living)
        left = left[self.means.view().births(self._group_keys(left)) + stored[left, 0] != 0]
        return set(living[differs].tolist()) | set(left.tolist())

    def _group_keys(self, groups: Numbers) -> _store.Keys:
        keys = self._known().groups.of(groups)
        return _arrays.as_keys(keys, self.means.key_type, self.base.space)

    def _pack(self, keys: list[str]) -> _store.Keys:
        return _arrays.as_keys(keys, "str", self.base.space)


def moment_of(store: _store.Store) -> Moment:
    """What the store shows now. An erasure is no batch: `seq` stays, the manifest is another."""
    return store.seq, store.names_changes


def typed(pairs: list[tuple[str, str]], side: int, key_type: KeyType) -> list[Any]:
    """One side of pairs, as keys."""
    if key_type == "int":
        return [int(pair[side]) for pair in pairs]
    return [pair[side] for pair in pairs]
