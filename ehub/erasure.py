"""Keys removed from a space as if they had never been: the right to be forgotten.

A delete leaves a row where tags and snapshots see it, and its bytes in the files until they are
rewritten. An erasure takes the keys and their vectors out of every version of the space, frozen
ones and forks as well, out of every tag and named average, and out of every file of the hub, and
says in a receipt what it did. Views of a time before then show all that they showed but these rows.

What it does not reach: other spaces; notes such as the messages of tags; copies that were exported
or downloaded; backups, of which the receipt says where there are some (`ehub.prune_backups()` with
`made_before` removes those that have the keys, once there is a later one); arrays and iterators
that this process still holds, in a server the streams that are under way; and what the medium keeps
of freed blocks.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ehub import _arrays, names
from ehub._native import _store
from ehub.backup import noted
from ehub.errors import ConflictError, EhubError, InvalidArgumentError, InvalidKeyError
from ehub.kept_average import KeptAverage
from ehub.memberships import pair_of
from ehub.named_average import kept_average
from ehub.types import Key, KeyType

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = [
    "READS_ONLY",
    "ErasurePlan",
    "ErasureReceipt",
    "FileRecord",
    "VersionErasure",
    "erase_keys",
    "finish_erasures",
    "plan_erasure",
]

LOST_AND_FOUND = "lost+found"
READS_ONLY = "the hub is opened with read_only=True"
POLL_SECONDS = 0.02
SALT_BYTES = 16

Typed = dict[KeyType, list[Key]]


@dataclass(frozen=True, slots=True)
class VersionErasure:
    """What one version has, or had, of the keys. Hidden ones hold named averages.

    Attributes:
        version: The version's name.
        rows: Rows with these keys, overwritten and deleted ones that are still stored included.
        rows_live: Those among them that the version shows now.
        tags: The tags that show some of them.
        snapshots: Open snapshots of the version in this process, whatever they show.
    """

    version: str
    rows: int
    rows_live: int
    tags: tuple[str, ...]
    snapshots: int


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """What has some keys and what stands in the way of erasing them: `Space.erasure_plan()`.

    Attributes:
        space: The space's name.
        keys: How many different keys were given.
        keys_missing: How many of them no version has any row of.
        versions: The versions that have rows of them.
        files: The files that have their rows or may name them, below the hub's directory.
        readers: The manifests that reader processes hold: files that these name go when those
            processes refresh, close or end.
        blockers: Why `Space.erase()` would be refused now; none if it would not.
        backups: Where the hub was backed up to, as far as it knows; an erasure does not reach them.
        hidden: Of a server: which of "readers" and "backups" have something that only admins of the
            hub are told, and that is left out here.
    """

    space: str
    keys: int
    keys_missing: int
    versions: tuple[VersionErasure, ...]
    files: tuple[str, ...]
    readers: tuple[str, ...]
    blockers: tuple[str, ...]
    backups: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """As lines for people."""
        return "\n".join(
            [
                f"{self.keys:,} keys of space {self.space!r}, {self.keys_missing:,} of them not "
                "stored",
                *map(version_line, self.versions),
                *(f"file {path}" for path in self.files),
                *(f"a reader process holds {path}" for path in self.readers),
                *(f"refused: {blocker}" for blocker in self.blockers),
                *(f"backups in {place} are not erased from" for place in self.backups),
                *hidden_lines(self.hidden),
            ]
        )


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that an erasure wrote or removed.

    Attributes:
        path: Below the hub's directory.
        bytes: Its size.
        crc32c: The CRC-32C of its bytes: it tells files apart, but is no proof against forgery.
    """

    path: str
    bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What was erased. It does not have the keys: `covers()` tells whether a key was among them.

    Attributes:
        space: The space's name.
        time: When, in UTC (ISO 8601).
        salt: Random bytes as hex digits, new for each receipt.
        key_hashes: Per key the SHA-256 of the salt and the key, in order of the hashes. Whoever has
            the receipt can try out keys: keep it as you would keep a list of people.
        keys_missing: How many of the keys no version had any row of.
        versions: What was removed from each version.
        written: The files that took the place of others, and the manifest.
        removed: The files that are gone, logs among them.
        held: Files that are still there because reader processes hold them; they go when these
            refresh, close or end: `Hub.finish_erasures()` tells when.
        backups: Where the hub was backed up to, as far as it knows: a backup that was made before
            `time` still has the keys.
        hidden: Of a server: which of "held" and "backups" have something that only admins of the
            hub are told, and that is left out here.
        complete: Whether nothing is held. Backups do not count.
    """

    space: str
    time: str
    salt: str
    key_hashes: tuple[str, ...]
    keys_missing: int
    versions: tuple[VersionErasure, ...]
    written: tuple[FileRecord, ...]
    removed: tuple[FileRecord, ...]
    held: tuple[str, ...]
    backups: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether no file of the hub from before is left."""
        return not self.held and "held" not in self.hidden

    @property
    def logs_removed(self) -> int:
        """How many logs were removed."""
        return sum(record.path.startswith("wal/") for record in self.removed)

    def covers(self, key: Key) -> bool:
        """Whether the key was one of those to be erased."""
        return hash_of(self.salt, key) in self.key_hashes

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self) | {"complete": self.complete, "logs_removed": self.logs_removed}

    def __str__(self) -> str:
        """As lines for people."""
        state = "complete" if self.complete else "files of before are still held by readers"
        return "\n".join(
            [
                f"erased {len(self.key_hashes):,} keys of space {self.space!r} at {self.time}, "
                f"{self.keys_missing:,} of them not stored: {state}",
                *map(version_line, self.versions),
                *(file_line("wrote", record) for record in self.written),
                *(file_line("removed", record) for record in self.removed),
                *(f"held {path}" for path in self.held),
                *(
                    f"backups in {place} still have the keys: back up again, then ehub "
                    f"prune-backups {place} --made-before {self.time}"
                    for place in self.backups
                ),
                *hidden_lines(self.hidden),
            ]
        )


HIDDEN_LINES = {
    "readers": "reader processes hold manifests",
    "held": "reader processes hold files of before",
    "backups": "there are backups, which are not erased from",
}


def hidden_lines(fields: tuple[str, ...]) -> list[str]:
    """That there is something which is not told, for people."""
    return [f"{HIDDEN_LINES[name]}: admins of the hub are told which" for name in fields]


def version_line(version: VersionErasure) -> str:
    """A version, for people."""
    tags = f", in tags {', '.join(version.tags)}" if version.tags else ""
    name = version.version.replace(names.HIDDEN, "hidden ")
    return f"version {name}: {version.rows:,} rows, {version.rows_live:,} of them live{tags}"


def file_line(what: str, record: FileRecord) -> str:
    """A file, for people."""
    return f"{what} {record.path}: {record.bytes:,} bytes, crc32c {record.crc32c:08x}"


def hash_of(salt: str, key: Key) -> str:
    """What a receipt says in place of a key."""
    raw = key.encode() if isinstance(key, str) else int(key).to_bytes(8, "little", signed=True)
    return hashlib.sha256(bytes.fromhex(salt) + raw).hexdigest()


def hashes_of(salt: str, keys: Typed) -> tuple[str, ...]:
    """What a receipt says in place of all keys."""
    return tuple(sorted(hash_of(salt, key) for listed in keys.values() for key in listed))


# --- what is stored ---


def keys_by_type(keys: Any, space: str) -> Typed:
    """The keys that were given, by their type; an InvalidKeyError if one is of neither."""
    if isinstance(keys, (str, bytes, Mapping)) or not isinstance(keys, Iterable):
        raise TypeError(f"keys is {keys!r:.100}; expected a list or an array of keys")
    found: Typed = {"str": [], "int": []}
    for key in keys.tolist() if hasattr(keys, "tolist") else keys:
        found["str" if isinstance(key, str) else "int"].append(key)
    for kind, listed in found.items():
        _arrays.as_keys(listed, kind, space)
        found[kind] = list(dict.fromkeys(key if kind == "str" else int(key) for key in listed))
    return found


def require_kinds(tables: list[_store.Table], keys: Typed) -> None:
    """An InvalidKeyError if no version has keys of a type that was given."""
    kinds = {table.key_type for table in tables if not table.version.startswith(names.HIDDEN)}
    for kind, listed in keys.items():
        if listed and kind not in kinds:
            raise InvalidKeyError(
                f"{listed[0]!r:.100} is no key of space {tables[0].space!r}: its versions have "
                f"{' and '.join(sorted(kinds))} keys"
            )


class Targets:
    """The rows of a space that erasing some keys is about, version by version."""

    def __init__(self, hub: Hub, space: str, keys: Any) -> None:
        self.hub = hub
        hub._store.get_space(space)  # a NotFoundError if it is gone
        self.tables = hub._store.versions(space)
        self.keys = keys_by_type(keys, space)
        require_kinds(self.tables, self.keys)
        self.averages = list(averages_of(hub, self.tables))
        self._of_averages = self._keys_of_averages()

    def _keys_of_averages(self) -> dict[int, list[Key]]:
        """Memberships of the keys, and the groups that have or had one: their means, too."""
        found: dict[int, list[Key]] = {}
        for average in self.averages:
            group_type = average.means.key_type
            members = set(map(str, self.keys[average.base.key_type]))
            groups = set(map(str, self.keys[group_type]))
            rows: list[Key] = []
            touched = dict.fromkeys(self.keys[group_type])
            means, memberships, stamps = average.hidden
            for row in average.stored_pairs():
                group, member = pair_of(row)
                if member in members or group in groups:
                    rows.append(row)
                    touched[int(group) if group_type == "int" else group] = None
            found[memberships.id] = rows
            found[means.id] = found[stamps.id] = list(touched)
        return found

    def __iter__(self) -> Iterator[tuple[_store.Table, _store.Keys, bool]]:
        """Each version with its own keys, and whether its dead rows may tell of them, too."""
        for table in self.tables:
            keys = self._of_averages.get(table.id, self.keys[table.key_type])
            packed = _arrays.as_keys(keys, table.key_type, table.space)
            yield table, packed, table.version.startswith(names.HIDDEN)

    def missing(self) -> int:
        """How many keys no version has."""
        missing = 0
        for kind, keys in self.keys.items():
            tables = [table for table in self.tables if table.key_type == kind]
            packed = _arrays.as_keys(keys, kind, self.tables[0].space)
            missing += _store.missing_keys(self.hub._store, tables, packed)
        return missing


def averages_of(hub: Hub, tables: list[_store.Table]) -> Iterator[KeptAverage]:
    """The named averages of a space."""
    for table in tables:
        for name in names.read_all(hub._store, names.notes_of_averages(table)):
            yield kept_average(hub, table, name)


@contextmanager
def held_still(targets: Targets) -> Iterator[None]:
    """Averages and local copies that neither change nor hold a time of a version meanwhile."""
    with ExitStack() as stack:
        for copy in targets.hub._copies:
            copy._forget()
        for average in targets.averages:
            stack.enter_context(average.lock)
            average.forget()
        yield


# --- the calls ---


def plan_erasure(hub: Hub, space: str, keys: Any) -> ErasurePlan:
    """`Space.erasure_plan()`."""
    with hub._names_lock:
        targets = Targets(hub, space, keys)
        if not hub.read_only:
            with held_still(targets):
                return plan_of(targets, space)
        return plan_of(targets, space)


def plan_of(targets: Targets, space: str) -> ErasurePlan:
    """What is found now."""
    root = Path(targets.hub.path)
    versions, segments = [], set()
    for table, keys, _ in targets:
        rows, live, tags, snapshots, ids = _store.stored_rows(table, keys)
        if rows or snapshots:
            versions.append(VersionErasure(table.version, rows, live, tuple(tags), snapshots))
        segments.update(ids)
    blockers = [
        f"version {version.version!r} has {version.snapshots} open "
        f"{'snapshot: close it' if version.snapshots == 1 else 'snapshots: close them'}"
        for version in versions
        if version.snapshots
    ]
    if (root / LOST_AND_FOUND).exists():
        blockers.append(f"{LOST_AND_FOUND} has files of before a repair: remove it")
    if targets.hub.read_only:
        blockers.append(READS_ONLY)
    readers = [] if targets.hub.read_only else _store.held_manifests(targets.hub._store)
    return ErasurePlan(
        space,
        sum(map(len, targets.keys.values())),
        targets.missing(),
        tuple(version for version in versions if version.rows),
        tuple(files_with(root, segments)),
        tuple(readers),
        tuple(blockers),
        tuple(noted.places(targets.hub.path)),
    )


def files_with(root: Path, segments: set[int]) -> list[str]:
    """The files of segments, and all logs."""
    found = [path for path in (root / "wal").glob("*.log")]
    for number in sorted(segments):
        for directory in ("segments", "index"):
            found += (root / directory).glob(f"{number:012d}.*")
    return sorted(path.relative_to(root).as_posix() for path in found)


def as_seconds(wait: object) -> float:
    """How long to wait."""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        raise TypeError(f"wait is {wait!r:.100}; expected seconds")
    if not wait >= 0:
        raise InvalidArgumentError(f"wait is {wait}; expected 0 or more")
    return float(wait)


def always() -> bool:
    """Yes."""
    return True


def finish_erasures(
    hub: Hub, wait: float, is_awaited: Callable[[], bool] = always
) -> tuple[list[tuple[str, int, int]], list[str]]:
    """The files removed now, of those that readers held, and those that they still hold.

    Args:
        hub: The hub.
        wait: For how many seconds to wait for readers.
        is_awaited: Whether to wait on; asked again and again.
    """
    deadline = time.monotonic() + as_seconds(wait)
    removed = []
    while True:
        _, _, more, held, done = _store.finish_erasure(hub._store)
        removed += more
        if done or time.monotonic() >= deadline or not is_awaited():
            return removed, held
        time.sleep(POLL_SECONDS)


def erase_keys(
    hub: Hub,
    space: str,
    keys: Any,
    wait: float,
    *,
    notes: Callable[[], dict[str, str | None]] = dict,
    is_awaited: Callable[[], bool] = always,
) -> ErasureReceipt:
    """`Space.erase()`. What fails in it has erased nothing.

    Args:
        hub: The hub.
        space: The space's name.
        keys: Of either type.
        wait: For how many seconds to wait for readers.
        notes: What is noted in the same step as the erasure itself, asked for just before it.
        is_awaited: Whether to wait on for readers; asked again and again.
    """
    deadline = time.monotonic() + as_seconds(wait)
    with hub._names_lock:
        targets = Targets(hub, space, keys)
        if (Path(hub.path) / LOST_AND_FOUND).exists():
            raise ConflictError(
                f"{LOST_AND_FOUND} in hub {hub.path!r} has files of before a repair, which may "
                "have the keys, too; remove it first"
            )
        with held_still(targets):
            missing = targets.missing()
            parts = list(targets)
            found, written, removed, held, done = _store.erase(hub._store, parts, notes())
            for average in targets.averages:
                with suppress(EhubError):  # else the next to read makes them
                    average.refresh()
    if not done:
        with suppress(EhubError):  # it is erased, and the next checkpoint goes on
            left = max(0.0, deadline - time.monotonic())
            more, held = finish_erasures(hub, left, is_awaited)
            removed += more
    salt = secrets.token_hex(SALT_BYTES)
    versions = [
        VersionErasure(table.version, rows, live, tuple(tags), snapshots)
        for (table, _, _), (rows, live, tags, snapshots, _) in zip(parts, found, strict=True)
        if rows
    ]
    return ErasureReceipt(
        space,
        names.now(),
        salt,
        hashes_of(salt, targets.keys),
        missing,
        tuple(versions),
        tuple(FileRecord(*record) for record in written),
        tuple(FileRecord(*record) for record in removed),
        tuple(held),
        tuple(noted.places(hub.path)),
    )
