"""A partition: the rows of a space that carry one label, read and written like a space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from ehub import _arrays, _arrow
from ehub._native import _store
from ehub.errors import NotFoundError
from ehub.model import Model
from ehub.types import Key
from ehub.view import View

if TYPE_CHECKING:
    from ehub.version import Version

__all__ = ["Partition"]


class Partition(View):
    """The rows of one partition of a space.

    It comes from `Space.partition()`. Reads see its rows alone: a key of another partition is not
    found. What is written gets its label, and a key that was in another partition moves here.
    Reading a partition that no row was ever given to is a NotFoundError; writing makes it.
    """

    __slots__ = ("_label", "_version")

    def __init__(self, version: Version, name: str) -> None:
        self._label = _arrays.as_partition_name(name)
        self._version = version
        self._table = version._table

    @property
    def version(self) -> Version:
        """The version that it is a part of."""
        return self._version

    @property
    def name(self) -> str:
        """The partition's name."""
        return self._label.decode()

    def _now(self) -> _store.View:
        return self._table.view().within((self._label,))

    # --- writing ---

    def set(self, key: Key, vector: Any, *, model: Model | None = None) -> None:
        """Store `vector` under `key` in this partition, in place of an older one of the space."""
        self._version.set(key, vector, partition=self.name, model=model)

    def __setitem__(self, key: Key, vector: Any) -> None:
        self.set(key, vector)

    def multiset(
        self,
        keys: Any,
        vectors: Any = None,
        *,
        model: Model | None = None,
        key_column: str = _arrow.KEY_COLUMN,
        vector_column: str = _arrow.VECTOR_COLUMN,
        progress: bool = False,
    ) -> int:
        """Store many rows in this partition: `Space.multiset()` with `partition` given."""
        return self._version.multiset(
            keys,
            vectors,
            partition=self.name,
            model=model,
            key_column=key_column,
            vector_column=vector_column,
            progress=progress,
        )

    def delete(self, key: Key) -> None:
        """Delete the row of `key`; a NotFoundError if there is none in this partition."""
        if self.multidelete([key]) == 0:
            raise NotFoundError(
                f"partition {self.name!r} of {self._table.place} has no key {key!r}"
            )

    __delitem__ = delete

    def multidelete(self, keys: Iterable[Key]) -> int:
        """Delete those rows of `keys` that are in this partition, in one atomic batch.

        Returns how many there were.
        """
        return self._table.multidelete_within(self._pack(keys), (self._label,))

    def delete_all(self) -> int:
        """Delete every row of this partition in one atomic batch; return how many there were.

        What is written for it does not grow with the rows: `Version.drop_partition()`.
        """
        return self._table.delete_all_within((self._label,))

    def __repr__(self) -> str:
        return f"<ehub.Partition {self.name!r} of {self._version!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Partition cannot be pickled: open its hub where you need it")
