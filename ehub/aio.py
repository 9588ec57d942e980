"""A hub on a server, for asyncio: the names of embedded use, awaited. Needs `ehub[server]`.

    import ehub.aio

    async with await ehub.aio.connect("localhost:7462") as hub:
        items = await hub.get_space("items")
        await items.multiset(keys, vectors)
        await items.nearest_neighbors(10, vector=query)
        async for keys, vectors in items.scan():
            ...

Each class here has the methods of its namesake in `ehub`, with the same signatures, as coroutines.
What is iterated there is an asynchronous iterator here, and `multiset()` takes one, too. Properties
that the server is asked for (`current`, `model`, `lineage`, `created`, `frozen`, `read_only`) are
awaited. In place of what cannot be awaited: `await items.count()` for `len(items)`, `await
items.contains(key)` for `key in items`, `get`, `set` and `delete` for brackets.
`to_arrow_batches()` gives the record batches themselves. `compare()`, `drift()` and `align()` here
are those of `ehub` for what is on a server; while they compute, the event loop waits.

`download_snapshot()` is a `LocalCopy`: a hub of this process, which is read and written as embedded
ones are, without awaiting.

All of it belongs to the event loop that it was made on. A cancelled task cancels its call; searches
of several tasks may share one, and go on without it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ehub import comparison as _comparison
from ehub import hub as _hub
from ehub import local_copy as _local_copy
from ehub import migration as _migration
from ehub import named_average as _named_average
from ehub import partition as _partition
from ehub import snapshot as _snapshot
from ehub import space as _space
from ehub import subindex as _subindex
from ehub import version as _version
from ehub.errors import UnavailableError
from ehub.view import BATCH_ROWS

if TYPE_CHECKING:
    import pyarrow as pa

    from ehub.client.transport import ClientTls

try:
    from ehub.client.aio_transport import AioTransport
    from ehub.client.bridge import iterate, iterated, run
    from ehub.client.connection import connected, options_for
except ImportError as error:
    raise UnavailableError(
        f"a hub on a server needs the extra: pip install 'ehub[server]' ({error})"
    ) from error

__all__ = [
    "Averages",
    "Hub",
    "LocalCopy",
    "Migration",
    "Partition",
    "Snapshot",
    "Space",
    "SubIndex",
    "Version",
    "align",
    "compare",
    "connect",
    "drift",
]

# Properties for which the server is asked.
ASKED = frozenset({"created", "current", "frozen", "lineage", "model", "read_only"})
# Methods whose answer is iterated.
ITERATED = frozenset({"iterator", "missing", "scan"})
# Methods that are written here, because what they return is something else.
OWN = frozenset({"download_snapshot", "get_space", "to_arrow_batches"})


async def connect(
    address: str,
    *,
    token: str | None = None,
    tls: ClientTls | bool | None = None,
    timeout_seconds: float | None = None,
    retry_seconds: float = 5.0,
) -> Hub:
    """The hub on the server at "host:port", for the running event loop: as `ehub.connect()`."""
    options = options_for(address, token, tls, timeout_seconds, retry_seconds)
    hub: Hub = wrapped(await run(connected, options, AioTransport(options)))
    return hub


class Mirror:
    """Something of a server, awaited."""

    __slots__ = ("_waits",)

    def __init__(self, waits: Any) -> None:
        self._waits = waits

    def __repr__(self) -> str:
        return repr(self._waits).replace("<ehub.", "<ehub.aio.", 1)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: connect where you need it")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mirror) and self._waits == other._waits

    def __hash__(self) -> int:
        return hash(self._waits)


class View(Mirror):
    """What can be read."""

    __slots__ = ()

    async def count(self) -> int:
        """How many rows."""
        return await run(len, self._waits)

    async def contains(self, key: object) -> bool:
        """Whether a key is there."""
        return await run(lambda: key in self._waits)

    def __aiter__(self) -> AsyncIterator[Any]:
        return iterate(lambda: iter(self._waits))

    async def download_snapshot(self, *, progress: bool = False) -> LocalCopy:
        """The rows as they are now in a hub of this process: `ehub.View.download_snapshot()`."""
        return await run(_local_copy.copy_of, self._waits, LocalCopy, progress)

    def to_arrow_batches(
        self, batch_rows: int = BATCH_ROWS, *, progress: bool = False
    ) -> AsyncIterator[pa.RecordBatch]:
        """All rows as Arrow record batches; a reader of Arrow's own could not await them."""
        return iterate(lambda: self._waits._record_batches(batch_rows, progress)[1])


class LocalCopy(_local_copy.LocalCopy):
    """`ehub.LocalCopy` of what is on a server.

    What reaches the server is awaited: `refresh()`, `write_to_space()` and `overwrite_space()`. All
    else is done at once, in this process, as with an embedded space; also `close()`.
    """

    __slots__ = ("_refreshes", "_turn")

    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self._refreshes: set[asyncio.Future[None]] = set()  # an event loop itself holds none
        self._turn = asyncio.Lock()  # one refresh at a time

    @property
    def source(self) -> Any:
        """What it is a copy of, awaited."""
        return wrapped(self._source)

    # Another type than in the base, on purpose: what reaches the server is awaited.

    async def refresh(  # type: ignore[override]
        self, wait: bool = True, *, progress: bool = False
    ) -> asyncio.Future[None]:
        """Make it what its source is now, all rows; what was written to it goes.

        Who reads meanwhile sees the rows from before, and then all new ones.

        Args:
            wait: Return when it is done; else at once, and what is returned is awaited for its end.
            progress: Show a bar if standard error is a terminal.
        """
        done = asyncio.ensure_future(self._refreshed(progress))
        self._refreshes.add(done)
        done.add_done_callback(self._refreshes.discard)
        if wait:
            await done
        return done

    async def _refreshed(self, progress: bool) -> None:
        async with self._turn:
            await run(self._fetch, progress)

    async def write_to_space(  # type: ignore[override]
        self, name: str, create: bool = False, *, progress: bool = False
    ) -> int:
        """Write every row to a space of the server: `ehub.LocalCopy.write_to_space()`."""
        return await run(super().write_to_space, name, create, progress=progress)

    async def overwrite_space(  # type: ignore[override]
        self, name: str, *, progress: bool = False
    ) -> int:
        """Make the rows of a space of the server what they are here; returns how many.

        All rows go there, in batches, and then the deletes of those that are not here.
        """
        return await run(super().overwrite_space, name, progress=progress)

    async def __aenter__(self) -> LocalCopy:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


class Closing(Mirror):
    """What is closed at the end of an `async with` block."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await run(self._waits.close)


class Hub(Closing):
    """`ehub.Hub`, awaited."""

    __slots__ = ()

    async def contains(self, name: object) -> bool:
        """Whether there is a space of that name."""
        return await run(lambda: name in self._waits)

    async def get_space(
        self, name: str, download_snapshot: bool = False, *, progress: bool = False
    ) -> Space | LocalCopy:
        """The space of that name; a NotFoundError if there is none.

        With `download_snapshot`, a local copy of it: `Space.download_snapshot()`, which shows
        `progress` if that is wanted.
        """
        space: Space = wrapped(await run(self._waits.get_space, name))
        return await space.download_snapshot(progress=progress) if download_snapshot else space


class Version(View):
    """`ehub.Version`, awaited."""

    __slots__ = ()


class Space(Version):
    """`ehub.Space`, awaited."""

    __slots__ = ()


class Partition(View):
    """`ehub.Partition`, awaited."""

    __slots__ = ()


class SubIndex(View):
    """`ehub.SubIndex`, awaited."""

    __slots__ = ()


class Averages(View):
    """`ehub.Averages`, awaited."""

    __slots__ = ()


class Snapshot(View, Closing):
    """`ehub.Snapshot`, awaited."""

    __slots__ = ()


class Migration(Mirror):
    """`ehub.Migration`, awaited."""

    __slots__ = ()


# By class of embedded use, the more special ones first.
MIRRORS: list[tuple[type[Any], type[Mirror]]] = [
    (_hub.Hub, Hub),
    (_space.Space, Space),
    (_version.Version, Version),
    (_snapshot.Snapshot, Snapshot),
    (_partition.Partition, Partition),
    (_subindex.SubIndex, SubIndex),
    (_named_average.Averages, Averages),
    (_migration.Migration, Migration),
]


def wrapped(value: Any) -> Any:
    """What a method returned, awaited from now on."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map(wrapped, value))
    if isinstance(value, _local_copy.LocalCopy):
        return value
    for kind, mirror in MIRRORS:
        if isinstance(value, kind):
            return mirror(value)
    return value


def unwrapped(value: Any) -> Any:
    """What a method was given, as embedded use has it."""
    if isinstance(value, Mirror):
        return value._waits
    if type(value) in (list, tuple) and any(isinstance(one, Mirror) for one in value):
        return type(value)(map(unwrapped, value))
    if isinstance(value, AsyncIterable):
        return iterated(value)
    return value


def given(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """All that a method was given."""
    return list(map(unwrapped, args)), {name: unwrapped(one) for name, one in options.items()}


def of_views(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function of views as a coroutine."""

    @functools.wraps(call)
    async def awaiting(*args: Any, **options: Any) -> Any:
        plain, named = given(args, options)
        return await run(call, *plain, **named)

    return awaiting


align = of_views(_comparison.align)
compare = of_views(_comparison.compare)
drift = of_views(_comparison.drift)


def awaited(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A method as a coroutine."""

    @functools.wraps(call)
    async def method(self: Mirror, *args: Any, **options: Any) -> Any:
        plain, named = given(args, options)
        return wrapped(await run(getattr(self._waits, name), *plain, **named))

    return method


def stepped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose answer is iterated."""

    @functools.wraps(call)
    def method(self: Mirror, *args: Any, **options: Any) -> AsyncIterator[Any]:
        plain, named = given(args, options)
        return iterate(lambda: getattr(self._waits, name)(*plain, **named))

    return method


def asked(name: str, documentation: str | None) -> property:
    """A property for which the server is asked."""

    async def ask(self: Mirror) -> Any:
        return wrapped(await run(getattr, self._waits, name))

    return property(ask, doc=documentation)


def known(name: str, documentation: str | None) -> property:
    """A property that is known here."""
    return property(lambda self: wrapped(getattr(self._waits, name)), doc=documentation)


def fill(mirror: type[Mirror], kind: type[Any]) -> None:
    """Give a mirror the public methods and properties of a class."""
    for name, member in inspect.getmembers(kind):
        if name.startswith("_") or name in OWN:
            continue
        if isinstance(member, property):
            make = asked if name in ASKED else known
            setattr(mirror, name, make(name, member.__doc__))
        elif inspect.isfunction(member):
            setattr(mirror, name, (stepped if name in ITERATED else awaited)(name, member))


for _kind, _mirror in MIRRORS:
    fill(_mirror, _kind)
