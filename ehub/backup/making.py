"""A backup made: what is not there yet is put there, and then the record.

It reads the hub as any reader process does: the writer keeps what the manifest names that is locked
here, and goes on. Files are those of sealed segments, of which most were in the last backup and are
not even read; the manifest; the log up to the last acknowledged batch, with the vectors that it
refers to; graphs; and the audit log.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ehub._native import _store
from ehub._progress import Bar
from ehub.access import audit
from ehub.backup import chunks, noted, record
from ehub.backup.chunks import Chunk, ahead_in_order, packed
from ehub.backup.cutting import pieces_of
from ehub.backup.lease import Lease, leased
from ehub.backup.place import Place, Where, open_place
from ehub.backup.record import Backup, FileEntry, Record
from ehub.errors import (
    ConflictError,
    CorruptionError,
    ExistsError,
    NotFoundError,
)
from ehub.names import now

__all__ = ["Shows", "make_backup"]

# From how many bytes there are to what is told as they are copied.
Shows = Callable[[int], AbstractContextManager[Bar]]

# How often a hub is opened in which a vector file that is still written goes before it can be held.
OPENINGS_MAX = 20

# Of a graph, whose last bytes have checksums of all others.
STAMP_BYTES = 4096


class Source(NamedTuple):
    """A file to be backed up."""

    path: str
    bytes: int
    row_bytes: int = 0
    segment: int = 0
    stamp: str = ""
    derived: bool = False


class Piece(NamedTuple):
    """A piece of the file that is the so-manieth of those to be read."""

    file: int
    data: bytes
    compress: bool


def make_backup(hub: str, where: Where, *, index: bool, shows: Shows) -> Backup:
    """`Hub.backup()`.

    Args:
        hub: The hub's directory.
        where: The place.
        index: Whether graphs are copied.
        shows: Given how many bytes there are to copy, what is told as they are; what that raises
            ends the backup.
    """
    place = open_place(where, outside=hub)
    with leased(place, "backup") as lease:
        made = made_of(hub, place, lease, index, shows)
    noted.note(hub, place.url, made)
    return made


def made_of(hub: str, place: Place, lease: Lease, index: bool, shows: Shows) -> Backup:
    """Open the hub until all that is to be copied can be held, and copy it."""
    opened = 0
    while True:
        time = now()  # what is acknowledged by now is in what is opened next
        with closing(_store.Store(hub, read_only=True)) as store, ExitStack() as held:
            opened += 1
            try:
                making = Making(place, store, lease, time, index, held)
            except FileNotFoundError as error:
                if opened == OPENINGS_MAX:
                    raise CorruptionError(f"{error.filename}: missing") from error
            else:
                return making.run(shows)


class Making:
    """One backup under way."""

    def __init__(
        self,
        place: Place,
        store: _store.Store,
        lease: Lease,
        time: str,
        index: bool,
        held: ExitStack,
    ) -> None:
        """Requires: `held` is closed when the backup is made.

        A FileNotFoundError: the hub has changed since `store` was opened, and is to be opened anew.
        """
        self._place = place
        self._store = store
        self._lease = lease
        self._root = Path(store.path)
        self._time = time
        _, self._seq, seed, self._current, files = _store.stored_files(store)
        self._hub = hashlib.sha256(seed.to_bytes(8, "little")).hexdigest()[:16]
        self._sources = [Source(*file) for file in files if index or not file[-1]]
        # No manifest names vectors that only a log has yet: once they are merged, their file goes.
        self._growing = {
            source.path: held.enter_context((self._root / source.path).open("rb"))
            for source in self._sources
            if source.row_bytes and not source.segment
        }
        self._number = 1
        self._known: dict[tuple[str, int, str], tuple[Chunk, ...]] = {}
        self._present: dict[str, int] = {}
        self._moved = 0

    def run(self, shows: Shows) -> Backup:
        """Look what is there, add what is not, and say what the backup is."""
        self._look()
        kept, new = self._parted()
        self._require_sound({source.segment for source in new if source.segment})
        with shows(sum(source.bytes for source in new)) as shown:
            entries = kept + self._put_all(new, shown)
        entries.sort(key=lambda entry: entry.path)
        return self._finish(entries)

    def _look(self) -> None:
        """What is there: the last backup of this hub, and all chunks."""
        listed = record.numbers(self._place)
        self._number = listed[-1] + 1 if listed else 1
        found = self._place.objects(chunks.DIRECTORY)
        self._present = {path: one.size for path, one in found.items()}
        for number in reversed(listed):
            try:
                last = record.read(self._place, number)
                entries = record.files_in(self._place, last) if last.hub == self._hub else []
            except CorruptionError:
                continue  # what it knew is read again
            except NotFoundError:
                continue
            if last.hub != self._hub:
                raise ConflictError(
                    f"{self._place.url} has backups of another hub; give each hub a place of its "
                    "own"
                )
            self._known = {
                (entry.path, entry.bytes, entry.stamp): entry.chunks
                for entry in entries
                if entry.stamp and all(map(self._is_there, entry.chunks))
            }
            return

    def _is_there(self, chunk: Chunk) -> bool:
        return self._present.get(chunk.path) == chunk.stored

    def _parted(self) -> tuple[list[FileEntry], list[Source]]:
        """The files whose chunks are known to be there, and the others."""
        kept, new = [], []
        for source in [*self._stamped(), *self._audit_files()]:
            pieces = self._known.get((source.path, source.bytes, source.stamp))
            if pieces is None:
                new.append(source)
            else:
                kept.append(FileEntry(source.path, source.bytes, source.stamp, pieces))
        return kept, new

    def _stamped(self) -> Iterator[Source]:
        """The hub's files, graphs with stamps; without those that have gone since."""
        for source in self._sources:
            if not source.derived:
                yield source
                continue
            try:
                with (self._root / source.path).open("rb") as file:
                    yield source._replace(bytes=size_of(file), stamp=stamp_of(file))
            except FileNotFoundError:
                continue

    def _audit_files(self) -> Iterator[Source]:
        """The audit log up to its last whole line."""
        for path in audit.files_of(self._root / audit.DIRECTORY):
            size = path.read_bytes().rfind(b"\n") + 1
            yield Source(f"{audit.DIRECTORY}/{path.name}", size)

    def _require_sound(self, segments: set[int]) -> None:
        """What is copied for the first time is proven first; the log was when it was read."""
        for path, what in _store.damage_of(self._store, segments):
            raise CorruptionError(
                f"{path}: {what}: a backup would be of no use, and none was made; ehub verify "
                "lists the damage, ehub repair keeps what is sound"
            )

    def _put_all(self, sources: list[Source], shown: Bar) -> list[FileEntry]:
        """Put the pieces of files there; what each is made of."""
        found: list[list[Chunk]] = [[] for _ in sources]
        gone: set[int] = set()
        pieces = self._pieces(sources, gone)
        for file, chunk, moved in ahead_in_order(self._put, pieces):
            found[file].append(chunk)
            self._moved += moved
            shown.update(chunk.bytes)
        return [
            FileEntry(
                source.path, sum(chunk.bytes for chunk in listed), source.stamp, tuple(listed)
            )
            for number, (source, listed) in enumerate(zip(sources, found, strict=True))
            if number not in gone
        ]

    def _pieces(self, sources: list[Source], gone: set[int]) -> Iterator[Piece]:
        """All pieces of the files; of graphs that have gone or were replaced, none."""
        for number, source in enumerate(sources):
            try:
                file = self._growing.get(source.path) or (self._root / source.path).open("rb")
            except FileNotFoundError as error:
                if not source.derived:
                    raise CorruptionError(f"{self._root / source.path}: missing") from error
                gone.add(number)
                continue
            with file:
                if source.derived and stamp_of(file) != source.stamp:
                    gone.add(number)
                    continue
                for data in pieces_of(file, source.bytes, source.row_bytes):
                    yield Piece(number, data, compress=not source.row_bytes)

    def _put(self, piece: Piece) -> tuple[int, Chunk, int]:
        """Put a piece there unless it is; how many bytes that took."""
        chunk, data = packed(piece.data, compress=piece.compress)
        if self._is_there(chunk):
            return piece.file, chunk, 0
        self._place.put(chunk.path, data)
        self._present[chunk.path] = chunk.stored
        return piece.file, chunk, chunk.stored

    def _finish(self, entries: list[FileEntry]) -> Backup:
        """Put the list and the record there: from then on the backup is."""
        size = sum(entry.bytes for entry in entries)
        data = io.BytesIO(record.lines_of([*entries, self._put_current()]))
        listed = []
        for piece in pieces_of(data, len(data.getbuffer()), 0):
            _, chunk, moved = self._put(Piece(0, piece, compress=True))
            listed.append(chunk)
            self._moved += moved
        self._place.settle()
        self._lease.require()
        while True:
            made = Backup(self._number, self._time, self._seq, len(entries) + 1, size, self._moved)
            try:
                self._put_record(Record(made, self._hub, tuple(listed)))
            except ExistsError:  # of another backup that was made meanwhile
                self._number += 1
                continue
            self._place.settle()
            return made

    def _put_current(self) -> FileEntry:
        """CURRENT, which may name another manifest by now."""
        _, chunk, moved = self._put(Piece(0, self._current, compress=False))
        self._moved += moved
        return FileEntry("CURRENT", len(self._current), "", (chunk,))

    def _put_record(self, made: Record) -> None:
        self._place.put(record.path_of(made.backup.number), record.written(made), create=True)


def size_of(file: BinaryIO) -> int:
    """Of an open file."""
    return os.fstat(file.fileno()).st_size


def stamp_of(file: BinaryIO) -> str:
    """Of a graph: a hash of its end. The file is at its beginning afterwards."""
    file.seek(max(0, size_of(file) - STAMP_BYTES))
    stamp = hashlib.sha256(file.read()).hexdigest()
    file.seek(0)
    return stamp
