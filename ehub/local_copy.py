"""A local copy of a space: read and written like the space, which does not notice.

It is for training loops: workers read vectors from beside the model, and what they learn goes back
when it is good. The copy is a hub of its own in a temporary directory, so it has everything that a
space has, neighbours included; making it reads and writes every row once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import finalize

import numpy as np

from ehub._native import _store
from ehub.closing import Closing
from ehub.errors import ConflictError, EhubError, NotFoundError, ReadOnlyError
from ehub.model import model_of
from ehub.names import DEFAULT
from ehub.partition import Partition
from ehub.snapshot import Snapshot
from ehub.space import Space
from ehub.transfer import bring_keys, copy_rows, make_equal
from ehub.version import Version
from ehub.view import View

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["LocalCopy", "copy_of"]


class LocalCopy(Closing, Space):
    """A space's rows as they were when it was made, in a hub of its own: yours to change.

    It comes from `Space.download_snapshot()`, or from that of a version or a snapshot. Writes stay
    in it until `write_to_space()` or `overwrite_space()`; `refresh()` drops them and begins anew.
    It is deleted when it is closed, garbage collected, or the program ends.

    It can be pickled: what another process gets is a handle that reads this copy where it lies, for
    as long as it is there, and follows it with `refresh()`.
    """

    __slots__ = ("_ends", "_made", "_past", "_pool", "_root", "_source")

    def __init__(
        self, hub: Hub, name: str, root: str, source: View | None, made: Made | None
    ) -> None:
        self._root = root
        self._source = source
        self._made = made
        self._past: set[str] = set()  # versions of before, which go when nobody has them
        self._pool: ThreadPoolExecutor | None = None
        self._ends = finalize(self, end, hub, None if source is None else root, os.getpid())
        super().__init__(hub, name)

    @property
    def source(self) -> View | None:
        """What it is a copy of; None for a handle in another process."""
        return self._source

    def refresh(self, wait: bool = True, *, progress: bool = False) -> Future[None]:
        """Make it what its source is now; what was written to it goes.

        Readers see the rows from before, and then all new ones: nothing in between. Of a space, a
        version or a partition only the rows that differ are copied, and until then the source keeps
        what it showed the last time, as for a snapshot; from others, and from a server, all rows
        are. Of a handle in another process: see what was written to the copy since.

        Args:
            wait: Return when it is done; else at once, and the future that is returned says when.
            progress: Show a bar if standard error is a terminal.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="ehub-refresh")
        task = self._hub.refresh if self._source is None else partial(self._fetch, progress)
        done = self._pool.submit(task)
        if wait:
            done.result()
        return done

    def write_to_space(self, name: str, create: bool = False, *, progress: bool = False) -> int:
        """Write every row to a space of the source's hub, over what is there under its keys.

        Returns how many rows. They go in batches of 16 MiB: each is atomic.

        Args:
            name: Of the space.
            create: Make it, with the same dims, metric and kind of keys, if there is none.
            progress: Show a bar if standard error is a terminal.
        """
        target = self._target(name, create)
        return copy_rows(self._now(), target, progress, f"write_to_space {name}")

    def overwrite_space(self, name: str, *, progress: bool = False) -> int:
        """Make the rows of a space of the source's hub what they are here; returns how many.

        What differs is written, and what is not here is deleted, in one atomic batch. (On a server:
        all rows, in batches, and then the deletes.) Tag the space before, and `restore()` leads
        back.

        Args:
            name: Of the space.
            progress: Show a bar if standard error is a terminal.
        """
        target = self._target(name, create=False)
        with self.snapshot() as rows:
            make_equal(target, rows._now(), self._root, progress, f"overwrite_space {name}")
            return len(rows)

    def close(self) -> None:
        """Delete it. Closing twice is fine."""
        if self._pool is not None:
            self._pool.shutdown()
        self._forget()
        self._ends()

    def _fetch(self, progress: bool = False) -> None:
        """Fill a new version, and make it the one that is read."""
        assert self._source is not None
        made = made_of(self, settled(self._source), self._made, progress)
        old = self.current.name
        self.alias(DEFAULT, made.version)
        if self._made is not None:
            self._made.close()
        self._made = made
        self._past.add(old)
        for name in list(self._past):
            # Somebody has tagged it, or a dataset reads it: the next time may do.
            with suppress(ConflictError):
                if not self.version(name).snapshots():
                    self.delete_version(name)
                    self._past.discard(name)

    def _forget(self) -> None:
        """Hold no time of the source: the next refresh copies every row."""
        if self._made is not None:
            self._made.close()
        self._made = None

    def _target(self, name: str, create: bool) -> Version:
        if self._source is None:
            raise ReadOnlyError("a handle of a local copy cannot write to its source's hub")
        hub: Hub = hub_of(self._source)
        if create and name not in hub:
            hub.create_space(name, self.dims, metric=self.metric, key_type=self.key_type)
        return hub.get_space(name).current

    def __repr__(self) -> str:
        return f"<ehub.LocalCopy of {self.name!r} dims={self.dims} in {self._root!r}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:  # type: ignore[override]
        return opened, (self._root, self.name)


Copy = TypeVar("Copy", bound=LocalCopy)


@dataclass(frozen=True, slots=True)
class Made:
    """What a copy's version was made of, so that the next one can be made of what differs."""

    version: str
    rows: Snapshot  # the version, before anything was written to it
    source: Snapshot | None  # None: nobody can be asked what has changed since

    def close(self) -> None:
        """Let go of both times."""
        self.rows.close()
        if self.source is not None:
            self.source.close()


def copy_of(source: View, kind: type[Copy], progress: bool) -> Copy:
    """A copy of what a space, a version or a snapshot shows now, as a kind of `LocalCopy`."""
    from ehub.hub import open as open_hub  # it offers what is here

    root = tempfile.mkdtemp(prefix="ehub-copy-")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, root, ignore_errors=True)
        hub = undo.enter_context(open_hub(root, durability="off"))
        settled_source = settled(source)
        space = hub.create_space(
            source.space,
            settled_source.dims,
            metric=settled_source.metric,
            key_type=settled_source.key_type,
            model=model_of(settled_source._table),
        )
        made = filled(space.current, settled_source, progress, "download_snapshot")
        undo.callback(made.close)
        copy = kind(hub, source.space, root, source, made)
        undo.pop_all()
    if made.source is not None:
        hub_of(source)._copies.add(copy)
    return copy


def filled(version: Version, source: View, progress: bool, what: str) -> Made:
    """Copy all rows of the source to a new version."""
    then = time_of(source)
    with undone_on_error(partial(let_go, then)):
        copy_rows(rows_at(source, then), version, progress, f"{what} {source.space}")
        return Made(version.name, version.snapshot(), then)


def made_of(copy: LocalCopy, source: View, before: Made | None, progress: bool) -> Made:
    """A new version of a copy with the rows of the source: of the last one, if little differs."""
    name = str(1 + max((int(one) for one in copy.versions() if one.isdecimal()), default=0))
    made = None if before is None else changed(copy, name, source, before, progress)
    if made is not None:
        return made
    new = copy.create_version(
        name,
        dims=source.dims,
        metric=source.metric,
        key_type=source.key_type,
        model=model_of(source._table),
    )
    with undone_on_error(partial(copy.delete_version, name)):
        return filled(new, source, progress, "refresh")


def changed(copy: LocalCopy, name: str, source: View, before: Made, progress: bool) -> Made | None:
    """A new version made of the last one; None where that is not known, or much differs."""
    if before.source is None or before.source.closed:
        return None
    then = time_of(source)
    with undone_on_error(partial(let_go, then)):
        if then is None or then._table.id != before.source._table.id:
            return None
        gone, come = _store.changed_keys(before.source._held, then._held)
        keys = np.unique(np.concatenate([gone, come]))
        rows = rows_at(source, then)
        if 2 * len(keys) > rows.row_count():
            return None
        new = copy.version(before.version).fork(name, at=before.rows)
        with undone_on_error(partial(copy.delete_version, name)):
            bring_keys(rows, keys, new, progress, f"refresh {source.space}")
            return Made(new.name, new.snapshot(), then)


@contextmanager
def undone_on_error(undo: Callable[[], object]) -> Iterator[None]:
    """Undo what was begun, at the source and in the copy, if the block does not come to its end.

    Else whoever has the error would go on holding it.
    """
    try:
        yield
    except BaseException:
        with suppress(EhubError):  # the hub may be closed
            undo()
        raise


def let_go(time: Snapshot | None) -> None:
    """Hold a time of a source no more."""
    if time is not None:
        time.close()


def time_of(source: View) -> Snapshot | None:
    """What the version of a source shows now, if it can be asked later what has changed since."""
    if not isinstance(source._table, _store.Table):
        return None
    if isinstance(source, Partition):
        return source.version.snapshot()
    return source.snapshot() if isinstance(source, Version) else None


def rows_at(source: View, time: Snapshot | None) -> _store.View:
    """What a source shows, now or at a time of its version."""
    if time is None:
        return source._now()
    rows = time._now()
    if isinstance(source, Partition) and source.name in rows.partitions():
        return rows.within((source.name.encode(),))
    return source._now() if isinstance(source, Partition) else rows


def settled(source: View) -> View:
    """The version that a space means now, so that its alias cannot be moved in between."""
    return source.current if isinstance(source, Space) else source


def opened(root: str, name: str) -> LocalCopy:
    """A handle that reads a copy of another process."""
    from ehub.hub import open as open_hub

    try:
        hub = open_hub(root, read_only=True)
    except NotFoundError as error:
        raise NotFoundError(f"the local copy in {root!r} is gone: it was closed") from error
    return LocalCopy(hub, name, root, None, None)


def end(hub: Hub, root: str | None, pid: int) -> None:
    """Close a copy's hub, and delete it where this process made it and was not forked from it."""
    hub.close()
    if root is not None and os.getpid() == pid:
        shutil.rmtree(root, ignore_errors=True)


def hub_of(view: Any) -> Hub:
    """The hub that a space, a version or a snapshot is in."""
    hub: Hub = view.hub if isinstance(view, Version) else view._version.hub
    return hub
