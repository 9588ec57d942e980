"""A hub: a directory of spaces, and how to open one."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from ehub import names
from ehub._native import _store
from ehub._progress import Bar, bar, grown, watched
from ehub._watching import rewriting
from ehub.backup.making import make_backup
from ehub.backup.place import Where
from ehub.backup.record import Backup
from ehub.erasure import finish_erasures
from ehub.errors import InvalidArgumentError, NotFoundError, add_note
from ehub.interrupts import stoppable
from ehub.kept_average import KeptAverage
from ehub.model import Lineage, Model, as_model
from ehub.named_average import wrong_averages
from ehub.space import Space, agreed, create
from ehub.subindex import know_subindices
from ehub.types import (
    Durability,
    Finding,
    HubInfo,
    KeyType,
    Metric,
    RepairReport,
    VerifyReport,
)

if TYPE_CHECKING:
    from ehub.local_copy import LocalCopy

__all__ = ["Hub", "open", "repair"]

FIRST_VERSION = "initial"

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
    root = as_root(path)
    store = _store.Store(root, read_only=read_only, durability=durability)
    _open_stores.add(store)
    return Hub(store)


def repair(path: str | os.PathLike[str], *, progress: bool = False) -> RepairReport:
    """Rebuild the damaged hub in `path` from all that is provably undamaged. It must be closed.

    The old files are moved to `lost+found` in the hub, as they were. A NotFoundError if there is no
    hub, a CorruptionError if no manifest is readable.

    Args:
        path: Of the hub's directory.
        progress: Show a bar if standard error is a terminal: the time alone.
    """
    root = as_root(path)
    with watched(progress, "repair"):
        rows_kept, rows_dropped, batches_dropped, dropped = _store.repair(root)
    findings = tuple(Finding(*one) for one in dropped)
    return RepairReport(rows_kept, rows_dropped, batches_dropped, findings)


def as_root(path: str | os.PathLike[str]) -> str:
    """The absolute path of a hub's directory, links unresolved."""
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise InvalidArgumentError(
            f"the path of a hub is {text!r:.100}; expected one that is not empty and has no NUL"
        )
    return os.path.abspath(text)  # noqa: PTH100 - Path.resolve() would follow links


class Hub:
    """A store of embeddings: spaces by name.

    A hub comes from `ehub.open()` and is best used in a `with` statement. Every object that comes
    from it may be used from many threads, until the hub is closed; a process that was forked from
    this one must open the hub itself. A hub that is never closed is closed when the program ends.
    """

    __slots__ = ("__weakref__", "_averages", "_conditions", "_copies", "_names_lock", "_store")

    def __init__(self, store: _store.Store) -> None:
        self._store = store
        # Held while names are read, checked and changed; the engine takes care of all else.
        self._names_lock = RLock()
        # Named averages that were asked for, by the id of their means.
        self._averages: dict[int, KeptAverage] = {}
        # What sub-indices were last made or refreshed by, by the id of their keys.
        self._conditions: dict[int, Callable[[Any], bool]] = {}
        # Local copies, which hold what they were made of until they are refreshed.
        self._copies: WeakSet[LocalCopy] = WeakSet()
        if not store.read_only:
            know_subindices(store)

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
        dims: int | None = None,
        *,
        metric: Metric | None = None,
        key_type: KeyType = "str",
        model: Model | None = None,
        M: int = 24,
        ef_construction: int = 100,
        ef: int | None = None,
        target_recall: float = 0.95,
    ) -> Space:
        """Make a space; an ExistsError if there is one of that name.

        Args:
            name: Up to 255 bytes.
            dims: How many numbers a vector has, up to 65,535; if not given, what the model says.
            metric: What distance means: "cosine" is 1 - cos, "l2" the squared Euclidean distance,
                "ip" 1 - dot product. Smaller is nearer in all of them. If not given, what the model
                says, or else "cosine".
            key_type: "str" (up to 1,024 bytes of UTF-8) or "int" (64 bits).
            model: The model that makes the vectors of its first version, "initial".
            M: Half of the links that a row has in the index, as in HNSW: 2 to 512. More make better
                answers, and a larger index that takes longer to build.
            ef_construction: Candidates kept while a row's links are sought, 2 to 10,000.
            ef: Candidates kept in a search, where it does not say. Without it the index chooses
                what `target_recall` needs, from the space's own vectors.
            target_recall: The share of the true 10 nearest that a search should find.
        """
        index = (M, ef_construction, ef, target_recall)
        as_model(model)
        width = agreed("dims", dims, None if model is None else model.dims, None)
        distance = agreed("metric", metric, None if model is None else model.metric, "cosine")
        lineage = Lineage(created_by=names.user())
        create(self, name, FIRST_VERSION, width, distance, key_type, index, model, lineage)
        return Space(self, name)

    def get_space(
        self, name: str, download_snapshot: bool = False, *, progress: bool = False
    ) -> Space:
        """The space of that name; a NotFoundError if there is none.

        With `download_snapshot`, a local copy of it: `Space.download_snapshot()`, which shows
        `progress` if that is wanted.
        """
        self._store.get_space(name)  # a NotFoundError if there is none
        space = Space(self, name)
        return space.download_snapshot(progress=progress) if download_snapshot else space

    def spaces(self) -> list[str]:
        """The names of all spaces."""
        return self._store.spaces()

    def delete_space(self, name: str) -> None:
        """Delete a space with all its versions and tags; a NotFoundError if there is none."""
        with self._names_lock:
            ids = [table.id for table in self._store.versions(name)]
            self._store.delete_space(name, names.without_space(self._store, name))
            for number in ids:
                self._averages.pop(number, None)
                self._conditions.pop(number, None)

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

    def checkpoint(self, *, progress: bool = False) -> None:
        """Fold the log into segments now; it happens by itself as the log grows.

        At Ctrl-C, and in a server for a caller who has left, segments that were to be rewritten as
        well are left as they are. What has begun to be folded is folded to the end, for it is due
        anyway, and bounded: a checkpoint comes by itself with every 32 MiB of log.

        Args:
            progress: Show a bar if standard error is a terminal: rows written to new segments.
        """
        with rewriting(progress, self._store, "checkpoint"):
            stoppable(self._store.checkpoint)

    def refresh(self) -> None:
        """For a hub opened with `read_only=True`: see what the writer has acknowledged since."""
        self._store.refresh()

    def verify(self, *, progress: bool = False) -> VerifyReport:
        """Read every file and check it against its checksums and all others.

        And make all named averages from their members, and compare.

        Args:
            progress: Show a bar if standard error is a terminal: bytes of segments.
        """
        total = disk_bytes(str(Path(self.path, "segments"))) if progress else 0
        checked = grown(lambda: self._store.work_stats()["bytes_checked"], total)
        with watched(progress, "verify", checked, "B"):
            return self._verified(partial(stoppable, self._store.verify))

    def _verified(
        self, read: Callable[[], Any], before_step: Callable[[], object] = lambda: None
    ) -> VerifyReport:
        """What `read()`, the store's own verification, and then the averages show.

        Until all is read, or `before_step`, called again and again meanwhile, raises.
        """
        files, size, rows, findings = read()
        found = [Finding(*finding) for finding in findings]
        if not found:  # else what is wrong with rows is said
            found += wrong_averages(self, before_step)
        return VerifyReport(files, size, rows, tuple(found))

    def backup(self, where: Where, *, index: bool = True, progress: bool = False) -> Backup:
        """Copy the hub, as it is now, to a place that outlives it; needs `ehub[backup]`.

        The hub goes on meanwhile: the backup has all that was acknowledged before the call, and
        whole batches. What earlier backups have is not moved again. `ehub.restore()` makes a hub
        of it. Another process may call it beside the writer, on a hub opened with `read_only=True`.

        Args:
            where: A directory, outside of the hub's; or a URL such as "s3://bucket/prefix", "gs://"
                or "az://", with credentials and endpoint from the environment as the vendors' own
                tools have them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` ...); or a store of
                obstore. Each hub has a place of its own.
            index: Copy graphs as well, which are two fifths of the size of the vectors or so; else
                a restored hub scans until it has built them again.
            progress: Show a bar if standard error is a terminal.

        Raises:
            ConflictError: Backups are being pruned there, or are of another hub.
            CorruptionError: The hub is damaged where no backup has it yet: `verify()` says more.
            StorageError: The place fails. Earlier backups are as good as before.
        """
        _ = self._store.seq  # a ClosedError if it is

        def shows(total: int) -> AbstractContextManager[Bar]:
            return bar(progress, total, "B", "backup")

        return make_backup(self.path, where, index=index, shows=shows)

    def finish_erasures(self, *, wait: float = 0.0) -> list[str]:
        """Remove what reader processes held of erased rows; the files that they still hold.

        None means that every `Space.erase()` so far is complete. Checkpoints and `ehub.open()` do
        the same by themselves.

        Args:
            wait: For how many seconds to wait for them.
        """
        return finish_erasures(self, wait)[1]

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
        """Close; if the block failed and closing does too, the block's error comes out."""
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as failure:
            add_note(error, f"closing the hub failed as well: {failure}")

    def __repr__(self) -> str:
        state = " closed" if self.closed else " read_only" if self.read_only else ""
        return f"<ehub.Hub {self.path!r}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Hub cannot be pickled: open it in each process, read_only=True to read")


def disk_bytes(path: str) -> int:
    """What a hub takes on disk. Files that vanish meanwhile do not count."""
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
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
