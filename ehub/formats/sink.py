"""Writing files of embeddings: one class per format, each a stream of batches.

A sink is begun with the number of rows to come, written batch by batch, and complete only after
`close`; what an unfinished one leaves behind is not a file of that format. Reading the file back
gives the same keys and, bit for bit, the same vectors.
"""

from __future__ import annotations

import json
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ehub.formats.parquet import import_pyarrow
from ehub.formats.source import InputError, Keys, KeyType, Vectors

# Names that ann-benchmarks knows for our metrics.
HDF5_NAMES = {"cosine": "angular", "l2": "euclidean", "ip": "dot"}


@dataclass(frozen=True)
class SinkSchema:
    """What is to be written."""

    rows: int
    dims: int
    metric: str
    key_type: KeyType
    # Plain values that say what the rows are of, for formats that have a place for them.
    about: dict[str, Any] = field(default_factory=dict)


class Sink:
    """A file of embeddings being written; `files` are those it makes, the main one last."""

    def __init__(self, path: Path, schema: SinkSchema) -> None:
        self.path = path
        self.schema = schema
        self.written = 0
        self.stack = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Write what stands before the rows."""

    def write(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows."""
        assert self.written + len(vectors) <= self.schema.rows
        self.append(keys, vectors)
        self.written += len(vectors)

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows, of which there are not too many."""
        raise NotImplementedError

    def close(self) -> None:
        """Complete the file."""
        assert self.written == self.schema.rows
        try:
            self.finish()
        finally:
            self.abandon()

    def finish(self) -> None:
        """Write what stands after the rows."""

    def abandon(self) -> None:
        """Close the file as it is."""
        self.stack.close()

    @staticmethod
    def companions(path: Path) -> list[Path]:
        """Further files that this format needs beside the one at `path`."""
        return []


class KeyedArrays(Sink):
    """What `.npy` and `.npz` share: the keys are one array, which is written last."""

    def begin(self) -> None:
        """Collect keys from here on."""
        self.keys: list[Keys] = []

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows."""
        self.keys.append(keys)
        self.append_vectors(np.ascontiguousarray(vectors, dtype="<f4"))

    def append_vectors(self, vectors: Vectors) -> None:
        """Append the vectors of some rows."""
        raise NotImplementedError

    def key_array(self) -> NDArray[Any]:
        """All keys; NumPy cannot hold a text that ends in NUL."""
        if self.schema.key_type == "int":
            return np.concatenate([np.asarray(keys, np.int64) for keys in self.keys] or [EMPTY])
        texts = [key for keys in self.keys for key in keys]
        if any(key.endswith("\0") for key in texts):
            raise InputError("a key ends in NUL, which NumPy cannot store: export to .parquet")
        return np.array(texts, dtype=str)


EMPTY = np.empty(0, np.int64)


class NpySink(KeyedArrays):
    """The vectors as a `.npy` file, and the keys as `<name>.keys.npy` beside it."""

    def begin(self) -> None:
        """Write the header."""
        super().begin()
        self.file = self.stack.enter_context(self.path.open("wb"))
        write_npy_header(self.file, self.schema)

    def append_vectors(self, vectors: Vectors) -> None:
        """Append the vectors of some rows."""
        self.file.write(vectors.data)

    def finish(self) -> None:
        """Write the keys."""
        [companion] = self.companions(self.path)
        np.save(companion, self.key_array(), allow_pickle=False)

    @staticmethod
    def companions(path: Path) -> list[Path]:
        """The file of keys."""
        return [path.with_name(f"{path.stem}.keys.npy")]


class NpzSink(KeyedArrays):
    """A `.npz` file with the arrays `vectors`, `keys` and `metric`."""

    def begin(self) -> None:
        """Begin the vectors."""
        super().begin()
        self.archive = self.stack.enter_context(zipfile.ZipFile(self.path, "w"))
        self.file = self.stack.enter_context(
            self.archive.open("vectors.npy", "w", force_zip64=True)
        )
        write_npy_header(self.file, self.schema)

    def append_vectors(self, vectors: Vectors) -> None:
        """Append the vectors of some rows."""
        self.file.write(vectors.data)

    def finish(self) -> None:
        """End the vectors; write the other arrays."""
        self.file.close()
        arrays = {"keys": self.key_array(), "metric": np.array(self.schema.metric)}
        for name, array in arrays.items():
            with self.archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy_format.write_array(file, array, allow_pickle=False)


def write_npy_header(file: IO[bytes], schema: SinkSchema) -> None:
    """What stands before the numbers in a `.npy` file."""
    shape = (schema.rows, schema.dims)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(file, header)


class Hdf5Sink(Sink):
    """An HDF5 file with the datasets `keys` and `vectors`, and attributes as ann-benchmarks has."""

    def begin(self) -> None:
        """Make the datasets."""
        try:
            import h5py
        except ImportError as error:
            raise InputError("HDF5 files need h5py: pip install 'ehub[hdf5]'") from error
        schema = self.schema
        file = self.stack.enter_context(h5py.File(self.path, "w"))
        file.attrs["distance"] = HDF5_NAMES[schema.metric]
        file.attrs["dimension"] = schema.dims
        kind = "<i8" if schema.key_type == "int" else h5py.string_dtype()
        self.vectors = file.create_dataset("vectors", (schema.rows, schema.dims), "<f4")
        self.keys = file.create_dataset("keys", (schema.rows,), kind)

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows."""
        stop = self.written + len(vectors)
        self.vectors[self.written : stop] = vectors
        if isinstance(keys, list) and any("\0" in key for key in keys):
            raise InputError("a key contains NUL, which HDF5 cannot store: export to .parquet")
        self.keys[self.written : stop] = keys


class ParquetSink(Sink):
    """A Parquet file with the columns `key` and `vector`, a list of fixed size.

    Its metadata has `ehub`: metric, dims and what the rows are of, as JSON.
    """

    def begin(self) -> None:
        """Write the schema."""
        self.pa = import_pyarrow()
        about = {**self.schema.about, "metric": self.schema.metric, "dims": self.schema.dims}
        key = self.pa.int64() if self.schema.key_type == "int" else self.pa.string()
        vector = self.pa.list_(self.pa.float32(), self.schema.dims)
        self.arrow = self.pa.schema(
            [self.pa.field("key", key, nullable=False), self.pa.field("vector", vector)],
            metadata={"ehub": json.dumps(about)},
        )
        # Vectors do not compress, and a dictionary of their numbers would only grow.
        self.writer = self.stack.enter_context(
            self.pa.parquet.ParquetWriter(
                self.path, self.arrow, compression="none", use_dictionary=False
            )
        )

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows as a row group."""
        numbers = self.pa.array(np.ascontiguousarray(vectors).reshape(-1))
        lists = self.pa.FixedSizeListArray.from_arrays(numbers, self.schema.dims)
        column = self.pa.array(keys, self.arrow.field("key").type)
        batch = self.pa.record_batch([column, lists], schema=self.arrow)
        self.writer.write_batch(batch)


class TextSink(Sink):
    """A CSV file: a header, then a key and its numbers per line, each in nine digits.

    Nine digits identify a float32.
    """

    delimiter = ","

    def begin(self) -> None:
        """Write the header."""
        self.begin_on(self.stack.enter_context(self.path.open("w", encoding="utf-8", newline="")))

    def begin_on(self, file: IO[str]) -> None:
        """Write the header to an open file."""
        self.file = file
        names = [f"v{i}" for i in range(self.schema.dims)]
        self.file.write(self.delimiter.join(["key", *names]) + "\n")
        self.numbers = f"{self.delimiter}%.9g" * self.schema.dims + "\n"

    def append(self, keys: Keys, vectors: Vectors) -> None:
        """Append some rows."""
        for key, vector in zip(keys, vectors.tolist(), strict=True):
            self.file.write(self.quoted(key) + self.numbers % tuple(vector))

    def quoted(self, key: str | int) -> str:
        """A key as a field."""
        text = str(key)
        if text and not any(mark in text for mark in (self.delimiter, '"', "\n", "\r")):
            return text
        return '"' + text.replace('"', '""') + '"'


class TabSink(TextSink):
    """As CSV, with tabs."""

    delimiter = "\t"


class StreamSink(TextSink):
    """CSV to a stream that stays open, such as standard output."""

    def __init__(self, stream: IO[str], schema: SinkSchema) -> None:
        self.stream = stream
        super().__init__(Path("-"), schema)

    def begin(self) -> None:
        """Write the header."""
        self.begin_on(self.stream)


SINKS: dict[str, type[Sink]] = {
    ".npy": NpySink,
    ".npz": NpzSink,
    ".h5": Hdf5Sink,
    ".hdf5": Hdf5Sink,
    ".parquet": ParquetSink,
    ".pq": ParquetSink,
    ".csv": TextSink,
    ".tsv": TabSink,
}
