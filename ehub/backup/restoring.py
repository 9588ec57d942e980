"""A hub made of a backup.

All files are written to `restoring/` in the new hub's directory, each piece checked by its SHA-256,
and the whole opened and verified there. Then they are moved up, CURRENT last: from that moment on
there is a hub, and before it there is none. A restore that was cut short is begun anew by the next;
until then nothing opens as a hub there, and no new one is made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ehub import hub as hubs
from ehub._progress import Bar, bar
from ehub.access import audit
from ehub.backup import record
from ehub.backup.chunks import ahead_in_order, fetched
from ehub.backup.place import Place, Where, open_place, sync
from ehub.backup.record import Backup, FileEntry
from ehub.errors import (
    CorruptionError,
    EhubError,
    ExistsError,
    LockedError,
    NotFoundError,
    StorageError,
)

__all__ = ["restore"]

# The engine knows it, too: it makes no hub beside it.
STAGING = "restoring"
# In it, so that no directory of somebody else's is taken for it.
MARK = "RESTORE"

# What a restore that was cut short may have moved up.
LEFT_BEHIND = {STAGING, "LOCK", "RESERVE", "wal", "segments", "index", audit.DIRECTORY}


def restore(
    where: Where,
    path: str | os.PathLike[str],
    *,
    number: int | None = None,
    progress: bool = False,
) -> Backup:
    """Make a hub in directory `path` of a backup, and verify all of it.

    The hub has what was acknowledged when the backup was made: all spaces, versions, tags, names,
    keys and grants, and the audit log. Until it is whole and verified there is none; a call that
    fails leaves the directory as it was.

    Args:
        where: The place that `Hub.backup()` was given.
        path: The directory; it must be empty or missing, or have what a restore left that was cut
            short.
        number: Which backup; by default the last.
        progress: Show a bar if standard error is a terminal.

    Raises:
        NotFoundError: There is no such backup.
        CorruptionError: An object of the backup is missing or damaged; it is named.
        ExistsError: The directory is not empty.
        LockedError: Another process restores to it.
    """
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise TypeError(f"number is {number!r:.100}; expected that of a backup")
    place = open_place(where)
    listed = record.numbers(place)
    if not listed:
        raise NotFoundError(f"{place.url} has no backups")
    found = record.read(place, listed[-1] if number is None else number)
    entries = record.files_in(place, found)
    root = Path(hubs.as_root(path))
    try:
        with staging(root) as directory:
            with bar(progress, found.backup.bytes, "B", "restore") as shown:
                fill(place, directory, entries, shown)
            require_sound(directory, found.backup)
            move_up(directory, root)
    except OSError as error:
        if isinstance(error, EhubError):
            raise
        raise StorageError(error.errno, f"cannot restore to {root}: {error}") from error
    return found.backup


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """The directory to be filled, which nobody else fills; if that fails, all is as it was."""
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    require_free(root)
    directory = root / STAGING
    directory.mkdir(exist_ok=True)
    descriptor = locked(directory)
    try:
        require_still_free(root)
        (directory / MARK).touch()
        clear(root)
        sync(root, os.O_DIRECTORY)
        try:
            yield directory
        except BaseException:
            give_up(root, made)
            raise
    finally:
        os.close(descriptor)


def give_up(root: Path, made: bool) -> None:
    """Leave nothing behind, unless the hub is there by now."""
    if (root / "CURRENT").exists():
        return
    clear(root)
    shutil.rmtree(root / STAGING)
    if made:
        root.rmdir()


def locked(directory: Path) -> int:
    """Hold the directory until the descriptor is closed, or this process dies."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    except (BlockingIOError, FileNotFoundError) as error:  # the latter: it has just ended
        raise LockedError(f"another process restores to {directory.parent}") from error
    return descriptor


def require_still_free(root: Path) -> None:
    """Whoever held the directory before may have ended well."""
    try:
        require_free(root)
    except ExistsError:
        with suppress(OSError):  # but of ours alone
            (root / STAGING).rmdir()
        raise


def require_free(root: Path) -> None:
    """Raise an ExistsError if the directory has anything but what a restore left."""
    names = {entry.name for entry in root.iterdir()}
    if STAGING in names and is_ours(root / STAGING):
        names -= LEFT_BEHIND
        names = {name for name in names if not name.startswith("manifest-")}
    if names:
        raise ExistsError(
            f"{root} is not empty (it has {min(names)!r}); expected an empty or a new directory"
        )


def is_ours(directory: Path) -> bool:
    """Whether a restore made it; it may have been cut short before it could say so."""
    try:
        names = {entry.name for entry in directory.iterdir()}
    except FileNotFoundError:  # it has just ended
        return False
    return MARK in names or not names


def clear(root: Path) -> None:
    """Remove what a restore left, but for the directory that is locked."""
    for entry in [*root.iterdir(), *(root / STAGING).iterdir()]:
        if entry.name in (STAGING, MARK):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def fill(place: Place, directory: Path, entries: list[FileEntry], shown: Bar) -> None:
    """Write all files, durably."""
    pieces = ahead_in_order(
        lambda chunk: fetched(place, chunk), (chunk for entry in entries for chunk in entry.chunks)
    )
    for name in ("wal", "segments", "index"):
        (directory / name).mkdir()
    if any(entry.path.startswith(audit.DIRECTORY) for entry in entries):
        (directory / audit.DIRECTORY).mkdir(mode=0o700)
    for entry in entries:
        with new_file(directory / entry.path, entry) as file:
            for chunk in entry.chunks:
                file.write(next(pieces))
                shown.update(chunk.bytes)
            file.flush()
            os.fsync(file.fileno())
    (directory / "LOCK").touch()
    for inner in (*directory.iterdir(), directory):
        if inner.is_dir():
            sync(inner, os.O_DIRECTORY)


def new_file(path: Path, entry: FileEntry) -> BinaryIO:
    """A file to be written; the audit log is for its owner's eyes alone."""
    mode = 0o600 if entry.path.startswith(audit.DIRECTORY) else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, mode), "wb")


def require_sound(directory: Path, backup: Backup) -> None:
    """The hub opens, has all batches, and everything in it is as it should be."""
    with hubs.open(directory, read_only=True) as hub:
        report = hub.verify()
        seq = hub.info().seq
    for found in report.findings:
        raise CorruptionError(
            f"backup {backup.number} is damaged: {found.path}: {found.what}; restore another one"
        )
    if seq < backup.seq:
        raise CorruptionError(
            f"backup {backup.number} is damaged: it ends with batch {seq}, and should with batch "
            f"{backup.seq}; restore another one"
        )


def move_up(directory: Path, root: Path) -> None:
    """Make the hub be there. Whoever opens one there meanwhile waits for the lock."""
    with (root / "LOCK").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for entry in sorted(directory.iterdir()):
            if entry.name not in ("CURRENT", "LOCK", MARK):
                entry.rename(root / entry.name)
        sync(root, os.O_DIRECTORY)
        (directory / "CURRENT").rename(root / "CURRENT")
        sync(root, os.O_DIRECTORY)
        shutil.rmtree(directory)
