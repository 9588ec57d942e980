"""Old backups removed, and with them the chunks that no other backup names.

Records go first, then chunks: a pruning that is cut short leaves whole backups and chunks that
nobody names, which the next one removes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from ehub._arrays import as_count
from ehub._progress import Bar, bar
from ehub.backup import chunks, record
from ehub.backup.lease import Lease, leased
from ehub.backup.place import Place, Where, open_place
from ehub.backup.record import Backup, Record
from ehub.errors import ConflictError, InvalidArgumentError

__all__ = ["Pruned", "prune_backups"]

DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did, or would do.

    Attributes:
        kept: The backups that stay, oldest first.
        removed: Those that went.
        objects: How many objects went that no backup needs, their records not among them.
        bytes_freed: Of these.
    """

    kept: tuple[Backup, ...]
    removed: tuple[Backup, ...]
    objects: int
    bytes_freed: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def prune_backups(
    where: Where,
    *,
    keep_last: int | None = None,
    keep_daily: int | None = None,
    keep_weekly: int | None = None,
    keep_monthly: int | None = None,
    made_before: str | datetime | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Pruned:
    """Remove backups, and the objects that no other backup needs. The newest one always stays.

    A backup stays if one of the `keep_` rules wants it; without any, all do. What was made before
    `made_before` goes whatever they want: after an erasure, which no earlier backup knows of, that
    is how the erased keys leave the backups, too. A bucket that keeps versions of objects keeps
    them until its own rules remove them.

    Args:
        where: The place that `Hub.backup()` was given.
        keep_last: How many of the newest stay.
        keep_daily: Of how many days (UTC) that have backups the newest one stays.
        keep_weekly: The same of weeks, from Monday on.
        keep_monthly: The same of months.
        made_before: A time; ISO 8601 without a zone is UTC.
        dry_run: Say what would be removed, and remove nothing.
        progress: Show a bar if standard error is a terminal: objects that are removed.

    Raises:
        ConflictError: Backups are being made or pruned there; or all backups are from before
            `made_before`: make one first.
        CorruptionError: A record or a list of files is damaged, so that nobody knows what it needs.
    """
    rules = {
        "keep_last": keep_last,
        "keep_daily": keep_daily,
        "keep_weekly": keep_weekly,
        "keep_monthly": keep_monthly,
    }
    for name, count in rules.items():
        if count is not None:
            as_count(count, name)
    if made_before is None and not any(count is not None for count in rules.values()):
        raise InvalidArgumentError(
            f"nothing says which backups stay; expected one of {', '.join(rules)} or made_before"
        )
    limit = None if made_before is None else as_time(made_before)
    place = open_place(where)
    with leased(place, "prune") as lease:
        records = [record.read(place, number) for number in record.numbers(place)]
        kept = chosen([one.backup for one in records], rules, limit)
        return remove(place, lease, records, kept, dry_run, progress)


# --- which ones stay ---


def as_time(value: str | datetime) -> datetime:
    """A moment; an InvalidArgumentError if a text says none."""
    if not isinstance(value, (str, datetime)):
        raise TypeError(f"made_before is {value!r:.100}; expected a datetime or a str")
    try:
        time = (
            datetime.fromisoformat(value.replace("Z", "+00:00"))
            if isinstance(value, str)
            else value
        )
        return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise InvalidArgumentError(
            f"made_before is {value!r:.100}; expected a datetime or a time in ISO 8601"
        ) from error


def chosen(
    backups: list[Backup], rules: dict[str, int | None], made_before: datetime | None
) -> set[int]:
    """The numbers of the backups that stay."""
    if not backups:
        return set()
    newest = max(backups, key=lambda backup: backup.number)
    if made_before is not None and time_of(newest) < made_before:
        raise ConflictError(
            f"the newest backup was made at {newest.time}, before {made_before.isoformat()}, too: "
            "make one first"
        )
    counts = {name: count for name, count in rules.items() if count is not None}
    kept = {backup.number for backup in backups} if not counts else {newest.number}
    for name, count in counts.items():
        kept |= newest_of_each(backups, PERIODS[name], count)
    if made_before is not None:
        kept -= {backup.number for backup in backups if time_of(backup) < made_before}
    return kept


def newest_of_each(
    backups: list[Backup], period: Callable[[Backup], object], count: int
) -> set[int]:
    """Of the last `count` periods that have backups, the newest one each."""
    found: dict[object, int] = {}
    for backup in sorted(backups, key=lambda backup: backup.number, reverse=True):
        found.setdefault(period(backup), backup.number)
    return set(list(found.values())[:count])


def time_of(backup: Backup) -> datetime:
    """When it was made, with its zone."""
    return as_time(backup.time)


PERIODS: dict[str, Callable[[Backup], object]] = {
    "keep_last": lambda backup: backup.number,
    "keep_daily": lambda backup: time_of(backup).date(),
    "keep_weekly": lambda backup: time_of(backup).isocalendar()[:2],
    "keep_monthly": lambda backup: (time_of(backup).year, time_of(backup).month),
}


# --- the removing ---


def remove(
    place: Place,
    lease: Lease,
    records: list[Record],
    kept: set[int],
    dry_run: bool,
    progress: bool,
) -> Pruned:
    """Remove all backups but those, and what they alone needed."""
    stay = [one for one in records if one.backup.number in kept]
    go = [one for one in records if one.backup.number not in kept]
    needed = {chunk.path for one in stay for chunk in one.list_chunks}
    for one in stay:
        for entry in record.files_in(place, one):
            needed.update(chunk.path for chunk in entry.chunks)
    found = place.objects(chunks.DIRECTORY)
    useless = {path: one.size for path, one in found.items() if path not in needed}
    if not dry_run:
        first = [record.path_of(one.backup.number) for one in go]
        with bar(progress, len(first) + len(useless), "object", "prune_backups") as shown:
            delete(place, lease, first, shown)
            delete(place, lease, list(useless), shown)
        place.sweep()
    return Pruned(
        tuple(one.backup for one in stay),
        tuple(one.backup for one in go),
        len(useless),
        sum(useless.values()),
    )


def delete(place: Place, lease: Lease, paths: list[str], shown: Bar) -> None:
    """Delete objects, some at a time."""
    for start in range(0, len(paths), DELETED_AT_ONCE):
        lease.require()
        some = paths[start : start + DELETED_AT_ONCE]
        place.delete(some)
        shown.update(len(some))
