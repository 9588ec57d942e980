"""The points in time of a version: held, named, gone back to, compared, begun from.

A snapshot costs nothing, because every row knows when it was born and when it died. So a time is a
number; a tag keeps the rows that are visible at it, and nothing is copied for any of this.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ehub import _arrays, names
from ehub._native import _store
from ehub._progress import bar
from ehub.comparison import STEPS, Drift, Moment, Plan, drifted
from ehub.diff import Diff, diff_of
from ehub.errors import InvalidArgumentError, NotFoundError
from ehub.model import Lineage, as_labels
from ehub.snapshot import UNNAMED, Snapshot, Tag
from ehub.view import View

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.version import Version

__all__ = ["History"]


class History(View):
    """What can be asked of a version's past; `Version` has it all."""

    __slots__ = ()

    _hub: Hub

    # --- snapshots and tags ---

    def snapshot(self, message: str | None = None) -> Snapshot:
        """The version as it is now, with every acknowledged write: to be read in place.

        It is held until it is closed, or this process ends. With a `message` it is recorded as
        well: it is listed by `snapshots()`, survives, and is gone back to with `at()`, until
        `expire_snapshots()` lets it go. A tag has a name and never expires.
        """
        version = self._as_version()
        held = version._table.snapshot()
        if message is None:
            return Snapshot(version, held, None)
        try:
            return Snapshot(version, held, version._record(held, names.as_text(message, "message")))
        except BaseException:
            held.close()
            raise

    def _record(self, held: _store.Snapshot, message: str) -> Tag:
        """Tag a snapshot with the next number."""
        with self._hub._names_lock:
            numbers = [int(name[1:]) for name in self._table.tags() if re.fullmatch(r"@\d+", name)]
            name = f"{UNNAMED}{max(numbers, default=0) + 1}"
            self._set_tag(name, held, message, {}, None)
            return self._find_tag(name)

    def tag(
        self,
        name: str,
        snapshot: Snapshot | None = None,
        *,
        message: str = "",
        labels: Mapping[str, str] | None = None,
        created_by: str | None = None,
    ) -> Tag:
        """Give the time of `snapshot`, or now, a name that lasts; an ExistsError if it is taken.

        What was visible then is kept until the tag goes (`untag()`), and read with `at()`.

        Args:
            name: Up to 255 bytes; not beginning with "@".
            snapshot: An open one of this version.
            message: Why.
            labels: Strings by name.
            created_by: Who; by default the user of this process.
        """
        if names.as_name(name, "a tag").startswith(UNNAMED):
            raise InvalidArgumentError(
                f"the tag's name is {name!r}; those that begin with {UNNAMED!r} are for recorded "
                "snapshots without a name"
            )
        version = self._as_version()
        held = None if snapshot is None else version._held(snapshot)
        note = names.as_text(message, "message")
        with self._hub._names_lock:
            version._set_tag(name, held, note, as_labels(labels), created_by)
            return version._find_tag(name)

    def untag(self, name: str) -> None:
        """Let a tag go, and what only it has kept; a NotFoundError if there is none."""
        names.as_name(name, "a tag")
        with self._hub._names_lock:
            self._table.remove_tag(name, {names.note_of_tag(self._table, name): None})

    def tags(self) -> list[Tag]:
        """The tags, oldest time first."""
        return [tag for tag in self._all_tags() if tag.is_named]

    def snapshots(self) -> list[Tag]:
        """The recorded snapshots without a name, oldest first."""
        return [tag for tag in self._all_tags() if not tag.is_named]

    def at(self, name: str | Tag) -> Snapshot:
        """The version as it was when the tag was made; a NotFoundError if there is none."""
        text = names.as_name(name.name if isinstance(name, Tag) else name, "a tag")
        version = self._as_version()
        held = version._table.at(text)
        try:
            return Snapshot(version, held, version._find_tag(text))
        except BaseException:
            held.close()
            raise

    def expire_snapshots(
        self, *, keep_last: int | None = None, keep_for: timedelta | None = None
    ) -> list[Tag]:
        """Let recorded snapshots go that no rule keeps; tags stay. Returns those that went.

        Args:
            keep_last: Keep so many of the youngest.
            keep_for: Keep those that are no older.
        """
        if keep_last is None and keep_for is None:
            raise InvalidArgumentError("expire_snapshots() needs keep_last= or keep_for=")
        count = 0 if keep_last is None else _arrays.as_count(keep_last, "keep_last")
        if not (keep_for is None or isinstance(keep_for, timedelta)):
            raise TypeError(f"keep_for is {keep_for!r:.100}; expected a timedelta")
        with self._hub._names_lock:
            recorded = self.snapshots()
            kept = set(recorded[max(0, len(recorded) - count) :])
            if keep_for is not None:
                oldest = datetime.now(timezone.utc) - keep_for
                kept |= {tag for tag in recorded if is_since(tag, oldest)}
            expired = [tag for tag in recorded if tag not in kept]
            for tag in expired:
                self.untag(tag.name)
        return expired

    # --- going back, comparing, beginning anew ---

    def restore(self, at: str | Tag | Snapshot) -> None:
        """Make the rows again what they were at a tag, or in a snapshot: one atomic batch.

        No vector is copied and nothing is lost: tags and snapshots of any time show what they
        showed, and a tag that was made before the restore leads back.
        """
        if at is None:
            raise TypeError("restore() was given None; expected a tag or a snapshot")
        version = self._as_version()
        with version._opened(at) as snapshot:
            version._table.restore(version._held(snapshot))

    def fork(
        self,
        name: str,
        *,
        at: str | Tag | Snapshot | None = None,
        created_by: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Version:
        """A new version of the space that begins with the rows of this one, and goes its own way.

        It shares the files: no vector is copied.

        Args:
            name: Of the new version; an ExistsError if it is taken.
            at: A tag or a snapshot of this version; without it, now.
            created_by: Who; by default the user of this process.
            labels: Strings by name.
        """
        version = self._as_version()
        table = version._table
        names.as_name(name, "a version")
        with self._hub._names_lock, version._opened(at) as snapshot:
            names.require_no_alias(table.store, table.space, name)
            tag = snapshot.tag
            lineage = Lineage(
                parent=table.version if tag is None else f"{table.version}@{tag.name}",
                created_by=names.user() if created_by is None else created_by,
                labels=as_labels(labels),
            )
            described = names.read(table.store, names.note_of_version(table.space, table.version))
            described |= {"created": names.now(), "lineage": lineage.to_dict()}
            note = names.note_of_version(table.space, name)
            forked = table.fork(version._held(snapshot), name, {note: names.written(described)})
        return version._of(forked)

    def diff(
        self,
        since: str | Tag | View,
        until: str | Tag | View | None = None,
        *,
        progress: bool = False,
    ) -> Diff:
        """Which keys were added, removed and changed, and how far the changed vectors moved.

        Args:
            since: A tag of this version, or any view with the same kind of keys and dims.
            until: The same; without it, this version as it is now.
            progress: Show a bar if standard error is a terminal.
        """
        if since is None:
            raise TypeError("diff() was given None; expected a tag or a view")
        version = self._as_version()
        with version._readable(since) as before, version._readable(until) as after:
            return diff_of(before, after, progress)

    def drift(
        self,
        baseline: str | Tag | Snapshot,
        *,
        over: Iterable[str | Tag | Snapshot] = (),
        k: int = 10,
        sample: int = 2_000,
        seed: int = 0,
        exact: bool = False,
        progress: bool = False,
    ) -> Drift:
        """How the version has moved since a tag: the figures of `compare()`, time by time.

        Each time takes as long as a comparison does, seconds for millions of rows.

        Args:
            baseline: The tag or snapshot to measure from.
            over: Times to measure at, in this order; now comes after them.
            k: How many neighbours count, at most 1,000.
            sample: How many keys to look at, at most 20,000.
            seed: Which of them.
            exact: Scan all rows, so that neighbours which the index misses count for nothing.
            progress: Show a bar if standard error is a terminal.
        """
        if isinstance(over, (str, Tag, Snapshot)):
            raise TypeError(f"over is {over!r:.100}; expected a list of tags")
        version = self._as_version()
        plan = Plan(k, sample, seed, exact)
        times = (*over, None)
        total = STEPS * len(times)
        with (
            version._opened(baseline) as start,
            bar(progress, total, "step", f"drift {version.space}") as shown,
        ):
            moments = []
            for at in times:
                with version._opened(at) as then:
                    names = (start.time_name, "now" if at is None else then.time_name)
                    found = drifted(start, then, plan, names, shown)
                    created = "" if then.tag is None else then.tag.created
                    moments.append(Moment(then.seq, created, found))
        return Drift(tuple(moments))

    # --- helpers ---

    @abstractmethod
    def _as_version(self) -> Version:
        """Itself, or the version that it leads to now."""

    def _held(self, snapshot: Snapshot) -> _store.Snapshot:
        if not isinstance(snapshot, Snapshot):
            raise TypeError(
                f"{snapshot!r:.100} is not a snapshot; expected an open one of this version, as "
                "snapshot() and at() give"
            )
        if snapshot._table.id != self._table.id:
            raise InvalidArgumentError(
                f"{snapshot!r} is not of version {self._table.version!r} of space "
                f"{self._table.space!r}"
            )
        return snapshot._held

    def _opened(self, at: str | Tag | Snapshot | None) -> _Opened:
        if isinstance(at, Snapshot):
            return _Opened(at, closes=False)
        return _Opened(self.snapshot() if at is None else self.at(at), closes=True)

    def _readable(self, view: str | Tag | View | None) -> _Opened:
        if isinstance(view, History):
            return _Opened(view.snapshot(), closes=True)
        if isinstance(view, View):
            return _Opened(view, closes=False)
        return self._opened(view)

    def _set_tag(
        self,
        name: str,
        held: _store.Snapshot | None,
        message: str,
        labels: Mapping[str, str],
        created_by: str | None,
    ) -> None:
        about = {
            "created": names.now(),
            "created_by": names.user()
            if created_by is None
            else names.as_text(created_by, "created_by"),
            "message": message,
            "labels": dict(labels),
        }
        note = {names.note_of_tag(self._table, name): names.written(about)}
        self._table.set_tag(name, held, note)

    def _find_tag(self, name: str) -> Tag:
        seq = self._table.tags().get(name)
        if seq is None:
            raise NotFoundError(f"version {self._table.version!r} has no tag {name!r}")
        note = names.note_of_tag(self._table, name)
        about = names.read(self._table.store, note)
        return names.understood(note, lambda: tag_of(name, seq, about))

    def _all_tags(self) -> list[Tag]:
        table = self._table
        notes = names.notes_of_tags(table)
        about = names.read_all(table.store, notes)
        times = table.tags().items()
        tags = names.understood(
            notes, lambda: [tag_of(name, seq, about.get(name, {})) for name, seq in times]
        )
        return sorted(tags, key=lambda tag: (tag.seq, tag.created, tag.name))


class _Opened:
    """A view for the time of a `with` block, closed behind it if it was opened for it."""

    def __init__(self, view: Any, *, closes: bool) -> None:
        self._view = view
        self._closes = closes

    def __enter__(self) -> Any:
        return self._view

    def __exit__(self, *error: object) -> None:
        if self._closes:
            self._view.close()


def tag_of(name: str, seq: int, about: dict[str, Any]) -> Tag:
    """A tag from its note; a TypeError or a ValueError if that is not as written."""
    tag = Tag(name, seq, **about)
    for text in (tag.created, tag.created_by, tag.message):
        names.as_text(text, "a text of a tag")
    as_labels(tag.labels)
    if tag.created and datetime.fromisoformat(tag.created).tzinfo is None:
        raise ValueError(f"the time {tag.created!r:.100} has no time zone")
    return tag


def is_since(tag: Tag, oldest: datetime) -> bool:
    """Whether a tag was made at or after a time; one of which that is not known was."""
    return not tag.created or datetime.fromisoformat(tag.created) >= oldest
