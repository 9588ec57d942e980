"""The stores that are compared: each makes a batch durable before it returns."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Protocol

import numpy as np

import ehub


class BatchStore(Protocol):
    """What a benchmark asks of a store."""

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        """Writes a batch; durable when it returns."""

    def get(self, key: str) -> np.ndarray:
        """One vector."""

    def close(self) -> None:
        """Ends it."""


class Bare:
    """The limit: the same bytes appended to one file with one write and one fdatasync a batch."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / "rows", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._first: dict[str, tuple[int, int]] = {}
        self._end = 0

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        key_bytes = "\0".join(keys).encode()
        os.writev(self._fd, [memoryview(vectors).cast("B"), key_bytes])
        os.fdatasync(self._fd)
        self._first[keys[0]] = (self._end, vectors.shape[1])
        self._end += vectors.nbytes + len(key_bytes)

    def get(self, key: str) -> np.ndarray:
        """The first vector of the batch that began with `key`; there is no index."""
        at, dims = self._first[key]
        return np.frombuffer(os.pread(self._fd, dims * 4, at), dtype=np.float32)

    def close(self) -> None:
        os.close(self._fd)


class Ehub:
    """This library, at its default durability."""

    def __init__(self, directory: Path, dims: int, metric: str = "l2") -> None:
        self.hub = ehub.open(directory / "hub", durability="full")
        self.space = self.hub.create_space("items", dims, metric=metric)

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        self.space.multiset(keys, vectors)

    def get(self, key: str) -> np.ndarray:
        return self.space.get(key)

    def close(self) -> None:
        self.hub.close()


class Lmdb:
    """LMDB: one transaction a batch, synced at commit (its default)."""

    def __init__(self, directory: Path) -> None:
        import lmdb

        self.env = lmdb.open(str(directory / "lmdb"), map_size=32 << 30)

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        raw = memoryview(vectors).cast("B")
        size = vectors.shape[1] * 4
        with self.env.begin(write=True) as txn:
            items = [
                (key.encode(), bytes(raw[i * size : (i + 1) * size])) for i, key in enumerate(keys)
            ]
            txn.cursor().putmulti(items)

    def get(self, key: str) -> np.ndarray:
        with self.env.begin(buffers=True) as txn:
            return np.frombuffer(txn.get(key.encode()), dtype=np.float32).copy()

    def multiget(self, keys: list[str], out: np.ndarray) -> None:
        """Copies the vectors of `keys` to out[n, dims]."""
        with self.env.begin(buffers=True) as txn:
            get = txn.get
            for i, key in enumerate(keys):
                out[i] = np.frombuffer(get(key.encode()), dtype=np.float32)

    def multiget_cursor(self, keys: list[str], out: np.ndarray) -> None:
        """The same through one cursor call, one join and one copy."""
        with self.env.begin() as txn:
            found = txn.cursor().getmulti([key.encode() for key in keys])
        out[:] = np.frombuffer(b"".join(value for _, value in found), dtype=np.float32).reshape(
            out.shape
        )

    def close(self) -> None:
        self.env.close()


class Rocks:
    """RocksDB through rocksdict: one write batch a batch, synced."""

    def __init__(self, directory: Path) -> None:
        from rocksdict import Options, Rdict, WriteOptions

        self._db = Rdict(str(directory / "rocks"), Options(raw_mode=True))
        self._options = WriteOptions()
        self._options.sync = True

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        from rocksdict import WriteBatch

        raw = memoryview(vectors).cast("B")
        size = vectors.shape[1] * 4
        if len(keys) == 1:
            self._db.put(keys[0].encode(), bytes(raw), write_opt=self._options)
            return
        batch = WriteBatch(raw_mode=True)
        for i, key in enumerate(keys):
            batch.put(key.encode(), bytes(raw[i * size : (i + 1) * size]))
        self._db.write(batch, write_opt=self._options)

    def get(self, key: str) -> np.ndarray:
        return np.frombuffer(self._db.get(key.encode()), dtype=np.float32)

    def close(self) -> None:
        self._db.close()


class Sqlite:
    """SQLite: one transaction a batch, WAL mode with synchronous=FULL."""

    def __init__(self, directory: Path) -> None:
        self._db = sqlite3.connect(directory / "db.sqlite")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE items (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self._db.commit()

    def put(self, keys: list[str], vectors: np.ndarray) -> None:
        raw = memoryview(vectors).cast("B")
        size = vectors.shape[1] * 4
        rows = ((key, raw[i * size : (i + 1) * size]) for i, key in enumerate(keys))
        self._db.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", rows)
        self._db.commit()

    def get(self, key: str) -> np.ndarray:
        row = self._db.execute("SELECT vector FROM items WHERE key = ?", (key,)).fetchone()
        return np.frombuffer(row[0], dtype=np.float32)

    def close(self) -> None:
        self._db.close()
