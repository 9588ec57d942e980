"""The libraries that are compared, one class each behind one small protocol.

A contender builds its index from rows in memory and saves it; the process that asks loads what was
saved. Row i has the id i. What a library needs besides is its author's default, or what its own
entry in ann-benchmarks uses; hnswlib's M=16 and ef_construction=200 are the ones that others are
compared at, and graphs of others get as many links and as wide a search where they have them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import ehub
from ehub.bench.data import Ids, batches
from ehub.types import Metric, Vectors

__all__ = ["BASELINE", "CONTENDERS", "Contender", "Search", "as_ids", "quiet"]

BASELINE = "hnswlib"
M = 16
EF_CONSTRUCTION = 200

Search: TypeAlias = Callable[[Vectors], Any]


class Contender(ABC):
    """One library with one setting. `metric` and `threads` are for the build."""

    name: str
    module: str  # what Python imports
    package: str  # what pip installs
    setting: str  # for people
    metrics: tuple[Metric, ...] = ("cosine", "l2", "ip")

    @classmethod
    def installed(cls) -> bool:
        """Whether the library is there; it is not imported to find out."""
        return importlib.util.find_spec(cls.module) is not None

    @classmethod
    def version(cls) -> str:
        """The version of the library."""
        try:
            return version(cls.package)
        except PackageNotFoundError:
            return "unknown"

    @abstractmethod
    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        """Make an index of the rows: what is timed."""

    @abstractmethod
    def save(self, directory: Path) -> int:
        """Put the index into the directory; return how many bytes it takes there."""

    @abstractmethod
    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        """Get ready to answer from what was saved."""

    @abstractmethod
    def one(self, ef: int, k: int) -> Search:
        """A function that answers one query, float32[dims], in the calling thread."""

    @abstractmethod
    def many(self, ef: int, k: int, threads: int) -> Search | None:
        """A function that answers float32[m, dims] on `threads` threads; None: it has none."""

    def ids(self, answer: Any) -> Any:
        """The row numbers in an answer of `one()`."""
        return answer[0]

    def ids_of_many(self, answer: Any) -> Any:
        """The row numbers in an answer of `many()`: one line for each query."""
        return self.ids(answer)

    def close(self) -> None:
        """Let go of everything."""
        vars(self).clear()


class Ehub(Contender):
    """This library: rows are stored durably, then the space is settled."""

    name = "ehub"
    module = "ehub"
    package = "ehub"
    setting = "defaults"
    hub: ehub.Hub | None = None

    @classmethod
    def version(cls) -> str:
        return ehub.__version__

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        self.hub = ehub.open(directory / "hub", durability="full")
        self.space = self.hub.create_space("rows", rows.shape[1], metric=metric, key_type="int")
        for start, piece in batches(rows):
            self.space.multiset(np.arange(start, start + len(piece)), piece)
        self.space.optimize()

    def save(self, directory: Path) -> int:
        """The index files alone: the vectors are data, which the hub stores anyway."""
        assert self.hub is not None
        size = self.space.index_stats().bytes
        self.hub.close()
        return size

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        self.hub = ehub.open(directory / "hub", read_only=True)
        self.space = self.hub.get_space("rows")

    def one(self, ef: int, k: int) -> Search:
        search = self.space.nearest_neighbors
        return lambda query: search(k, vector=query, ef=ef)

    def many(self, ef: int, k: int, threads: int) -> Search:
        search = self.space.multi_nearest_neighbors
        return lambda queries: search(k, vectors=queries, ef=ef)

    def ids(self, answer: Any) -> Any:
        return answer.keys

    def ids_of_many(self, answer: Any) -> Any:
        return [one.keys for one in answer]

    def close(self) -> None:
        if self.hub is not None:
            self.hub.close()
        super().close()


class Hnswlib(Contender):
    """hnswlib: what the others are compared with."""

    name = BASELINE
    module = "hnswlib"
    package = "hnswlib"
    setting = f"M={M} ef_construction={EF_CONSTRUCTION}"
    index: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        self.index = self.new(metric, rows.shape[1])
        self.index.init_index(max_elements=len(rows), M=M, ef_construction=EF_CONSTRUCTION)
        self.index.add_items(rows, num_threads=threads)

    def save(self, directory: Path) -> int:
        self.index.save_index(str(directory / "index"))
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        self.index = self.new(metric, rows.shape[1])
        self.index.load_index(str(directory / "index"))

    def new(self, metric: Metric, dims: int) -> Any:
        """An index without rows."""
        import hnswlib

        return hnswlib.Index(space=metric, dim=dims)

    def one(self, ef: int, k: int) -> Search:
        self.index.set_ef(ef)
        search = self.index.knn_query
        return lambda query: search(query, k=k, num_threads=1)

    def many(self, ef: int, k: int, threads: int) -> Search:
        self.index.set_ef(ef)
        search = self.index.knn_query
        return lambda queries: search(queries, k=k, num_threads=threads)


class Faiss(Contender):
    """What faiss's indexes have in common."""

    module = "faiss"
    package = "faiss-cpu"
    factory: str
    index: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(rows.shape[1], self.factory, kind)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        if not self.index.is_trained:
            self.index.train(rows)
        self.index.add(rows)

    def save(self, directory: Path) -> int:
        import faiss

        faiss.write_index(self.index, str(directory / "index"))
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        import faiss

        self.index = faiss.read_index(str(directory / "index"))

    def one(self, ef: int, k: int) -> Search:
        many = self.many(ef, k, 1)
        return lambda query: many(query[np.newaxis])

    def many(self, ef: int, k: int, threads: int) -> Search:
        import faiss

        faiss.omp_set_num_threads(threads)
        self.index.hnsw.efSearch = ef
        search = self.index.search
        return lambda queries: search(queries, k)

    def ids(self, answer: Any) -> Any:
        return answer[1]


class FaissHnsw(Faiss):
    """faiss: HNSW over float32."""

    name = "faiss-hnsw"
    factory = f"HNSW{M},Flat"
    setting = f"{factory} efConstruction={EF_CONSTRUCTION}"


class FaissHnswSq8(Faiss):
    """faiss: HNSW over 8-bit codes, without looking at float32 again."""

    name = "faiss-hnsw-sq8"
    factory = f"HNSW{M},SQ8"
    setting = f"{factory} efConstruction={EF_CONSTRUCTION}"


class Usearch(Contender):
    """What usearch's indexes have in common."""

    module = "usearch"
    package = "usearch"
    dtype: str
    index: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        self.index = self.new(metric, rows.shape[1])
        self.index.add(np.arange(len(rows), dtype=np.uint64), rows, threads=threads)

    def save(self, directory: Path) -> int:
        self.index.save(str(directory / "index"))
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        self.index = self.new(metric, rows.shape[1])
        self.index.load(str(directory / "index"))

    def new(self, metric: Metric, dims: int) -> Any:
        """An index without rows."""
        from usearch.index import Index

        kind = {"l2": "l2sq", "cosine": "cos", "ip": "ip"}[metric]
        return Index(
            ndim=dims,
            metric=kind,
            dtype=self.dtype,
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )

    def one(self, ef: int, k: int) -> Search:
        self.index.expansion_search = ef
        search = self.index.search
        return lambda query: search(query, k, threads=1)

    def many(self, ef: int, k: int, threads: int) -> Search:
        self.index.expansion_search = ef
        search = self.index.search
        return lambda queries: search(queries, k, threads=threads)

    def ids(self, answer: Any) -> Any:
        return answer.keys


class UsearchF32(Usearch):
    """usearch over float32."""

    name = "usearch-f32"
    dtype = "f32"
    setting = f"connectivity={M} expansion_add={EF_CONSTRUCTION} f32"


class UsearchBf16(Usearch):
    """usearch over bfloat16."""

    name = "usearch-bf16"
    dtype = "bf16"
    setting = f"connectivity={M} expansion_add={EF_CONSTRUCTION} bf16"


class Pyglass(Contender):
    """pyglass: HNSW over 4-bit codes, float32 looked at again; its fastest setting."""

    name = "pyglass"
    module = "glass"
    package = "pyglass-portable"
    setting = f"HNSW R={2 * M} L={EF_CONSTRUCTION} SQ4U, FP32 after"
    metrics = ("cosine", "l2")  # of vectors of any length its "IP" finds hardly anything
    searcher: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        import glass

        glass.set_num_threads(threads)
        kind = "L2" if metric == "l2" else "IP"
        index = glass.Index("HNSW", metric=kind, quant="SQ8U", R=2 * M, L=EF_CONSTRUCTION)
        self.graph = index.build(rows)

    def save(self, directory: Path) -> int:
        """The links alone; codes and vectors are made anew from the rows at every start."""
        self.graph.save(str(directory / "index"))
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        import glass

        graph = glass.Graph(str(directory / "index"))
        kind = "L2" if metric == "l2" else "IP"
        self.searcher = glass.Searcher(graph, rows, kind, "SQ4U", "FP32")
        self.searcher.optimize(len(os.sched_getaffinity(0)))

    def one(self, ef: int, k: int) -> Search:
        self.searcher.set_ef(ef)
        search = self.searcher.search
        return lambda query: search(query, k)

    def many(self, ef: int, k: int, threads: int) -> Search:
        self.searcher.set_ef(ef)
        search = self.searcher.batch_search
        return lambda queries: search(queries, k, threads)


class Vsag(Contender):
    """vsag: its graph over 8-bit codes, float32 looked at again."""

    name = "vsag"
    module = "pyvsag"
    package = "pyvsag"
    setting = f"hgraph max_degree={2 * M} ef_construction={EF_CONSTRUCTION} sq8_uniform, fp32 after"
    index: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        self.index = self.new(metric, rows.shape[1], threads)
        numbers = np.arange(len(rows), dtype=np.int64)
        self.index.build(rows.reshape(-1), numbers, len(rows), rows.shape[1])

    def save(self, directory: Path) -> int:
        self.index.save(str(directory / "index"))
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        self.index = self.new(metric, rows.shape[1], 1)
        self.index.load(str(directory / "index"))

    def new(self, metric: Metric, dims: int, threads: int) -> Any:
        """An index without rows."""
        import pyvsag

        pyvsag.set_logger_off()
        graph = {
            "base_quantization_type": "sq8_uniform",
            "precise_quantization_type": "fp32",
            "use_reorder": True,
            "max_degree": 2 * M,
            "ef_construction": EF_CONSTRUCTION,
            "build_thread_count": threads,
        }
        kinds = {"dtype": "float32", "metric_type": metric, "dim": dims, "index_param": graph}
        return pyvsag.Index("hgraph", json.dumps(kinds))

    def one(self, ef: int, k: int) -> Search:
        options = json.dumps({"hgraph": {"ef_search": ef}})
        search = self.index.knn_search
        return lambda query: search(query, k, options)

    def many(self, ef: int, k: int, threads: int) -> None:
        return None


class ScalableVs(Contender):
    """Scalable Vector Search: a Vamana graph over float16."""

    name = "scalable-vs"
    module = "svs"
    package = "scalable-vs"
    setting = f"Vamana degree={2 * M} window={EF_CONSTRUCTION} float16"
    index: Any

    def build(self, rows: Vectors, metric: Metric, threads: int, directory: Path) -> None:
        import svs

        alpha = 1.2 if metric == "l2" else 0.95  # as its documentation tells for each
        parameters = svs.VamanaBuildParameters(
            alpha=alpha, graph_max_degree=2 * M, window_size=EF_CONSTRUCTION
        )
        halves = rows.astype(np.float16)
        self.index = svs.Vamana.build(parameters, halves, kind_of(metric), num_threads=threads)

    def save(self, directory: Path) -> int:
        parts = [str(directory / part) for part in ("config", "graph", "data")]
        self.index.save(*parts)
        return bytes_in(directory)

    def load(self, directory: Path, rows: Vectors, metric: Metric) -> None:
        import svs

        self.index = svs.Vamana(
            str(directory / "config"),
            svs.GraphLoader(str(directory / "graph")),
            svs.VectorDataLoader(str(directory / "data"), svs.DataType.float16),
            distance=kind_of(metric),
            num_threads=1,
        )

    def one(self, ef: int, k: int) -> Search:
        return self.many(ef, k, 1)

    def many(self, ef: int, k: int, threads: int) -> Search:
        self.index.num_threads = threads
        self.index.search_window_size = ef
        search = self.index.search
        return lambda queries: search(queries, k)


def kind_of(metric: Metric) -> Any:
    """The metric as svs names it; under cosine all vectors have length 1."""
    import svs

    return svs.L2 if metric == "l2" else svs.MIP


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind
    for kind in (
        Ehub,
        Hnswlib,
        FaissHnsw,
        FaissHnswSq8,
        UsearchF32,
        UsearchBf16,
        Pyglass,
        Vsag,
        ScalableVs,
    )
}


def bytes_in(directory: Path) -> int:
    """What the files under a directory hold."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def as_ids(lines: Any, k: int) -> Ids:
    """Row numbers of many answers as int64[m, k]; -1 where an answer is shorter."""
    found = np.full((len(lines), k), -1, np.int64)
    for line, ids in zip(found, lines, strict=True):
        numbers: NDArray[np.int64] = np.asarray(ids).reshape(-1)[:k].astype(np.int64)
        line[: len(numbers)] = numbers
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Send what libraries print from within C++ to nowhere."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in saved:
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
