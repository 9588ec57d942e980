"""Files that hold vectors as an array: NumPy's `.npy` and `.npz`, and HDF5.

All three are one idea: a column of vectors and, perhaps, a column of keys, both read row by row.
A `.npy` file is mapped, an HDF5 dataset is read by slices, a member of a `.npz` file is decoded as
a stream: none is ever in memory as a whole. Keys may also come from a file of their own.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from ehub.formats import text
from ehub.formats.source import (
    VECTOR_NAMES,
    Batch,
    Column,
    InputError,
    KeyType,
    Selection,
    Source,
    as_keys,
    as_vectors,
    choose,
    choose_keys,
    key_type_of,
    readable,
)

# What the benchmark sets of ann-benchmarks.com call our metrics.
HDF5_DISTANCES = {
    "angular": "cosine",
    "cosine": "cosine",
    "euclidean": "l2",
    "l2": "l2",
    "dot": "ip",
    "ip": "ip",
}


class ArrayColumn:
    """A NumPy array, mapped or not, or anything that is sliced like one."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape or ())  # HDF5 has arrays without one
        self.rows = self.shape[0] if self.shape else 0
        self.dtype: np.dtype[Any] = array.dtype

    def read(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop`."""
        return self.array[start:stop]


class StreamColumn:
    """An array in `.npy` format that can only be read from its beginning to its end."""

    def __init__(self, stream: IO[bytes], what: str) -> None:
        self.stream = stream
        self.what = what
        self.read_header(npy_format.read_magic(stream))
        self.rows = self.shape[0] if self.shape else 0

    def read_header(self, version: tuple[int, int]) -> None:
        """Read what stands before the numbers."""
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise InputError(f"{self.what} is in version {version} of the .npy format")
        self.shape, fortran, self.dtype = read(self.stream)
        if any(size < 0 for size in self.shape):
            raise InputError(f"{self.what} has the shape {self.shape}")
        if fortran and len(self.shape) > 1:
            raise InputError(f"{self.what} is stored column by column: save it as a .npy file")
        if self.dtype.hasobject:
            raise InputError(f"{self.what} holds pickled objects, which are never loaded")

    def read(self, start: int, stop: int) -> Any:
        """The next rows."""
        stop = min(stop, self.rows)
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        data = self.stream.read((stop - start) * row_bytes)
        if len(data) != (stop - start) * row_bytes:
            raise InputError(f"{self.what} ends before row {stop}: the file is cut short")
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])


class ArraySource(Source):
    """A file whose vectors, and perhaps keys, are arrays."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.stack = ExitStack()
        self.vectors: Column
        self.keys: Column | None = None

    def take_vectors(self, column: ArrayColumn | StreamColumn, label: str) -> None:
        """Set the column of vectors."""
        if len(column.shape) != 2 or column.dtype.kind not in "fiu":
            shape = "x".join(map(str, column.shape)) or "scalar"
            raise InputError(
                f"{self.path}: {label} is {column.dtype} [{shape}]; expected numbers [rows x dims]"
            )
        self.vectors, self.vectors_from = column, label
        self.rows, self.dims = column.shape

    def take_keys(self, column: Column, key_type: KeyType, label: str) -> None:
        """Set the column of keys."""
        if column.rows != self.rows:
            raise InputError(
                f"{self.path}: {label} has {column.rows:,} keys for {self.rows:,} vectors"
            )
        self.keys, self.key_type, self.keys_from = column, key_type, label

    def take_array_of_keys(self, column: ArrayColumn | StreamColumn, label: str) -> None:
        """Set the column of keys to an array."""
        if len(column.shape) != 1:
            raise InputError(f"{self.path}: {label} has {len(column.shape)} axes, keys have one")
        self.take_keys(column, key_type_of(column.dtype, f"{self.path}: {label}"), label)

    def take_key_file(self, name: str) -> None:
        """Read the keys from a file of their own: `.npy`, text, or `table.csv:column`."""
        label = f"file {name}"
        if name.endswith(".npy"):
            self.take_array_of_keys(ArrayColumn(map_npy(Path(name))), label)
        else:
            column = self.stack.enter_context(text.key_file(name))
            self.take_keys(column, "str", label)

    def read(self, batch_rows: int) -> Iterator[Batch]:
        """All rows in order."""
        assert self.rows is not None
        for start in range(0, self.rows, batch_rows):
            stop = min(start + batch_rows, self.rows)
            vectors = as_vectors(self.vectors.read(start, stop), f"{self.path}: the vectors")
            keys = None
            if self.keys is not None:
                keys = as_keys(self.keys.read(start, stop), f"{self.path}: the keys")
            yield Batch(keys, vectors)

    def __exit__(self, *exc_info: object) -> None:
        """Close all files."""
        self.stack.close()


def map_npy(path: Path) -> Any:
    """A `.npy` file, mapped."""
    with readable(path):
        return npy_format.open_memmap(path, mode="r")


def open_npy(path: Path, selection: Selection) -> ArraySource:
    """A `.npy` file of vectors; keys from `<name>.keys.npy` beside it, as an export writes them."""
    source = ArraySource(path)
    if selection.vectors is not None:
        raise InputError(f"{path}: a .npy file holds one array; --vectors has nothing to choose")
    source.take_vectors(ArrayColumn(map_npy(path)), "the array")
    beside = keys_beside(path)
    if selection.keys is not None:
        source.take_key_file(selection.keys)
    elif beside.exists() and not selection.no_keys:
        source.take_key_file(str(beside))
    return source


def keys_beside(path: Path) -> Path:
    """Where the keys of a `.npy` file of vectors are."""
    return path.with_name(f"{path.stem}.keys.npy")


def open_npz(path: Path, selection: Selection) -> ArraySource:
    """A `.npz` file with an array of vectors and, if it has one, of keys."""
    source = ArraySource(path)
    archive = source.stack.enter_context(zipfile.ZipFile(path))
    members = archive.namelist()
    names = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]

    def column(name: str) -> StreamColumn:
        stream = source.stack.enter_context(archive.open(f"{name}.npy"))
        return StreamColumn(stream, f"{path}: array {name!r}")

    take_named(source, selection, names, VECTOR_NAMES, column)
    if "metric" in names:
        with archive.open("metric.npy") as stream:
            source.metric = str(npy_format.read_array(stream, allow_pickle=False))
    return source


def take_named(
    source: ArraySource,
    selection: Selection,
    names: list[str],
    usual: tuple[str, ...],
    column: Any,
) -> None:
    """Set the columns of a file whose arrays have names."""
    what = f"{source.path}: array"
    vectors = choose(selection.vectors, names, usual, what)
    if vectors is None and len(names) == 1:
        vectors = names[0]
    if vectors is None:
        if not names:
            raise InputError(f"{source.path}: no arrays in the file")
        raise InputError(f"{source.path}: say --vectors, one of: {', '.join(names)}")
    source.take_vectors(column(vectors), f"array {vectors!r}")
    if selection.keys is not None and selection.keys not in names:
        if not Path(selection.keys.rpartition(":")[0] or selection.keys).exists():
            choose(selection.keys, names, (), what)  # refuses
        source.take_key_file(selection.keys)
        return
    keys = choose_keys(selection, names, what)
    if keys is not None:
        source.take_array_of_keys(column(keys), f"array {keys!r}")


def open_hdf5(path: Path, selection: Selection) -> ArraySource:
    """An HDF5 file, such as the sets of ann-benchmarks, whose vectors are called `train`."""
    try:
        import h5py
    except ImportError as error:
        raise InputError("HDF5 files need h5py: pip install 'ehub[hdf5]'") from error
    source = ArraySource(path)
    file = source.stack.enter_context(h5py.File(path, "r"))
    names: list[str] = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )

    def column(name: str) -> ArrayColumn:
        return ArrayColumn(file[name])

    take_named(source, selection, names, ("train", *VECTOR_NAMES), column)
    distance = file.attrs.get("distance")
    if distance is not None:
        name = distance.decode() if isinstance(distance, bytes) else str(distance)
        source.metric = HDF5_DISTANCES.get(name, name)
    return source
