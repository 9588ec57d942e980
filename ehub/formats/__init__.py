"""Files of embeddings that other tools read and write: NumPy, HDF5, Parquet, CSV.

`open_source` reads one, `open_sink` writes one; the suffix of the name tells the format. Both
stream: a batch of vectors at a time is in memory, so a file may be larger than that.
"""

from __future__ import annotations

from pathlib import Path

from ehub.formats import arrays, parquet, text
from ehub.formats.sink import SINKS, Sink, SinkSchema
from ehub.formats.source import (
    Batch,
    InputError,
    Keys,
    KeyType,
    Selection,
    Source,
    Vectors,
    convert_keys,
    readable,
)

__all__ = [
    "Batch",
    "InputError",
    "KeyType",
    "Keys",
    "Selection",
    "Sink",
    "SinkSchema",
    "Source",
    "Vectors",
    "convert_keys",
    "open_sink",
    "open_source",
]

READERS = {
    ".npy": arrays.open_npy,
    ".npz": arrays.open_npz,
    ".h5": arrays.open_hdf5,
    ".hdf5": arrays.open_hdf5,
    ".parquet": parquet.ParquetSource,
    ".pq": parquet.ParquetSource,
    ".csv": text.TableSource,
    ".tsv": text.TableSource,
}


def open_source(path: Path, selection: Selection) -> Source:
    """Open a file of embeddings for reading; `InputError` if it does not hold any."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown format; known are {', '.join(READERS)}")
    with readable(path):
        return reader(path, selection)


def open_sink(path: Path, suffix: str, schema: SinkSchema) -> Sink:
    """Begin a file of embeddings in the format of this suffix."""
    writer = SINKS.get(suffix.lower())
    if writer is None:
        raise InputError(
            f"cannot write {suffix or 'without a suffix'}; known are {', '.join(SINKS)}"
        )
    return writer(path, schema)
