"""A space: versions of one kind of thing under one name, and the names that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ehub import _arrays, names
from ehub._native import _store
from ehub._watching import rewriting
from ehub.aliases import Aliases
from ehub.alignment import Alignment
from ehub.comparison import Comparison, align, compare
from ehub.erasure import ErasurePlan, ErasureReceipt, erase_keys, plan_erasure
from ehub.errors import ConflictError, InvalidArgumentError, NotFoundError
from ehub.hidden import drop_unnamed
from ehub.migration import Migration
from ehub.model import DIMS_MAX, Lineage, Model, as_labels, as_model
from ehub.types import KeyType, Metric
from ehub.version import LOCATED, Part, Version

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["Space"]

Method = TypeVar("Method", bound=Callable[..., Any])


def resolved(method: Method) -> Method:
    """A method of the version that "default" leads to when it is called, until it returns."""

    @wraps(method)
    def call(space: Space, *arguments: Any, **options: Any) -> Any:
        return method(space._as_version(), *arguments, **options)

    return cast("Method", call)


class Space(Aliases, Version):
    """Embeddings of one kind of thing, under unique keys, in one version or several.

    A space comes from `Hub.create_space()` or `Hub.get_space()`, and begins with the version
    "initial". It reads and writes like a version: the one that its alias "default" names, whichever
    that is at the time of the call. `version()` gives a certain one.
    """

    __slots__ = ("_name", "_resolved")

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self._name = name
        self._default()

    def _default(self) -> _store.Table:
        """The version that counts now."""
        store = self._hub._store
        # Asked before it is read, so that a change in between is seen the next time.
        seen = store.names_changes
        version = self._default_version()
        table = (
            store.get_space(self._name)
            if version is None
            else store.get_version(self._name, version, as_space=True)
        )
        # One value, so that threads that ask at once cannot mix their answers.
        self._resolved = (seen, table)
        return table

    @property
    def _table(self) -> _store.Table:  # type: ignore[override]
        seen, table = self._resolved
        return table if seen == self._hub._store.names_changes else self._default()

    @property
    def name(self) -> str:
        """The space's name."""
        return self._name

    @property
    def current(self) -> Version:
        """The version that the space reads and writes now."""
        version = self._table.version
        return Version(self._hub, self._hub._store.get_version(self._name, version))

    def _as_version(self) -> Version:
        """The same; its errors name the space, which is what was asked."""
        return Version(self._hub, self._table)

    # --- versions ---

    def create_version(
        self,
        name: str,
        *,
        dims: int | None = None,
        metric: Metric | None = None,
        key_type: KeyType | None = None,
        model: Model | None = None,
        parent: str | None = None,
        created_by: str | None = None,
        run_id: str = "",
        code: str = "",
        data: str = "",
        labels: Mapping[str, str] | None = None,
        M: int = 24,
        ef_construction: int = 100,
        ef: int | None = None,
        target_recall: float = 0.95,
    ) -> Version:
        """Make a further version, without rows; an ExistsError if there is one of that name.

        What is not given is as the model says, or else as the version behind "default" has it.

        Args:
            name: Up to 255 bytes.
            dims: How many numbers a vector has.
            metric: "cosine", "l2" or "ip".
            key_type: "str" or "int".
            model: The model that makes its vectors.
            parent: The version that it follows; by default the one behind "default".
            created_by: Who; by default the user of this process.
            run_id: The run that makes its vectors.
            code: Where that run's code is.
            data: What it reads.
            labels: Strings by name.
            M: As of `Hub.create_space()`, like the others.
            ef_construction: The same.
            ef: The same.
            target_recall: The same.
        """
        base = self._table
        as_model(model)
        if parent is not None:
            self.version(parent)
        lineage = Lineage(
            parent=base.version if parent is None else parent,
            created_by=names.user() if created_by is None else created_by,
            run_id=run_id,
            code=code,
            data=data,
            labels=as_labels(labels),
        )
        width = agreed("dims", dims, None if model is None else model.dims, base.dims)
        distance = agreed("metric", metric, None if model is None else model.metric, base.metric)
        keys = base.key_type if key_type is None else key_type
        index = (M, ef_construction, ef, target_recall)
        names.as_name(name, "a version")
        with self._hub._names_lock:
            names.require_no_alias(self._hub._store, self._name, name)
            table = create(
                self._hub, self._name, name, width, distance, keys, index, model, lineage
            )
        return Version(self._hub, table)

    def version(self, name: str) -> Version:
        """The version of that name, or that an alias of that name leads to; a NotFoundError."""
        alias = self._alias_target(name)
        store = self._hub._store
        require_shown(self._name, name)
        return Version(self._hub, store.get_version(self._name, name if alias is None else alias))

    def versions(self) -> list[str]:
        """The names of all versions, oldest first."""
        self._hub._store.get_space(self._name)  # a NotFoundError if the space is gone
        tables = self._hub._store.versions(self._name)
        return [table.version for table in tables if not table.version.startswith(names.HIDDEN)]

    def delete_version(self, name: str) -> None:
        """Delete a version with all that is in it; refused while an alias leads to it.

        Recorded snapshots without a name go with it: only tags promise to stay.

        Raises:
            ConflictError: It says which aliases lead to it, or that it has tags.
        """
        with self._hub._names_lock:
            require_shown(self._name, name)
            table = self._hub._store.get_version(self._name, name)
            leading = [alias.name for alias in self.aliases().values() if alias.version == name]
            if leading:
                raise ConflictError(
                    f"version {name!r} of space {self._name!r} is what {listed(leading)} lead"
                    f"{'s' if len(leading) == 1 else ''} to; move that first"
                )
            tags = [tag.name for tag in Version(self._hub, table).tags()]
            if tags:
                raise ConflictError(
                    f"version {name!r} of space {self._name!r} has tags, which promise to keep it: "
                    f"{listed(tags)}; untag() them first"
                )
            notes = names.without_version(self._hub._store, table) | self._without_version(name)
            table.drop(notes)
            drop_unnamed(self._hub, self._name)

    # --- several versions at once ---

    def multiset(  # noqa: D417 - what is not said here is as of a version
        self,
        keys: Any,
        vectors: Any = None,
        *,
        partition: str | Iterable[str] | None = None,
        model: Model | None = None,
        **options: Any,
    ) -> int:
        """Store many rows, in the version behind "default" as `Version.multiset()` does.

        `vectors` may also be a mapping of versions (or aliases) to float32[n, dims] each: then the
        rows of all of them are one atomic batch. It goes through the log whole, so give many rows
        in parts; a hundred thousand or so at a time.

        Args:
            keys: The keys, or keys and vectors in one of the other ways.
            vectors: Anything that numpy takes for an array; or a mapping of versions to that.
            partition: The name of the partition for all rows, or a name for each.
            model: The model that made the vectors, to be checked against the version's; not with a
                mapping.
        """
        if not isinstance(vectors, Mapping):
            version = self._as_version()
            return version.multiset(keys, vectors, partition=partition, model=model, **options)
        if model is not None or options:
            unknown = ["model"] if model is not None else sorted(options)
            raise InvalidArgumentError(
                f"multiset() of several versions takes no {unknown[0]!r:.100}"
            )
        _arrays.require_order(keys)
        parts = [self._part_of(name, keys, rows, partition) for name, rows in vectors.items()]
        if not parts:
            raise InvalidArgumentError("multiset() of several versions was given none")
        _store.multiset_all(parts)
        return len(parts[0][1])

    def _part_of(self, name: str, keys: Any, vectors: Any, partition: Any) -> Part:
        version = self.version(name)
        try:
            return version._part(keys, vectors, partition)
        except LOCATED as error:
            raise type(error)(f"for version {name!r}: {error}") from error

    # What looks at the version more than once sees the same one, wherever the alias is moved
    # meanwhile.
    multidelete = resolved(Version.multidelete)
    multiget = resolved(Version.multiget)
    nearest_neighbors = resolved(Version.nearest_neighbors)
    multi_nearest_neighbors = resolved(Version.multi_nearest_neighbors)
    recommend = resolved(Version.recommend)
    average = resolved(Version.average)
    multi_average = resolved(Version.multi_average)
    kmeans = resolved(Version.kmeans)

    def migrate(self, source: str, target: str) -> Migration:
        """The way from one version to another: which keys are still to be written, and how many."""
        return Migration(self.version(source), self.version(target))

    # --- erasing ---

    def erasure_plan(self, keys: Any) -> ErasurePlan:
        """What has these keys and what stands in the way of erasing them. Changes nothing.

        Args:
            keys: A list or an array; keys that are not there are counted.
        """
        return plan_erasure(self._hub, self._name, keys)

    def erase(self, keys: Any, *, wait: float = 0.0, progress: bool = False) -> ErasureReceipt:
        """Remove keys as if they had never been: the right to be forgotten.

        They and their vectors leave every version (frozen ones, too), tag, fork and named average
        of the space, and every file of the hub. A named average's groups that had one of them are
        made anew without it; a group that is named like one goes. All of it is one change, durable
        when the call returns, that a crash either undoes or lets the next `ehub.open()` finish.

        Each segment that has one of the rows is written again, which needs room for it meanwhile
        and takes the time of writing it; its part of the index follows by itself. Reader processes
        keep the files that they read until they refresh, close or end: `receipt.held`. A key that
        is written again later, or meanwhile, is a new one.

        Args:
            keys: A list or an array; keys that are not there are counted in the receipt.
            wait: For how many seconds to wait for reader processes to let go.
            progress: Show a bar if standard error is a terminal: rows written to new segments.

        Raises:
            ConflictError: A version has open snapshots in this process, or the hub has the
                lost+found of a repair: `erasure_plan()` lists them.
            StorageError: There is no room; nothing has changed.
        """
        with rewriting(progress, self._hub._store, f"erase {self._name}"):
            return erase_keys(self._hub, self._name, keys, wait)

    # --- versions compared ---

    def compare(
        self,
        a: str,
        b: str,
        *,
        k: int = 10,
        sample: int = 2_000,
        seed: int = 0,
        exact: bool = False,
        progress: bool = False,
    ) -> Comparison:
        """How two versions differ: `ehub.compare()` of them as they are now."""
        options: dict[str, Any] = {"k": k, "sample": sample, "seed": seed, "exact": exact}
        with self.version(a).snapshot() as first, self.version(b).snapshot() as second:
            return compare(first, second, names=(a, b), progress=progress, **options)

    def align(
        self,
        source: str,
        target: str,
        *,
        k: int = 10,
        sample: int = 10_000,
        seed: int = 0,
        exact: bool = False,
        progress: bool = False,
    ) -> Alignment:
        """A map by which queries of version `source` search version `target`: `ehub.align()`."""
        options: dict[str, Any] = {"k": k, "sample": sample, "seed": seed, "exact": exact}
        with self.version(source).snapshot() as new, self.version(target).snapshot() as old:
            return align(new, old, names=(source, target), progress=progress, **options)

    def __repr__(self) -> str:
        return (
            f"<ehub.Space {self.name!r} dims={self.dims} metric={self.metric!r} "
            f"key_type={self.key_type!r}>"
        )


def require_shown(space: str, name: object) -> None:
    """Refuse the name of a hidden version, as one that there is not."""
    if isinstance(name, str) and name.startswith(names.HIDDEN):
        raise NotFoundError(f"space {space!r} has no version {name!r:.100}")


def agreed(what: str, given: Any, of_model: Any, otherwise: Any) -> Any:
    """What was given, or is the model's, or else a default; refused if the first two differ."""
    if given is not None and of_model is not None and given != of_model:
        raise InvalidArgumentError(f"{what} is {given!r:.100}, but the model's is {of_model!r}")
    if given is not None:
        return given
    return otherwise if of_model is None else of_model


def create(
    hub: Hub,
    space: str,
    version: str,
    dims: int,
    metric: Metric,
    key_type: KeyType,
    index: tuple[int, int, int | None, float],
    model: Model | None,
    lineage: Lineage,
) -> _store.Table:
    """A new version, and what is noted about it."""
    M, ef_construction, ef, target_recall = index
    if dims is None:
        raise TypeError(f"no dims for space {space!r:.100}; give dims= or model=")
    width = _arrays.as_integer(dims, "dims", 1, DIMS_MAX)
    parameters = (
        _arrays.as_integer(M, "M", 2, 512),
        _arrays.as_integer(ef_construction, "ef_construction", 2, 10_000),
        0 if ef is None else _arrays.as_integer(ef, "ef", 1, 1_000_000),
        _arrays.as_share(target_recall, "target_recall"),
    )
    described: dict[str, Any] = {"created": names.now(), "lineage": lineage.to_dict()}
    if model is not None:
        described["model"] = model.to_dict()
    note = {names.note_of_version(space, version): names.written(described)}
    with hub._names_lock:
        return hub._store.create_version(
            space, version, width, metric, key_type, *parameters, notes=note
        )


def listed(items: list[str]) -> str:
    """A few names, quoted, and how many more."""
    shown = ", ".join(repr(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
