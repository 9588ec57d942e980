"""What a hub knows of itself, read when somebody asks: rows, index, log, disk.

Versions beyond the largest ones are one series together, with the empty name, so that sums are
right and ten thousand small spaces are no ten thousand series. Hidden versions are in it, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

import ehub
from ehub import names
from ehub.errors import NotFoundError
from ehub.hub import Hub, disk_bytes

if TYPE_CHECKING:
    from ehub._native import _store

__all__ = ["VERSION_LABELS", "HubCollector"]

VERSION_LABELS = ("space", "version")
REST = ("", "")

# Of each version: the name, what it is, and where a table's figures have it.
OF_VERSIONS: tuple[tuple[str, str, str], ...] = (
    ("rows", "Rows that can be read.", "rows"),
    ("dead_rows", "Rows that were overwritten or deleted, and are still stored.", "dead_rows"),
    ("segments", "Segments, fresh ones among them.", "segments"),
    ("segment_bytes", "Bytes of vectors, keys and what belongs to them.", "segment_bytes"),
    ("indexed_rows", "Rows in segments that have a graph, dead ones among them.", "rows_indexed"),
    (
        "unindexed_rows",
        "How far the index is behind: rows that are to get a graph, and are scanned until then.",
        "rows_waiting",
    ),
    ("unreachable_rows", "Rows that no walk over a graph can come to.", "unreachable"),
    ("index_bytes", "Bytes of the graphs' files.", "bytes"),
)


class HubCollector:
    """The families of a hub, for a registry, or to be read as they are.

    Args:
        hub: The hub.
        versions_max: So many of the largest versions have series of their own.
    """

    def __init__(self, hub: Hub, versions_max: int) -> None:
        self._hub = hub
        self._versions_max = versions_max

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing is read to be registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families, as of now."""
        hub, store = self._hub, self._hub._store
        yield InfoMetricFamily("ehub", "The release.", {"release": ehub.__version__})
        yield counter("ehub_batches", "Batches of writes since the hub was made.", store.seq)
        yield gauge("ehub_hub_bytes", "What the hub takes on the disk.", disk_bytes(hub.path))
        room = shutil.disk_usage(hub.path).free
        yield gauge("ehub_disk_free_bytes", "What the disk of the hub has left.", room)
        found = figures_of_versions(hub)
        yield gauge("ehub_spaces", "Spaces.", len({space for (space, _), _ in found}))
        yield gauge(
            "ehub_versions", "Versions of spaces.", sum(1 for key, _ in found if visible(key))
        )
        yield from of_versions(found, self._versions_max)
        yield from of_indexer((figures for _, figures in found), store.work_stats())
        if not hub.read_only:  # what another process writes is counted there
            yield from of_writing(store.write_stats())


Key = tuple[str, str]
Figures = dict[str, Any]


def figures_of_versions(hub: Hub) -> list[tuple[Key, Figures]]:
    """The figures of each version, the largest first."""
    found = []
    for space in hub.spaces():
        for table in hub._store.versions(space):
            try:
                found.append(((space, table.version), figures_of(table)))
            except NotFoundError:  # dropped meanwhile
                continue
    return sorted(found, key=lambda one: -one[1]["rows"])


def figures_of(table: _store.Table) -> Figures:
    """The figures of a version."""
    _, segments = table.stats()
    return {
        **table.index_stats(),
        "segments": len(segments),
        "dead_rows": sum(dead for _, _, dead, _ in segments),
        "segment_bytes": sum(size for _, _, _, size in segments),
    }


def visible(key: Key) -> bool:
    """Whether a version is one that users know."""
    return not key[1].startswith(names.HIDDEN)


def of_versions(found: Sequence[tuple[Key, Figures]], versions_max: int) -> Iterator[Metric]:
    """The families of versions: the largest by name, then the others together."""
    named = [one for one in found if visible(one[0])][:versions_max]
    known = {key for key, _ in named}
    rest = [figures for key, figures in found if key not in known]
    for name, text, field in OF_VERSIONS:
        family = GaugeMetricFamily(f"ehub_{name}", text, labels=VERSION_LABELS)
        for key, figures in named:
            family.add_metric(key, figures[field])
        if rest:
            family.add_metric(REST, sum(figures[field] for figures in rest))
        yield family


def of_indexer(all_figures: Iterable[Figures], work: Figures) -> Iterator[Metric]:
    """The work of the indexer, which is one for all versions."""
    figures = next(iter(all_figures), None)
    if figures is None:
        return
    yield counter(
        "ehub_index_rebuilds", "Graphs that were damaged and built again.", figures["rebuilds"]
    )
    yield gauge(
        "ehub_index_building_rows",
        "Rows so far of the graph that is being built.",
        figures["rows_building"],
    )
    yield gauge(
        "ehub_index_rows_per_second",
        "Rows a second of the hub's last build.",
        work["build_rate"],
    )


def of_writing(stats: Figures) -> Iterator[Metric]:
    """The log and the disk."""
    for make, name, text, field in OF_WRITING:
        yield make(f"ehub_{name}", text, stats[field])


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A family of one value."""
    return GaugeMetricFamily(name, text, value=float(value))


def histogram(
    name: str, text: str, durations: tuple[list[tuple[float, int]], float]
) -> HistogramMetricFamily:
    """Durations as the engine counts them: each by its own bound, here by that and all below."""
    counts, seconds = durations
    sums = accumulate(count for _, count in counts)
    bounds = ("+Inf" if bound == float("inf") else repr(bound) for bound, _ in counts)
    buckets = list(zip(bounds, sums, strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=seconds)


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """A family of one value that only grows."""
    return CounterMetricFamily(name, text, value)


# Of all writing: how it is told, the name, what it is, and where the store's figures have it.
OF_WRITING: tuple[tuple[Callable[[str, str, Any], Metric], str, str, str], ...] = (
    (
        counter,
        "log_writes",
        "Writes to the log, each of all batches that came at once.",
        "log_writes",
    ),
    (counter, "log_bytes", "Bytes written to the log.", "log_bytes"),
    (
        gauge,
        "log_due_bytes",
        "Bytes of the log that the next checkpoint folds into segments.",
        "log_bytes_due",
    ),
    (gauge, "unsealed_rows", "Rows that the log holds.", "rows_unsealed"),
    (
        histogram,
        "sync_duration_seconds",
        "Syncs of the log, and of vectors beside it, that writes waited for.",
        "syncs",
    ),
    (histogram, "checkpoint_duration_seconds", "Checkpoints.", "checkpoints"),
    (
        gauge,
        "snapshots_open",
        "Snapshots that are held, for clients or by named averages.",
        "snapshots",
    ),
    (
        gauge,
        "write_failed",
        "1 if a failed write or sync has ended all writing until the next start.",
        "is_poisoned",
    ),
)
