"""Chunks: pieces of files as objects that are named by their contents.

Vectors are stored as they are, because LZ4 gains nothing on them; all else is compressed where that
makes it smaller by a tenth at least.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from ehub.backup.cutting import PIECE_BYTES_MAX
from ehub.backup.place import Place
from ehub.errors import CorruptionError, NotFoundError

__all__ = ["DIRECTORY", "Chunk", "ahead_in_order", "as_chunk", "fetched", "packed"]

DIRECTORY = "chunks"
THREADS = 8
PAYS_BELOW = 0.9

NAME = re.compile(r"[0-9a-f]{64}(\.lz4)?")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Chunk(NamedTuple):
    """A piece of a file.

    Attributes:
        name: The SHA-256 of the piece as hex digits; with `.lz4` if the object is compressed.
        bytes: Of the piece.
        stored: Of the object.
    """

    name: str
    bytes: int
    stored: int

    @property
    def path(self) -> str:
        """Of the object."""
        return f"{DIRECTORY}/{self.name[:2]}/{self.name}"


def as_chunk(value: Any) -> Chunk:
    """A chunk as a backup says it; a ValueError if it can be none."""
    name, size, stored = value
    if not NAME.fullmatch(name) or not 0 < size <= PIECE_BYTES_MAX or not 0 < stored <= size:
        raise ValueError(f"{name!r:.80} is no chunk")
    return Chunk(name, size, stored)


def packed(piece: bytes, *, compress: bool) -> tuple[Chunk, bytes]:
    """A piece's chunk, and the object's bytes."""
    import lz4.frame

    name = hashlib.sha256(piece).hexdigest()
    if compress:
        smaller: bytes = lz4.frame.compress(piece)
        if len(smaller) < len(piece) * PAYS_BELOW:
            return Chunk(f"{name}.lz4", len(piece), len(smaller)), smaller
    return Chunk(name, len(piece), len(piece)), piece


def fetched(place: Place, chunk: Chunk) -> bytes:
    """A chunk's piece; a CorruptionError if the object is missing or not what its name says."""
    try:
        data = place.get(chunk.path)
    except NotFoundError as error:
        raise CorruptionError(f"{place.url}: object {chunk.path!r} is missing") from error
    piece = unpacked(data, chunk.bytes) if chunk.name.endswith(".lz4") else data
    if piece is None or hashlib.sha256(piece).hexdigest() != chunk.name[:64]:
        raise CorruptionError(
            f"{place.url}: object {chunk.path!r} is damaged: its contents are not what its name "
            "says; remove it, and the next backup of the hub puts it there again if it still can"
        )
    return piece


def unpacked(data: bytes, size: int) -> bytes | None:
    """What was compressed, if it is of this size and all of `data`."""
    import lz4.frame

    frame = lz4.frame.LZ4FrameDecompressor()
    try:
        piece: bytes = frame.decompress(data, max_length=size + 1)
    except (RuntimeError, EOFError):
        return None
    return piece if len(piece) == size and frame.eof and not frame.unused_data else None


def ahead_in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` gives for each item, in order; some threads are a few items ahead."""
    running: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ehub-backup")
    try:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) > 2 * THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
