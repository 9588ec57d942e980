"""Hidden versions of a space: where named averages and sub-indices keep their rows.

Their names begin with NUL, and say of which version they are a part, by its id: ids and numbers are
never used again. A note names what they belong to (names.py); what no note names is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ehub import names
from ehub._native import _store
from ehub.errors import NotFoundError

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["AVERAGE_PARTS", "KEYS", "drop_unnamed", "name_of_part", "next_number"]

AVERAGE_PARTS = ("means", "members", "stamps")
KEYS = "keys"  # of a sub-index


def name_of_part(base: _store.Table, number: int, part: str) -> str:
    """The hidden version that a part of an average or a sub-index of `base` is."""
    return f"{names.HIDDEN}{base.id}/{number}/{part}"


def next_number(base: _store.Table) -> int:
    """A number that no part of the version has, nor what is left of such.

    A NotFoundError if the version is deleted: a note that it has a part would be taken for one of
    the next version of its name.
    """
    begin = f"{names.HIDDEN}{base.id}/"
    tables = base.store.versions(base.space)
    if all(table.id != base.id for table in tables):
        raise NotFoundError(f"version {base.version!r} of space {base.space!r} was deleted")
    taken = [
        int(table.version.split("/")[1]) for table in tables if table.version.startswith(begin)
    ]
    return 1 + max(taken, default=0)


def drop_unnamed(hub: Hub, space: str) -> None:
    """Drop the hidden versions of a space that nothing has: deleted ones', what a crash left."""
    tables = hub._store.versions(space)
    named = {name for table in tables for name in parts_of(table)}
    for table in tables:
        if table.version.startswith(names.HIDDEN) and table.version not in named:
            hub._averages.pop(table.id, None)
            hub._conditions.pop(table.id, None)
            table.drop()


def parts_of(base: _store.Table) -> Iterator[str]:
    """The hidden versions that the notes of a version name."""
    averages, subindices = names.notes_of_averages(base), names.notes_of_subindices(base)
    for name, note in names.read_all(base.store, averages).items():
        number = names.value_of(averages + name, note, "number", int)
        yield from (name_of_part(base, number, part) for part in AVERAGE_PARTS)
    for name, note in names.read_all(base.store, subindices).items():
        number = names.value_of(subindices + name, note, "number", int)
        yield name_of_part(base, number, KEYS)
