"""The backups that are at a place, and whether their objects are."""

from __future__ import annotations

from ehub.backup import record
from ehub.backup.place import Where, open_place
from ehub.backup.record import Backup
from ehub.errors import NotFoundError

__all__ = ["backups"]


def backups(where: Where) -> list[Backup]:
    """The backups at a place, oldest first.

    Args:
        where: The place that `Hub.backup()` was given.

    Raises:
        NotFoundError: There is no such directory.
        CorruptionError: The record of a backup is damaged; it is named, and others can be restored.
    """
    place = open_place(where)
    found = []
    for number in record.numbers(place):
        try:
            found.append(record.read(place, number).backup)
        except NotFoundError:  # pruned meanwhile
            continue
    return found
