"""What a hub keeps about names: aliases, models, lineage, the messages of tags.

The engine knows versions and tags, and keeps notes for the layers above: text under names. Here is
which notes there are, as JSON:

    space/<space>                        aliases, each with its history
    version/<n>/<space>/<version>        model and lineage of a version
    tag/<n>/<space>/<m>/<version>/<tag>  who made a tag of a version, when and why
    average/<n>/<space>/<m>/<version>/<name>  a named average of a version
    subindex/<n>/<space>/<m>/<version>/<name>  a sub-index of a version
    access/...                          keys and grants (access/access.py)

n and m are the lengths of the names behind them, because names may hold any character.

Versions whose names begin with NUL are hidden: what named averages and sub-indices are made of
(hidden.py).

A change of notes is one atomic batch, together with what it is about. There is one writer process;
its threads take turns by the hub's `names_lock` when they read, check and write.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar, cast

from ehub._native import _store
from ehub.errors import CorruptionError, ExistsError, InvalidArgumentError

__all__ = [
    "DEFAULT",
    "HIDDEN",
    "SUBINDEX",
    "as_name",
    "as_text",
    "note_of_average",
    "note_of_space",
    "note_of_subindex",
    "note_of_tag",
    "note_of_version",
    "notes_of_averages",
    "notes_of_subindices",
    "now",
    "read",
    "read_all",
    "require_no_alias",
    "understood",
    "user",
    "value_of",
    "without_space",
    "without_version",
    "written",
]

Made = TypeVar("Made")

NAME_BYTES_MAX = 255

# The alias that every space has.
DEFAULT = "default"

# What the names of hidden versions begin with.
HIDDEN = "\0"

# What the notes of sub-indices begin with.
SUBINDEX = "subindex/"


def note_of_space(space: str) -> str:
    """The note of a space."""
    return f"space/{space}"


def note_of_version(space: str, version: str) -> str:
    """The note of a version."""
    return f"version/{len(space)}/{space}/{version}"


def notes_of_tags(table: _store.Table) -> str:
    """What the notes of a version's tags begin with."""
    space, version = table.space, table.version
    return f"tag/{len(space)}/{space}/{len(version)}/{version}/"


def note_of_tag(table: _store.Table, tag: str) -> str:
    """The note of a tag."""
    return notes_of_tags(table) + tag


def notes_of_averages(table: _store.Table) -> str:
    """What the notes of a version's named averages begin with."""
    space, version = table.space, table.version
    return f"average/{len(space)}/{space}/{len(version)}/{version}/"


def note_of_average(table: _store.Table, name: str) -> str:
    """The note of a named average."""
    return notes_of_averages(table) + name


def notes_of_subindices(table: _store.Table) -> str:
    """What the notes of a version's sub-indices begin with."""
    space, version = table.space, table.version
    return f"{SUBINDEX}{len(space)}/{space}/{len(version)}/{version}/"


def note_of_subindex(table: _store.Table, name: str) -> str:
    """The note of a sub-index."""
    return notes_of_subindices(table) + name


def read(store: _store.Store, name: str) -> dict[str, Any]:
    """What a note says; nothing if there is none."""
    text = store.note(name)
    return {} if text is None else parsed(name, text)


def read_all(store: _store.Store, prefix: str) -> dict[str, dict[str, Any]]:
    """What the notes under a prefix say, by the rest of their names."""
    found = store.notes(prefix)
    return {name[len(prefix) :]: parsed(name, text) for name, text in found.items()}


def parsed(name: str, text: str) -> dict[str, Any]:
    """What the text of a note says; a CorruptionError if nobody can have written it so."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CorruptionError(f"the hub's note {name!r:.300} is no JSON object: {text!r:.100}")
    return cast("dict[str, Any]", values)


def understood(note: str, make: Callable[[], Made]) -> Made:
    """What `make` makes of a note's values; a CorruptionError if they are not what it needs."""
    try:
        return make()
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # refused values, too
        raise CorruptionError(f"the hub's note {note!r:.300} is not as written: {error}") from None


def value_of(note: str, values: dict[str, Any], name: str, kind: type[Made]) -> Made:
    """One value of a note; a CorruptionError if it is missing or of another kind."""
    value = values.get(name)
    if type(value) is not kind:
        raise CorruptionError(
            f"the hub's note {note!r:.300} has {value!r:.100} as {name}; expected "
            f"{kind.__name__}, as it was written"
        )
    return value


def written(values: dict[str, Any]) -> str:
    """A note's text."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def without_version(store: _store.Store, table: _store.Table) -> dict[str, str | None]:
    """The changes that remove every note of a version."""
    note = note_of_version(table.space, table.version)
    prefixes = notes_of_tags(table), notes_of_averages(table), notes_of_subindices(table)
    return dict.fromkeys([note, *(name for prefix in prefixes for name in store.notes(prefix))])


def without_space(store: _store.Store, space: str) -> dict[str, str | None]:
    """The changes that remove every note of a space."""
    changes: dict[str, str | None] = {note_of_space(space): None}
    for table in store.versions(space):
        changes |= without_version(store, table)
    return changes


def require_str(name: object, what: str) -> str:
    """Refuse what is no name of anything."""
    if not isinstance(name, str):
        raise TypeError(f"the name of {what} is {name!r:.100}; expected a str")
    return name


def as_name(given: object, what: str) -> str:
    """A name of something."""
    name = require_str(given, what)
    as_text(name, f"the name of {what}")
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise InvalidArgumentError(
            f"the name of {what} is {name!r:.100}; expected 1 to {NAME_BYTES_MAX} bytes"
        )
    if name.startswith(HIDDEN):
        raise InvalidArgumentError(
            f"the name of {what} is {name!r:.100}; those that begin with NUL are the hub's own"
        )
    return name


def as_text(value: object, what: str) -> str:
    """A text for people; it may be empty."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r:.100}; expected a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} is {value!r:.100}, which is no text: {error}") from None
    return value


def require_no_alias(store: _store.Store, space: str, version: str) -> None:
    """Refuse a version's name that is an alias: nobody could ask for that version."""
    note = note_of_space(space)
    noted = read(store, note)
    if version == DEFAULT or (
        "aliases" in noted and version in value_of(note, noted, "aliases", dict)
    ):
        raise ExistsError(f"{version!r} is the name of an alias of space {space!r}")


def now() -> str:
    """The time, in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def user() -> str:
    """Who runs this process, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return ""
