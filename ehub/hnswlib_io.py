"""Files of hnswlib, in and out: an index that hnswlib saved becomes a space, and the other way.

    import ehub

    with ehub.open("data/") as hub:
        items = ehub.hnswlib_io.load("items.bin", hub=hub, space="items", metric="l2", dims=200)
        ehub.hnswlib_io.save(items, "copy.bin")

Both take the graph over: nothing is built anew where there is one. hnswlib itself is not needed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._native import _hnsw
from ehub._progress import watched
from ehub.awaited import require_not_awaited
from ehub.errors import EhubError, InvalidArgumentError, InvalidKeyError, StorageError
from ehub.model import DIMS_MAX
from ehub.types import Key, KeyArray, KeyType, Metric, Vectors
from ehub.view import BATCH_ROWS_MAX, joined

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.space import Space

__all__ = ["load", "save"]

M_MIN, M_MAX = 2, 512
EF_CONSTRUCTION_MIN, EF_CONSTRUCTION_MAX = 2, 10_000
LABEL_MAX = 2**64 - 1
INT_KEY_MAX = 2**63 - 1


def load(
    path: str | os.PathLike[str],
    *,
    hub: Hub,
    space: str,
    metric: Metric,
    dims: int,
    key_type: KeyType = "int",
    ef: int | None = None,
    target_recall: float = 0.95,
    progress: bool = False,
) -> Space:
    """Make a space of an index that hnswlib saved (`save_index`, any release from 0.3.4 to 0.8.0).

    Vectors come over bit for bit; where hnswlib's space is "cosine" it has stored them normalised,
    and so they are here. Elements that are marked as deleted are left out. With 4,096 rows or more
    the links of hnswlib's lowest level become the graph of the space: rows are only encoded, so it
    takes a fraction of a build. `M` and `ef_construction` are those of the file, within the limits
    of `Hub.create_space()`. The rows are one atomic batch. If the load fails, the space is deleted;
    only the end of the process can leave it behind, empty or whole.

    A file that cannot be right (sizes, counts, links and levels are checked, to the byte) is a
    CorruptionError. hnswlib keeps no checksums: a changed vector or label is not noticed.

    Args:
        path: The file.
        hub: Where the space is made.
        space: Its name; an ExistsError if there is one.
        metric: As the index was made: "l2", "ip" or "cosine". The file does not say.
        dims: As the index was made; a DimensionError if the file has others.
        key_type: "int": labels become keys as they are; those from 2^63 on do not fit, and are an
            InvalidKeyError. "str": keys are the decimal digits of the labels, whatever they are.
        ef: As in `Hub.create_space()`; hnswlib does not save its own.
        target_recall: As in `Hub.create_space()`.
        progress: Show a bar if standard error is a terminal: the time, for reading the file and for
            storing it.
    """
    require_not_awaited(hub, "give a hub of ehub.connect()")
    width = _arrays.as_integer(dims, "dims", 1, DIMS_MAX)
    with watched(progress, "load: reading"):
        labels, vectors, begins, targets, links, ef_construction = _hnsw.read_hnswlib(
            os.fsencode(path), width
        )
    made = hub.create_space(
        space,
        width,
        metric=metric,
        key_type=key_type,
        M=min(max(links, M_MIN), M_MAX),
        ef_construction=min(max(ef_construction, EF_CONSTRUCTION_MIN), EF_CONSTRUCTION_MAX),
        ef=ef,
        target_recall=target_recall,
    )
    try:
        with watched(progress, f"load: storing {space}"):
            keys = _arrays.as_keys(keys_of(labels, key_type), key_type, space)
            made._table.multiset_linked(keys, vectors, begins, targets)
    except BaseException:
        with suppress(EhubError):
            hub.delete_space(space)
        raise
    return made


def save(
    space: Space,
    path: str | os.PathLike[str],
    *,
    M: int | None = None,
    ef_construction: int | None = None,
    labels: Mapping[Any, int] | None = None,
    progress: bool = False,
) -> None:
    """Write a space to a file that hnswlib loads (`load_index`) and answers from.

    The space's own graph is taken, after `Space.optimize()` where no single one covers it; a space
    that is too small to have one, a hub opened with `read_only=True` that is not settled, or an `M`
    that is not the space's gets one built for the file. Under "cosine" the vectors are written
    normalised, as hnswlib keeps them. The file takes the place of an older one as a whole, and can
    be read by you alone, as all files that ehub makes.

    Load it with `hnswlib.Index(space=metric, dim=dims)`; its capacity is the number of rows.

    Args:
        space: What to write; its metrics have the same names in hnswlib.
        path: The file.
        M: Half of the links of a row on the lowest level, 2 to 512; the space's own by default.
        ef_construction: What hnswlib inserts further rows with; the space's own by default.
        labels: For each key a number from 0 to 2^64 - 1, all different: hnswlib knows rows by
            numbers. Not needed where keys are int and not negative, which are labels as they are.
        progress: Show a bar if standard error is a terminal: of `Space.optimize()`, and of the time
            that the rest takes.
    """
    require_not_awaited(space, "give what its download_snapshot() returns")
    table = space._table
    room = table.M if M is None else _arrays.as_integer(M, "M", M_MIN, M_MAX)
    effort = (
        table.ef_construction
        if ef_construction is None
        else _arrays.as_integer(
            ef_construction, "ef_construction", EF_CONSTRUCTION_MIN, EF_CONSTRUCTION_MAX
        )
    )
    target = os.path.abspath(path)  # noqa: PTH100 - without resolving links
    require_directory(os.path.dirname(target))  # noqa: PTH120
    keys, vectors, links = rows_and_links(space, room == table.M, progress)
    numbers = labels_of(keys, space, labels)
    threads = len(os.sched_getaffinity(0))
    with watched(progress, f"save {space.name}"):
        if links is None:
            links = built_links(vectors, space.metric, room, effort, threads)
        _hnsw.write_hnswlib(
            os.fsencode(target), numbers, vectors, links, space.metric, room, effort, threads
        )


def require_directory(directory: str | bytes) -> None:
    """Refuse before the graph is built a file that could not be written after it."""
    if not os.path.isdir(directory):  # noqa: PTH112 - of whatever type the path is
        raise StorageError(errno.ENOENT, "there is no such directory", os.fsdecode(directory))


def keys_of(labels: NDArray[np.uint64], key_type: KeyType) -> NDArray[Any]:
    """Labels as keys."""
    if key_type == "str":
        return labels.astype(np.str_)
    beyond = np.flatnonzero(labels > INT_KEY_MAX)
    if len(beyond):
        raise InvalidKeyError(
            f"label {labels[beyond[0]]} is too large for an int key, of which the largest is "
            f'{INT_KEY_MAX}; key_type="str" takes any label'
        )
    return labels.view(np.int64)


def labels_of(keys: KeyArray, space: Space, labels: Mapping[Any, int] | None) -> NDArray[np.uint64]:
    """Keys as labels."""
    if labels is not None:
        return mapped_labels(keys.tolist(), space, labels)
    if space.key_type == "str":
        raise InvalidKeyError(
            f"space {space.name!r} has str keys, and hnswlib knows rows by numbers: give "
            "labels={key: number, ...}, and keep it to read hnswlib's answers"
        )
    numbers = np.ascontiguousarray(keys, np.int64)
    negative = np.flatnonzero(numbers < 0)
    if len(negative):
        raise InvalidKeyError(
            f"key {numbers[negative[0]]} is negative, and a label of hnswlib is not: give "
            "labels={key: number, ...}"
        )
    return numbers.view(np.uint64)


def mapped_labels(keys: list[Key], space: Space, labels: Mapping[Any, int]) -> NDArray[np.uint64]:
    """The label that the caller gives each key."""
    missing = next((key for key in keys if key not in labels), None)
    if missing is not None:
        raise InvalidArgumentError(
            f"labels has none for key {missing!r:.100} of space {space.name!r}"
        )
    numbers = np.fromiter((label_of(key, labels[key]) for key in keys), np.uint64, len(keys))
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidArgumentError("labels gives two keys the same label")
    return numbers


def label_of(key: Key, label: Any) -> int:
    """A number that hnswlib takes for a label."""
    return _arrays.as_integer(label, f"the label of {key!r:.100}", 0, LABEL_MAX)


def rows_and_links(
    space: Space, links_wanted: bool, progress: bool
) -> tuple[KeyArray, Vectors, NDArray[np.uint32] | None]:
    """All rows, where they lie if they lie together, and the links of the one graph over them.

    None for the links if they are not wanted, or if there can be no such graph.
    """
    view = space._now()
    links = view.graph() if links_wanted else None
    if links_wanted and links is None and not space.hub.read_only:
        space.optimize(progress=progress)
        view = space._now()
        links = view.graph()
    batches = list(view.scan(BATCH_ROWS_MAX))
    if len(batches) == 1:
        return *batches[0], links
    empty = np.empty((0, space.dims), np.float32)
    vectors = np.concatenate([empty, *(rows for _, rows in batches)])
    return joined((keys for keys, _ in batches), space.key_type), vectors, links


def built_links(
    vectors: Vectors, metric: Metric, links: int, ef_construction: int, threads: int
) -> NDArray[np.uint32]:
    """The links of a graph made for this purpose."""
    if len(vectors) == 0:
        return np.empty((0, 1), np.uint32)
    return _hnsw.build_links(vectors, metric, links, ef_construction, threads)
