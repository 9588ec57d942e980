"""What a backup says: a small record, and the list of files that it names.

A record is JSON, `{"sha256": of the rest, "backup": {...}}`, at `backups/<number>.json`. The list
is JSON lines, one a file, in chunks like any file's, so that a backup of which little has changed
has a list of which little is new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ehub.backup.chunks import Chunk, ahead_in_order, as_chunk, fetched
from ehub.backup.place import Place
from ehub.errors import CorruptionError, FormatError, NotFoundError

__all__ = [
    "DIRECTORY",
    "Backup",
    "FileEntry",
    "Record",
    "files_in",
    "lines_of",
    "numbers",
    "path_of",
    "read",
    "written",
]

DIRECTORY = "backups"
FORMAT = 1

# The files that a hub has: no other name is written by a restore.
HUB_FILE = re.compile(
    r"CURRENT|LOCK|manifest-\d+|wal/\d+\.log|segments/\d+\.(f32|seg)|index/\d+(-[ps]\d+)?\.hnsw"
    r"|audit/[\w-]+\.jsonl"
)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup.

    Attributes:
        number: Its name; later ones have higher numbers.
        time: When, in UTC (ISO 8601): it has all that was acknowledged by then.
        seq: The last batch that it has.
        files: How many files it has.
        bytes: Of these files.
        bytes_moved: What was put there for it; the rest was there from earlier backups.
    """

    number: int
    time: str
    seq: int
    files: int
    bytes: int
    bytes_moved: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Record:
    """All that an object in `backups/` says: of which hub the backup is, and where its list is."""

    backup: Backup
    hub: str
    list_chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a backup.

    Attributes:
        path: Below the hub's directory.
        bytes: Its size.
        stamp: Of a file that is not changed any more: equal only for equal contents; else "".
        chunks: Its pieces, in order.
    """

    path: str
    bytes: int
    stamp: str
    chunks: tuple[Chunk, ...]


# --- records ---


def path_of(number: int) -> str:
    """Of a backup's record."""
    return f"{DIRECTORY}/{number:08d}.json"


def numbers(place: Place) -> list[int]:
    """Of the backups that are there, ascending."""
    found = []
    for path in place.objects(DIRECTORY):
        digits = path.removeprefix(f"{DIRECTORY}/").removesuffix(".json")
        if digits.isdecimal() and path == path_of(int(digits)):
            found.append(int(digits))
    return sorted(found)


def written(record: Record) -> bytes:
    """A record as bytes."""
    said = {
        "format": FORMAT,
        "hub": record.hub,
        "list": record.list_chunks,
        **record.backup.to_dict(),
    }
    return json.dumps({"sha256": hash_of(said), "backup": said}).encode()


def hash_of(said: dict[str, Any]) -> str:
    """Of what a record says, however it is spaced."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read(place: Place, number: int) -> Record:
    """The record of a backup.

    A NotFoundError if there is none, a CorruptionError if it is damaged, a FormatError if it is
    from a later release.
    """
    path = path_of(number)
    try:
        data = place.get(path)
    except NotFoundError as error:
        raise NotFoundError(f"{place.url} has no backup {number}") from error
    try:
        document = json.loads(data)
        said = document["backup"]
        if document["sha256"] != hash_of(said) or said["number"] != number:
            raise ValueError("its checksum does not match")
        if said["format"] > FORMAT:
            raise FormatError(
                f"{place.url}: {path!r} has format {said['format']!r:.100}; this release of ehub "
                f"knows {FORMAT} and earlier ones"
            )
        backup = Backup(**{name: said[name] for name in Backup.__slots__})
        return Record(backup, said["hub"], tuple(map(as_chunk, said["list"])))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"{place.url}: object {path!r} is damaged: {error}; other backups are not concerned"
        ) from error


# --- lists of files ---


def lines_of(entries: list[FileEntry]) -> bytes:
    """A list of files as bytes."""
    lines = [
        json.dumps([entry.path, entry.bytes, entry.stamp, entry.chunks], separators=(",", ":"))
        for entry in entries
    ]
    return "\n".join(lines).encode()


def files_in(place: Place, record: Record) -> list[FileEntry]:
    """The files of a backup; a CorruptionError if the list is damaged or missing."""
    pieces = ahead_in_order(lambda chunk: fetched(place, chunk), record.list_chunks)
    try:
        return list(entries_of(b"".join(pieces)))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"{place.url}: the list of files of backup {record.backup.number} is damaged: {error}"
        ) from error


def entries_of(data: bytes) -> Iterator[FileEntry]:
    """What a list says, checked: it decides which files a restore writes."""
    for line in data.splitlines():
        path, size, stamp, chunks = json.loads(line)
        entry = FileEntry(path, size, stamp, tuple(map(as_chunk, chunks)))
        if not HUB_FILE.fullmatch(path) or sum(chunk.bytes for chunk in entry.chunks) != size:
            raise ValueError(f"{path!r:.100} is no file of a hub")
        yield entry
