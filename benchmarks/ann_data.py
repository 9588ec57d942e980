"""The sets that the index is measured on: images, sentence embeddings, text statistics, long rows.

None of them comes with the project. Images are Debian's package dataset-fashion-mnist; sentence
embeddings are an HDF5 file of ann-benchmarks' layout that $EHUB_BENCH_WORDNET names; the third is
made here, of the texts in that file or else of Python's own library. A set that cannot be had is
left out, and standard error says so. Long rows are random, made as embeddings of large models are:
in clusters, of far fewer dimensions than they have numbers.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.harness import SEED
from ehub.bench.data import Trial, from_hdf5
from ehub.demo.corpus import collect_texts

PACKAGE = "dataset-fashion-mnist"
FASHION = Path(os.environ.get("EHUB_BENCH_FASHION", "/usr/share/datasets/fashion-mnist"))
IDX_HEADER_BYTES = 16
IDX_DIMS = 28 * 28

QUERIES = 2_000
ROWS_LEAST = 5_000  # fewer are scanned, which measures no index
TEXT_ROWS = 60_000
TEXT_DIMS = 200

LONG_ROWS = 50_000
LONG_RANK = 96
LONG_CLUSTERS = 1_000


def wordnet_file() -> Path | None:
    """The file of sentence embeddings, if the environment names one."""
    name = os.environ.get("EHUB_BENCH_WORDNET")
    return Path(name) if name else None


def shortened(trial: Trial, scale: float) -> Trial:
    """The trial with a share of its rows and queries; their true neighbors are others then."""
    if scale >= 1:
        return trial
    rows = trial.rows[: max(ROWS_LEAST, int(len(trial.rows) * scale))]
    queries = trial.queries[: max(100, int(QUERIES * scale))]
    return Trial(trial.name, trial.metric, rows, queries)


def fashion(scale: float) -> Trial | None:
    """fashion-mnist-784: 60,000 images of clothes, and the first 2,000 of those for tests."""
    files = [FASHION / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    if not all(file.exists() for file in files):
        return left_out("fashion-mnist", f"{FASHION} does not exist; apt-get install {PACKAGE}")
    rows, queries = map(images, files)
    return shortened(Trial("fashion-mnist-784", "l2", rows, queries[:QUERIES].copy()), scale)


def images(file: Path) -> np.ndarray:
    """The pictures of an IDX file as float32[n, 784]."""
    raw = gzip.decompress(file.read_bytes())
    pixels = np.frombuffer(raw, np.uint8, offset=IDX_HEADER_BYTES)
    return pixels.reshape(-1, IDX_DIMS).astype(np.float32)


def wordnet(scale: float) -> Trial | None:
    """wordnet-minilm-384: 115,659 glosses as a small sentence transformer sees them."""
    file = wordnet_file()
    if file is None:
        return left_out("wordnet-minilm-384", "$EHUB_BENCH_WORDNET names no file")
    trial = from_hdf5(file, QUERIES)  # whose neighbors are those of unrounded vectors
    return shortened(replace(trial, neighbors=None), scale)


def text(scale: float) -> Trial | None:
    """TF-IDF and a truncated SVD of texts, lengths kept: heavy tails, near-duplicates."""
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        return left_out("text-svd-200", "needs scikit-learn")
    wanted = TEXT_ROWS + QUERIES if scale >= 1 else ROWS_LEAST + 100
    texts = some_texts(wanted)
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2, dtype=np.float32)
    svd = TruncatedSVD(TEXT_DIMS, random_state=SEED)
    vectors = svd.fit_transform(counts.fit_transform(texts)).astype(np.float32)
    vectors = np.ascontiguousarray(vectors[np.abs(vectors).max(axis=1) > 0])
    queries = min(QUERIES, len(vectors) // 20)
    return Trial("text-svd-200", "l2", vectors[queries:], vectors[:queries].copy())


def some_texts(count: int) -> list[str]:
    """At most so many texts, in random order, always the same."""
    file = wordnet_file()
    if file is None:
        texts = list(collect_texts(2 * count).values())
    else:
        import h5py

        with h5py.File(file, "r") as opened:
            texts = [text.decode() for text in opened["texts"][:]]
    order = np.random.default_rng(SEED).permutation(len(texts))[:count]
    return [texts[i] for i in order]


def long_rows(dims: int) -> Callable[[float], Trial]:
    """Unit vectors: clusters in 96 directions of falling variance among `dims`, and noise."""

    def source(scale: float) -> Trial:
        rng = np.random.default_rng(SEED)
        spread = np.arange(1, LONG_RANK + 1, dtype=np.float32) ** -0.5
        turn = np.linalg.qr(rng.standard_normal((dims, LONG_RANK)))[0].T.astype(np.float32)
        count, queries = (LONG_ROWS + QUERIES, QUERIES) if scale >= 1 else (ROWS_LEAST + 100, 100)
        cluster = rng.integers(LONG_CLUSTERS, size=count)
        centers = rng.standard_normal((LONG_CLUSTERS, LONG_RANK), dtype=np.float32)
        inner = centers[cluster] + rng.standard_normal((count, LONG_RANK), dtype=np.float32)
        vectors = (inner * spread) @ turn
        noise = rng.standard_normal(vectors.shape, dtype=np.float32)
        vectors += noise * (0.1 * vectors.std())
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Trial(f"long-{dims}", "cosine", vectors[queries:], vectors[:queries].copy())

    return source


def left_out(name: str, reason: str) -> None:
    """Say which set cannot be had."""
    print(f"left out: {name}: {reason}", file=sys.stderr)


SETS: dict[str, Callable[[float], Trial | None]] = {
    "fashion": fashion,
    "wordnet": wordnet,
    "text": text,
    "long-768": long_rows(768),
    "long-1536": long_rows(1536),
}
