"""The call that has the server back its hub up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ehub.backup.allowed import AllowedPlaces
from ehub.backup.making import Shows, make_backup
from ehub.backup.record import Backup
from ehub.errors import ConflictError, InvalidArgumentError
from ehub.hub import Hub
from ehub.server.calls import require_active
from ehub.wire import ehub_pb2 as pb

__all__ = ["BackingUp", "Places"]

# How often who waits is told how far it is, and is seen to have left.
PROGRESS_SECONDS = 0.2


class Places:
    """The allowed places, and those where a backup is under way. Any thread may use it."""

    def __init__(self, allowed: AllowedPlaces) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @contextmanager
    def taken(self, text: str) -> Iterator[str]:
        """A place to back up to, for nobody else meanwhile; a ConflictError if somebody has it."""
        place = self._allowed.place(text)
        with self._lock:
            if place in self._busy:
                raise ConflictError(
                    f"{place}: this server makes a backup there already; wait for it to end"
                )
            self._busy.add(place)
        try:
            yield place
        finally:
            with self._lock:
                self._busy.remove(place)


class Stopped(Exception):
    """Nobody waits for the backup any more."""


class Work:
    """A backup in a thread of its own, from its making on. It is a bar, too."""

    def __init__(self, make: Callable[[Shows], Backup]) -> None:
        self.bytes = self.of_bytes = 0
        self._made: Backup | None = None
        self._error: BaseException | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), name="ehub-backing-up")
        self._thread.start()

    def ended(self, seconds: float) -> bool:
        """Wait for its end, for so long; whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def made(self) -> Backup:
        """What was made, or what was raised instead. Requires: it has ended."""
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made

    def stop(self) -> None:
        """End it with the piece that it is at, if it has not ended; returns when it has."""
        self._is_stopped.set()
        self._thread.join()

    def update(self, n: int) -> None:
        """So many more bytes are there."""
        self.bytes += n
        if self._is_stopped.is_set():
            raise Stopped

    @contextmanager
    def _shown(self, total: int) -> Iterator[Work]:
        self.of_bytes = total
        self.update(0)
        yield self

    def _run(self, make: Callable[[Shows], Backup]) -> None:
        try:
            self._made = make(self._shown)
        except BaseException as error:
            self._error = error


class BackingUp:
    """A part of the servicer (service.py)."""

    _hub: Hub
    _places: Places

    def Backup(self, request: pb.BackupRequest, context: Any) -> Iterator[pb.BackupProgress]:
        if not request.place:
            raise InvalidArgumentError(
                "no place to back up to; expected an absolute path on the server's machine, or a "
                "URL"
            )
        with self._places.taken(request.place) as place:
            yield pb.BackupProgress(place=place)
            work = Work(
                lambda shows: make_backup(
                    self._hub.path, place, index=not request.without_index, shows=shows
                )
            )
            try:
                while not work.ended(PROGRESS_SECONDS):
                    require_active(context)
                    yield progress_of(work, place)
                made = pb.BackupReport(**work.made().to_dict())
            finally:
                work.stop()
            yield pb.BackupProgress(
                place=place, bytes=work.bytes, of_bytes=work.of_bytes, made=made
            )


def progress_of(work: Work, place: str) -> pb.BackupProgress:
    """How far a backup is."""
    return pb.BackupProgress(place=place, bytes=work.bytes, of_bytes=work.of_bytes)
