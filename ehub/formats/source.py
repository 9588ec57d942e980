"""What a file of embeddings looks like to an import, whatever its format.

A `Source` gives a file's rows in order, in batches, without ever holding more than a batch of
vectors. It converts (any real number to `float32`, any text to `str`) and refuses what is not
keys and vectors, naming the file; what only the hub can judge (a NaN, a key that is too long) it
passes on. A source is for one thread, and is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Keys: TypeAlias = "list[str] | NDArray[np.int64]"
KeyType: TypeAlias = Literal["str", "int"]

KEY_NAMES = ("keys", "key", "id", "ids")
VECTOR_NAMES = ("vectors", "vector", "embeddings", "embedding")


class InputError(ValueError):
    """A file does not hold what was asked of it, or cannot hold what is to be written."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a library says about a bad file into an error that names the file.

    For damage NumPy, zipfile, h5py and pyarrow raise whatever their parsers happen to meet, so any
    exception is taken for that; a system call that failed keeps its own.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(
            f"{path}: damaged, or not of the format that its name says: {error}"
        ) from error


@dataclass(frozen=True)
class Selection:
    """What the user says about a file; None: find out."""

    keys: str | None = None
    no_keys: bool = False  # whatever looks like keys is none
    vectors: str | None = None
    header: bool | None = None


@dataclass(frozen=True)
class Batch:
    """Rows of a file; keys are None where the file has none, and rows are known by number."""

    keys: Keys | None
    vectors: Vectors

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.vectors)


class Source(AbstractContextManager["Source"]):
    """An open file of embeddings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: int | None = None  # None: known only after reading all
        self.dims = 0
        self.metric: str | None = None  # None: the file does not say
        self.key_type: KeyType = "int"
        # For people: where keys and vectors come from.
        self.keys_from = "row numbers"
        self.vectors_from = ""

    @property
    def found(self) -> str:
        """For people: what the file was taken for."""
        return f"keys: {self.keys_from}; vectors: {self.vectors_from}"

    def batches(self, batch_rows: int) -> Iterator[Batch]:
        """All rows in order, `batch_rows` at a time but for the last; may be called once."""
        with readable(self.path):
            yield from self.read(batch_rows)

    def read(self, batch_rows: int) -> Iterator[Batch]:
        """As `batches`, with the errors of whatever library reads the format."""
        raise NotImplementedError

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""


class Column(Protocol):
    """The keys or the vectors of a file, one entry per row, read from the first to the last."""

    rows: int

    def read(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop`; `start` is where the read before ended."""
        ...


def as_vectors(values: Any, what: str) -> Vectors:
    """A block of a file as `float32[n, dims]`."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} hold {array.dtype}, not numbers")
    # A number beyond float32 becomes an infinity, which the hub refuses with the row's number.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def as_keys(values: Any, what: str) -> Keys:
    """Keys as read from a file, as the hub takes them: a list of `str` or `int64[n]`."""
    if isinstance(values, list):
        return values
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise InputError(f"{what} hold an integer above 2**63 - 1")
        return array.astype(np.int64)
    if array.dtype.kind == "U":
        texts: list[str] = array.tolist()
        return texts
    if array.dtype.kind in "SO":
        return [text_of(value, what) for value in array.tolist()]
    raise InputError(f"{what} hold {array.dtype}; a key is text or an integer")


def text_of(value: object, what: str) -> str:
    """One key that a file holds as text or as bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{what} hold {value!r:.100}, which is not UTF-8") from error
    raise InputError(f"{what} hold {value!r:.100}; a key is text or an integer")


def key_type_of(dtype: np.dtype[Any], what: str) -> KeyType:
    """Which keys an array of this type holds."""
    if dtype.kind in "iu":
        return "int"
    if dtype.kind in "USO":
        return "str"
    raise InputError(f"{what} hold {dtype}; a key is text or an integer")


def convert_keys(keys: Keys, key_type: KeyType, what: str) -> Keys:
    """The same keys for a space with the other type of keys."""
    if key_type == "str":
        return keys if isinstance(keys, list) else [str(key) for key in keys.tolist()]
    if not isinstance(keys, list):
        return keys
    try:
        return np.array([int(key) for key in keys], dtype=np.int64)
    except (ValueError, OverflowError):
        bad = next(key for key in keys if not is_int64(key))
        raise InputError(f"{what}: key {bad!r:.100} is not a 64-bit integer") from None


def is_int64(text: str) -> bool:
    """Whether text is an integer that fits an int key."""
    try:
        return -(2**63) <= int(text) < 2**63
    except ValueError:
        return False


def choose(named: str | None, names: Sequence[str], usual: Sequence[str], what: str) -> str | None:
    """Which of a file's arrays or columns to take: the one named, else one with a usual name."""
    if named is not None and named not in names:
        raise InputError(
            f"{what} {named!r:.100} is not in the file, which has: {', '.join(names):.500}"
        )
    chosen = named or next((name for name in usual if name in names), None)
    if chosen is not None and list(names).count(chosen) > 1:
        raise InputError(
            f"{what} {chosen!r:.100} is in the file more than once: give it another name"
        )
    return chosen


def choose_keys(selection: Selection, names: Sequence[str], what: str) -> str | None:
    """Which of a file's arrays or columns holds the keys; None: row numbers are the keys."""
    return None if selection.no_keys else choose(selection.keys, names, KEY_NAMES, what)
