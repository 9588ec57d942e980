"""A hub: a directory of spaces, and how to open one."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn
from weakref import WeakSet

from ehub import _arrays
from ehub._native import _store
from ehub._progress import bar
from ehub.errors import NotFoundError, UnavailableError
from ehub.space import Space
from ehub.types import (
    Durability,
    Finding,
    HubInfo,
    KeyType,
    Metric,
    RepairReport,
    VerifyReport,
)

__all__ = ["Hub", "open", "repair"]

DIMS_MAX = 65_535

_open_stores: WeakSet[_store.Store] = WeakSet()


def open(
    path: str | os.PathLike[str], *, read_only: bool = False, durability: Durability = "full"
) -> Hub:
    """Open the hub in directory `path`, made if it is missing.

    One process at a time may have a hub open for writing (a LockedError names the other one), and
    any number beside it with `read_only=True`.

    Args:
        path: The directory.
        read_only: Read, and follow the writer with `Hub.refresh()`. The hub must exist.
        durability: What an acknowledged write survives, beside the end of the process:
            "full": a power cut; "normal": a power cut, but for the last 100 ms; "off": a power cut
            after the next checkpoint or `close()`.
    """
    root = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - without resolving links
    store = _store.Store(root, read_only=read_only, durability=durability)
    _open_stores.add(store)
    return Hub(store)


def repair(path: str | os.PathLike[str]) -> RepairReport:
    """Rebuild the damaged hub in `path` from all that is provably undamaged. It must be closed.

    The old files are moved to `lost+found` in the hub, never deleted.
    """
    root = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - without resolving links
    rows_kept, rows_dropped, dropped = _store.repair(root)
    return RepairReport(rows_kept, rows_dropped, tuple(Finding(*one) for one in dropped))


class Hub:
    """A store of embeddings: spaces by name.

    A hub comes from `ehub.open()` and is best used in a `with` statement. Every object that comes
    from it may be used from many threads, until the hub is closed; a process that was forked from
    this one must open the hub itself. A hub that is never closed is closed when the program ends.
    """

    __slots__ = ("__weakref__", "_store")

    def __init__(self, store: _store.Store) -> None:
        self._store = store

    @property
    def path(self) -> str:
        """The directory."""
        return self._store.path

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._store.read_only

    @property
    def closed(self) -> bool:
        """Whether the hub is closed; a hub of the parent process is."""
        return self._store.closed

    # --- spaces ---

    def create_space(
        self,
        name: str,
        dims: int,
        *,
        metric: Metric = "cosine",
        key_type: KeyType = "str",
        M: int = 24,
        ef_construction: int = 100,
        ef: int | None = None,
        target_recall: float = 0.95,
    ) -> Space:
        """Make a space; an ExistsError if there is one of that name.

        Args:
            name: Up to 255 bytes.
            dims: How many numbers a vector has, up to 65,535.
            metric: What distance means: "cosine" is 1 - cos, "l2" the squared Euclidean distance,
                "ip" 1 - dot product. Smaller is nearer in all of them.
            key_type: "str" (up to 1,024 bytes of UTF-8) or "int" (64 bits).
            M: Half of the links that a row has in the index, as in HNSW: 2 to 512. More make better
                answers, and a larger index that takes longer to build.
            ef_construction: Candidates kept while a row's links are sought, 2 to 10,000.
            ef: Candidates kept in a search, where it does not say. Without it the index chooses
                what `target_recall` needs, from the space's own vectors.
            target_recall: The share of the true 10 nearest that a search should find.
        """
        width = _arrays.as_integer(dims, "dims", 1, DIMS_MAX)
        parameters = (
            _arrays.as_integer(M, "M", 2, 512),
            _arrays.as_integer(ef_construction, "ef_construction", 2, 10_000),
            0 if ef is None else _arrays.as_integer(ef, "ef", 1, 1_000_000),
            _arrays.as_share(target_recall, "target_recall"),
        )
        table = self._store.create_space(name, width, metric, key_type, *parameters)
        return Space(self, table)

    def get_space(self, name: str, download_snapshot: bool = False) -> Space:
        """The space of that name; a NotFoundError if there is none.

        `download_snapshot` is an option of older releases; this one has no snapshots yet, and a
        hub in a directory is as near as a snapshot would be.
        """
        if download_snapshot:
            raise UnavailableError(
                "this build of ehub has no snapshots yet: get_space(name) reads the hub itself"
            )
        return Space(self, self._store.get_space(name))

    def spaces(self) -> list[str]:
        """The names of all spaces."""
        return self._store.spaces()

    def delete_space(self, name: str) -> None:
        """Delete a space and all its rows; a NotFoundError if there is none."""
        self._store.delete_space(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        try:
            self._store.get_space(name)
        except NotFoundError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.spaces())

    def __len__(self) -> int:
        return len(self.spaces())

    # --- upkeep ---

    def save(self) -> None:
        """Make everything durable that was acknowledged; with durability "full" it is already."""
        self._store.sync()

    def checkpoint(self) -> None:
        """Fold the log into segments now; it happens by itself as the log grows."""
        self._store.checkpoint()

    def refresh(self) -> None:
        """For a hub opened with `read_only=True`: see what the writer has acknowledged since."""
        self._store.refresh()

    def verify(self, *, progress: bool = False) -> VerifyReport:
        """Read every file and check it against its checksums and all others."""
        total = disk_bytes(self.path) if progress else 0
        with bar(progress, total, "B", "verify") as shown:
            files, size, rows, findings = self._store.verify()
            shown.update(total)
        return VerifyReport(files, size, rows, tuple(Finding(*finding) for finding in findings))

    def info(self) -> HubInfo:
        """The hub at a glance."""
        names = self.spaces()
        rows = sum(len(self.get_space(name)) for name in names)
        return HubInfo(
            path=self.path,
            read_only=self.read_only,
            spaces=len(names),
            rows=rows,
            disk_bytes=disk_bytes(self.path),
            seq=self._store.seq,
        )

    # --- the end ---

    def close(self) -> None:
        """Close the hub; all acknowledged writes are durable then. Closing twice is fine.

        Iterators of its spaces end with a ClosedError; arrays that came from it stay good.
        """
        self._store.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else " read_only" if self.read_only else ""
        return f"<ehub.Hub {self.path!r}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Hub cannot be pickled: open it in each process, read_only=True to read")


def disk_bytes(path: str) -> int:
    """What a hub takes on disk. Files that vanish meanwhile do not count."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += Path(directory, name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


@atexit.register
def close_all() -> None:
    """Close what the program left open."""
    with ExitStack() as stack:
        for store in list(_open_stores):
            stack.callback(store.close)
