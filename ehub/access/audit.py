"""The audit log: who did what, and who was refused, in lines that prove that none is missing.

`<hub>/audit/` has files of JSON lines, `audit-000001.jsonl` and so on. There is a line for each
denial, each mutation and each change of keys and grants; none has a vector, a key of a row, or a
token. Each line begins with its number and with the SHA-256 of the line before (`prev`, of its
bytes without the end of line; zeros before the first), across files, so whatever is changed,
removed or put in another order breaks the chain there (`audit_check`). What was cut off at the end
is found by the hub's own note of where the log was last (`Access.audit_head`), or by a line that
somebody kept elsewhere.

A line is with the operating system when `append()` returns, so it survives the end of the process;
it is on the disk a second later, or at once with `durable=True` (keys and grants). One process
writes, the one that has the hub open for writing. A line that a crash cut short is moved to a file
of its own at the next open (`torn-...`), and the chain goes on from the line before.

The engine leaves the directory alone: it removes files by names of its own only.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ehub.errors import ClosedError, CorruptionError
from ehub.names import now

__all__ = ["DIRECTORY", "START", "AuditLog", "files_of", "hash_of"]

DIRECTORY = "audit"
FILE_BYTES_MAX = 64 << 20
SYNC_SECONDS = 1.0

# What the first line has in place of a hash.
START = "0" * 64

# The fields every line begins with, which are not a caller's to give.
HEAD = ("n", "prev", "time")


class AuditLog:
    """The log of one hub, to be appended to. Any thread may do so.

    Args:
        hub: The hub's directory.
        file_bytes_max: From this size on a file is followed by another.

    Raises:
        CorruptionError: The last line is whole and yet none of ours, so the chain cannot go on.
    """

    def __init__(
        self, hub: str | os.PathLike[str], *, file_bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self._directory = Path(hub, DIRECTORY)
        self._file_bytes_max = file_bytes_max
        self._lock = threading.Lock()
        self._unsynced = threading.Event()
        self._closed = threading.Event()
        self._directory.mkdir(mode=0o700, exist_ok=True)
        files = files_of(self._directory)
        self._number = number_of(files[-1]) if files else 1
        if files:
            mend(files[-1])
        self._n, self._prev = last_of(files)
        self._file = self._open(self._number)
        self._size = os.fstat(self._file).st_size
        sync_directory(self._directory)
        self._syncer = threading.Thread(target=self._sync_often, name="ehub-audit", daemon=True)
        self._syncer.start()

    @property
    def head(self) -> tuple[int, str]:
        """The number of the last line and its SHA-256: what pins all lines so far."""
        with self._lock:
            return self._n, self._prev

    def append(self, fields: Mapping[str, Any], *, durable: bool = False) -> None:
        """Add a line; what is None or empty in `fields` is left out.

        An OSError if it cannot be written: then nothing of it is in the log.
        """
        given = {
            name: value
            for name, value in fields.items()
            if name not in HEAD and value not in (None, "", (), [])
        }
        with self._lock:
            if self._closed.is_set():
                raise ClosedError("the audit log is closed")
            if self._size >= self._file_bytes_max:
                self._rotate()
            line = written({"n": self._n + 1, "prev": self._prev, "time": now(), **given})
            self._write(line + b"\n")
            self._n, self._prev = self._n + 1, hash_of(line)
            if durable:
                os.fsync(self._file)
            else:
                self._unsynced.set()

    def sync(self) -> tuple[int, str]:
        """Make all lines so far durable; the head as of then."""
        with self._lock:
            head = self._n, self._prev
            if self._closed.is_set():
                return head
            file = os.dup(self._file)
            self._unsynced.clear()
        try:
            os.fsync(file)  # while others append
        finally:
            os.close(file)
        return head

    def close(self) -> None:
        """Make all lines durable, and take no more. Closing twice is fine."""
        self.sync()
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            os.close(self._file)
        self._unsynced.set()
        self._syncer.join()

    def _open(self, number: int) -> int:
        path = self._directory / f"audit-{number:06d}.jsonl"
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _write(self, data: bytes) -> None:
        """All of it or nothing, as far as the disk lets."""
        try:
            done = os.write(self._file, data)
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        """Go on in another file; the chain goes on with it."""
        before = self._file
        os.fsync(before)
        self._file = self._open(self._number + 1)
        self._number += 1
        self._size = 0
        os.close(before)
        sync_directory(self._directory)

    def _sync_often(self) -> None:
        while not self._closed.is_set():
            self._unsynced.wait()
            if not self._closed.wait(SYNC_SECONDS):
                try:
                    self.sync()
                except OSError:  # no descriptor is left, say; tried again a second later
                    self._unsynced.set()


def written(fields: Mapping[str, Any]) -> bytes:
    """A line without its end; every character that could end one is escaped."""
    return json.dumps(fields, separators=(",", ":"), default=str).encode()


def hash_of(line: bytes) -> str:
    """What the next line says of this one."""
    return hashlib.sha256(line).hexdigest()


def number_of(path: Path) -> int:
    """The number of a file of the log; 0 if it is none."""
    digits = path.name.removeprefix("audit-").removesuffix(".jsonl")
    return int(digits) if path.name == f"audit-{digits}.jsonl" and digits.isdecimal() else 0


def files_of(directory: Path) -> list[Path]:
    """The files of a log in their order; none if there is no log."""
    found = [path for path in directory.glob("audit-*.jsonl") if number_of(path)]
    return sorted(found, key=number_of)


def last_of(files: list[Path]) -> tuple[int, str]:
    """The number and the hash of the last line."""
    for path in reversed(files):
        for line in lines_backwards(path):
            try:
                return int(json.loads(line)["n"]), hash_of(line)
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptionError(
                    f"{path}: damaged: its last line is no line of an audit log; ehub audit verify "
                    "says more. Move the directory away to begin a new log"
                ) from error
    return 0, START


def lines_backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a file from the last on; a file is small enough to be read at once."""
    return reversed(path.read_bytes().split(b"\n")[:-1])


def mend(path: Path) -> None:
    """Move what a crash left of a line at the end of a file to a file of its own."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return
    torn = path.with_name(f"torn-{now().replace(':', '')}-{path.stem}.part")
    torn.write_bytes(data[whole:])
    with path.open("r+b") as file:
        file.truncate(whole)
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
