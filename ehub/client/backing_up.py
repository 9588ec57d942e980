"""Backups that a server makes of its hub."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack

from ehub._progress import bar
from ehub.average import as_flag
from ehub.backup.place import Where
from ehub.backup.record import Backup
from ehub.client.link import Link
from ehub.errors import InvalidArgumentError, UnavailableError
from ehub.wire import ehub_pb2 as pb

__all__ = ["backup"]


def backup(link: Link, where: Where, index: bool, progress: bool) -> Backup:
    """`Hub.backup()`, to a place of the server."""
    request = pb.BackupRequest(place=as_place(where), without_index=not as_flag(index, "index"))
    return shown(link.transport.stream("Backup", request), progress)


def as_place(where: Where) -> str:
    """A place as it travels."""
    text = os.fspath(where) if isinstance(where, os.PathLike) else where
    if not isinstance(text, str):
        raise InvalidArgumentError(
            f"{where!r:.100} is no place for backups by a server; expected an absolute path on its "
            "machine, or a URL"
        )
    return text


def shown(answers: Iterable[pb.BackupProgress], progress: bool) -> Backup:
    """Follow a backup to its end."""
    done, shown_in, made = 0, None, None
    with ExitStack() as stack:
        for answer in answers:
            if shown_in is None and answer.of_bytes:
                shown_in = stack.enter_context(bar(progress, answer.of_bytes, "B", "backup"))
            if shown_in is not None:
                shown_in.update(answer.bytes - done)
                done = answer.bytes
            if answer.HasField("made"):
                made = answer.made
    if made is None:
        raise UnavailableError("the server has ended the backup before it was made")
    return Backup(made.number, made.time, made.seq, made.files, made.bytes, made.bytes_moved)
