"""A snapshot: a version at one point in time, read in place; and tags, its lasting names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ehub._native import _store
from ehub.closing import Closing
from ehub.view import View

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.version import Version

__all__ = ["Snapshot", "Tag", "opened_at"]

# What a recorded snapshot without a name is called: this and a number.
UNNAMED = "@"

# The hubs that this process has open to read what came from other processes, by their directories.
_readers: WeakValueDictionary[str, Hub] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Tag:
    """The name of a point in time.

    Args:
        name: Unique within its version; that of a recorded snapshot without a name is "@" and a
            number.
        seq: The last batch that it shows.
        created: When, in UTC (ISO 8601).
        created_by: Who.
        message: Why.
        labels: Strings by name.
    """

    name: str
    seq: int
    created: str = ""
    created_by: str = ""
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_named(self) -> bool:
        """Whether somebody gave it a name: only those without one expire."""
        return not self.name.startswith(UNNAMED)


class Snapshot(Closing, View):
    """A version as it was at one time; it never changes, and is searched with the index.

    It comes from `snapshot()` or `at()`, and holds what it shows until it is closed: the rows stay
    on disk, however they are overwritten, compacted or restored meanwhile. What a process held is
    let go when it ends. Use it in a `with` statement, or `close()` it.

    One that a tag names can be pickled: another process gets the same rows, which it reads from the
    files of the hub, opened with `read_only=True`.
    """

    __slots__ = ("_held", "_tag", "_version")

    def __init__(self, version: Version, held: _store.Snapshot, tag: Tag | None) -> None:
        self._version = version
        self._table = version._table
        self._held = held
        self._tag = tag

    def _now(self) -> _store.View:
        return self._held.view()

    @property
    def version(self) -> Version:
        """The version that it is of."""
        return self._version

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The hub's directory, the space, the version and the tag: what another process needs."""
        assert self._tag is not None
        return self._version.hub.path, self._table.space, self._table.version, self._tag.name

    @property
    def tag(self) -> Tag | None:
        """The tag that it was asked for by, or was recorded under."""
        return self._tag

    @property
    def seq(self) -> int:
        """The last batch that it shows."""
        return self._held.view().seq

    @property
    def time_name(self) -> str:
        """What to call its time in a text: its tag, or its batch."""
        return f"batch {self.seq}" if self._tag is None else self._tag.name

    @property
    def closed(self) -> bool:
        """Whether it holds nothing any more."""
        return self._held.closed

    def close(self) -> None:
        """Let go of the rows. Closing twice is fine."""
        self._held.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"seq={self.seq}"
        name = "" if self._tag is None else f" {self._tag.name!r}"
        return f"<ehub.Snapshot{name} of {self._table.space!r}/{self._table.version!r} {state}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str, str, str]]:
        if self._tag is None or not isinstance(self._table, _store.Table):
            raise TypeError(
                "a Snapshot cannot be pickled unless it is of a tag and of a hub in a directory: "
                "tag it, and pickle at(tag), or open its hub where you need it"
            )
        return opened_at, self.place


def opened_at(path: str, space: str, version: str, tag: str) -> Snapshot:
    """The rows of a tag in a hub that this process opens to read, or has open already."""
    hub = _readers.get(path)
    if hub is None or hub.closed:
        from ehub.hub import open as open_hub  # it offers what is here

        _readers[path] = hub = open_hub(path, read_only=True)
    else:
        hub.refresh()
    return hub.get_space(space).version(version).at(tag)
