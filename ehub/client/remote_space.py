"""A space of a server: its versions and aliases, which the server changes in one turn."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from ehub import _arrays, names
from ehub.aliases import DEFAULT, UNSAID, Alias
from ehub.client import erasing
from ehub.client.messages import alias_of, named, schema_of
from ehub.client.remote_table import RemoteTable
from ehub.client.remote_version import RemoteVersion, version_of
from ehub.erasure import ErasurePlan, ErasureReceipt
from ehub.errors import (
    DimensionError,
    InvalidArgumentError,
    InvalidKeyError,
    NotFoundError,
)
from ehub.hub import Hub
from ehub.model import Model, as_labels
from ehub.promotion import Check, as_queries, as_required
from ehub.space import Space
from ehub.types import KeyType, Metric
from ehub.version import Version
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import check_of
from ehub.wire.packing import vectors_message

__all__ = ["RemoteSpace"]


def looks_again(call: Any) -> Any:
    """The call; once more if keys or vectors did not fit what was known, and that is outdated."""

    @functools.wraps(call)
    def checked(self: RemoteSpace, *args: Any, **options: Any) -> Any:
        try:
            return call(self, *args, **options)
        except (DimensionError, InvalidKeyError):
            streams = bool(args) and isinstance(args[0], Iterator)  # half of it is gone
            if streams or not self._has_changed():
                raise
        return call(self, *args, **options)

    return checked


# Of most of what such a method is given.
AT_ONCE = frozenset((bool, float, int, list, np.ndarray, str, type(None)))


def in_one_call(method: Any) -> Any:
    """A method of a version for the one behind "default", without asking first which that is.

    The server settles it, as the method is one call to it. Where it is not, or code of the caller's
    may run meanwhile, all of it is about the version that it began with.
    """

    @functools.wraps(method)
    def called(self: RemoteSpace, *args: Any, **options: Any) -> Any:
        in_parts = any(
            type(one) not in AT_ONCE and (isinstance(one, (Iterator, Model)) or callable(one))
            for one in (*args, *options.values())
        )
        return method(self.current if in_parts else self, *args, **options)

    return called


class RemoteSpace(RemoteVersion, Space):
    """A space on a server, with the methods of a `Space`.

    What it knows of its version (dims, metric, kind of keys) it was told when it was made; where
    another client moves the alias "default" to a version of another shape, it asks again.
    """

    __slots__ = ()

    def __init__(self, hub: Hub, name: str, info: pb.Description | None = None) -> None:
        self._hub = hub
        self._name = name
        self._know(self._describe() if info is None else info)

    def _describe(self) -> pb.Description:
        request = pb.DescribeRequest(target=pb.Target(space=self._name))
        answer: pb.Description = self._link.read("Describe", request)
        return answer

    def _know(self, info: pb.Description) -> None:
        table: Any = RemoteTable(self._link, pb.Target(space=self._name), info)
        self._resolved = (0, table)

    @property
    def _table(self) -> Any:  # type: ignore[override]
        return self._resolved[1]

    def _has_changed(self) -> bool:
        """Look whether the alias leads elsewhere; whether vectors and keys look otherwise there."""
        old, new = self._table.info, self._describe()
        self._know(new)
        return any(getattr(old, at) != getattr(new, at) for at in ("dims", "metric", "key_type"))

    @property
    def current(self) -> Version:
        """The version that the space reads and writes now."""
        return version_of(self._hub, self._link, self._describe())

    def _bound(self) -> RemoteVersion:
        return version_of(self._hub, self._link, self._describe())

    def _as_version(self) -> Version:
        return self  # the server settles which one that is, once for each call

    def _write_all(
        self, batches: Iterable[tuple[Any, Any]], partition: Any, total: int | None, progress: bool
    ) -> int:
        return self.current._write_all(batches, partition, total, progress)

    @property
    def name(self) -> str:
        """The space's name."""
        return self._name

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
        """Make a further version, without rows: `Space.create_version()`."""
        request = pb.CreateVersionRequest(
            space=self._name,
            version=names.as_name(name, "a version"),
            schema=schema_of(dims, metric, key_type, model, M, ef_construction, ef, target_recall),
            parent=None if parent is None else named(parent, "a version"),
            created_by=None if created_by is None else names.as_text(created_by, "created_by"),
            run_id=names.as_text(run_id, "run_id"),
            code=names.as_text(code, "code"),
            data=names.as_text(data, "data"),
            labels=as_labels(labels),
        )
        return version_of(self._hub, self._link, self._link.change("CreateVersion", request))

    def version(self, name: str) -> Version:
        """The version of that name, or that an alias of that name leads to; a NotFoundError."""
        if not named(name, "a version"):
            raise NotFoundError(f"space {self._name!r} has no version {name!r:.100}")
        request = pb.DescribeRequest(target=pb.Target(space=self._name, version=name))
        return version_of(self._hub, self._link, self._link.read("Describe", request))

    def versions(self) -> list[str]:
        """The names of all versions, oldest first."""
        return list(self._link.read("ListVersions", pb.ListVersionsRequest(space=self._name)).names)

    def delete_version(self, name: str) -> None:
        """Delete a version with its rows and averages: `Space.delete_version()`."""
        request = pb.DeleteVersionRequest(space=self._name, version=named(name, "a version"))
        self._link.change("DeleteVersion", request)

    def multiset(
        self,
        keys: Any,
        vectors: Any = None,
        *,
        partition: str | Iterable[str] | None = None,
        model: Model | None = None,
        **options: Any,
    ) -> int:
        """Store many rows, in one version or in several: `Space.multiset()`."""
        if not isinstance(vectors, Mapping):
            return Version.multiset(
                self, keys, vectors, partition=partition, model=model, **options
            )
        if model is not None or options:
            unknown = ["model"] if model is not None else sorted(options)
            raise InvalidArgumentError(
                f"multiset() of several versions takes no {unknown[0]!r:.100}"
            )
        _arrays.require_order(keys)
        parts = [self.version(name)._part(keys, rows, partition) for name, rows in vectors.items()]
        if not parts:
            raise InvalidArgumentError("multiset() of several versions was given none")
        sets = [cast("RemoteTable", table).part(*rows) for table, *rows in cast("Any", parts)]
        return self._link.write(lambda request: [pb.WriteRequest(request=request, parts=sets)])

    # --- aliases ---

    def aliases(self) -> dict[str, Alias]:
        """All aliases by name; "default" is always there."""
        answer = self._link.read("ListAliases", pb.ListAliasesRequest(space=self._name))
        return {alias.name: alias_of(alias) for alias in answer.aliases}

    def alias(
        self,
        name: str,
        version: str | None = None,
        *,
        expect: str | None = UNSAID,
        protect: bool | None = None,
        why: str = "",
    ) -> Alias:
        """Lead an alias to a version, or say where it leads: `Space.alias()`."""
        if not (protect is None or isinstance(protect, bool)):
            raise TypeError(f"protect is {protect!r:.100}; expected True or False")
        request = pb.SetAliasRequest(
            space=self._name,
            alias=names.as_name(name, "an alias"),
            version=None if version is None else self._known(version, "version"),
            why=names.as_text(why, "why"),
        )
        if protect is not None:
            request.protect = protect
        if expect is None:
            request.expect_none = True
        elif expect is not UNSAID:
            request.expect_version = named(expect, "a version")
        moves = version is not None or protect is not None
        return self._moved(
            self._link.change("SetAlias", request)
            if moves
            else self._link.read("SetAlias", request)
        )

    def _known(self, name: str, what: str) -> str:
        """The name of a version or an alias that may be there; what is no text is not."""
        try:
            return named(name, f"a{'n' if what == 'alias' else ''} {what}")
        except InvalidArgumentError:
            raise NotFoundError(f"space {self._name!r} has no {what} {name!r:.100}") from None

    def _moved(self, alias: pb.Alias) -> Alias:
        if alias.name == DEFAULT:
            self._has_changed()
        return alias_of(alias)

    def unalias(self, name: str) -> None:
        """Remove an alias; not "default", and none that is protected."""
        request = pb.RemoveAliasRequest(space=self._name, alias=self._known(name, "alias"))
        self._link.change("RemoveAlias", request)

    def promote(
        self,
        version: str,
        *,
        alias: str = DEFAULT,
        require: Mapping[str, float] | None = None,
        queries: Any = None,
        sample: int = 2_000,
        seed: int = 0,
        why: str = "",
        progress: bool = False,
    ) -> tuple[Check, ...]:
        """Move an alias to another version, if that is good enough: `Space.promote()`.

        A bar shows the time alone.
        """
        request = pb.PromoteRequest(
            space=self._name,
            version=named(version, "a version"),
            alias=self._known(alias, "alias"),
            require=[
                pb.Requirement(name=figure, least=least)
                for figure, least in as_required(require).items()
            ],
            sample=sample,
            seed=seed,
            why=names.as_text(why, "why"),
        )
        if queries is not None:
            rows = as_queries(queries, self.version(request.version))
            request.queries.CopyFrom(vectors_message(rows))
        with self._link.waiting(progress, f"promote {self._name}"):
            checks = self._link.change("Promote", request).checks
        if alias == DEFAULT:
            self._has_changed()
        return tuple(check_of(check) for check in checks)

    def rollback(self, alias: str = DEFAULT, *, why: str = "") -> Alias:
        """Move an alias back to where it led before its last move: `Space.rollback()`."""
        request = pb.RollbackRequest(
            space=self._name, alias=self._known(alias, "alias"), why=names.as_text(why, "why")
        )
        return self._moved(self._link.change("Rollback", request))

    # --- erasure ---

    def erasure_plan(self, keys: Any) -> ErasurePlan:
        """What has these keys and what stands in the way: `Space.erasure_plan()`."""
        return erasing.plan(self._link, self._name, keys)

    def erase(self, keys: Any, *, wait: float = 0.0, progress: bool = False) -> ErasureReceipt:
        """Remove keys as if they had never been: `Space.erase()`, done by the server.

        Streams of rows that clients read meanwhile go on with what they began with.

        Args:
            keys: A list or an array; they travel in one message.
            wait: For how many seconds to wait for processes beside the server that hold files; the
                answer comes before the time of the call is over.
            progress: Show a bar if standard error is a terminal: the time alone.

        Raises:
            ConflictError: Somebody holds a snapshot of the space, clients included; or the server
                has erased the keys, lost its answer, and was started again before it was asked for
                it once more.
        """
        with self._link.waiting(progress, f"erase {self._name}"):
            return erasing.erase(self._link, self._name, keys, wait)

    def __repr__(self) -> str:
        return Space.__repr__(self)


for _name in (
    "average",
    "multi_nearest_neighbors",
    "multidelete",
    "multiget",
    "nearest_neighbors",
):
    setattr(RemoteSpace, _name, in_one_call(getattr(Version, _name)))
for _name in (
    "average",
    "get",
    "multi_average",
    "multi_nearest_neighbors",
    "multidelete",
    "multiget",
    "multiset",
    "nearest_neighbors",
    "recommend",
    "set",
):
    setattr(RemoteSpace, _name, looks_again(getattr(RemoteSpace, _name)))
