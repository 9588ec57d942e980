"""The vector to search around when examples say what is wanted, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub.errors import InvalidArgumentError, InvalidVectorError
from ehub.types import Metric, Vectors

__all__ = ["as_examples", "query_of"]

# Of an average of directions, below which it is the rounding of zero.
LENGTH_MIN = 1e-9


def as_examples(examples: Any, what: str) -> list[Any] | Vectors:
    """Keys as a list, or vectors as they are: an array of floats."""
    if isinstance(examples, np.ndarray) and examples.dtype.kind == "f":
        return examples
    if isinstance(examples, (str, bytes)) or not hasattr(examples, "__iter__"):
        raise TypeError(
            f"{what} is {examples!r:.100}; expected a collection of keys, or float32[n, dims]"
        )
    return examples.tolist() if isinstance(examples, np.ndarray) else list(examples)


def query_of(positive: Vectors, negative: Vectors, weights: Any, metric: Metric) -> Vectors:
    """The average of the positives, moved away from that of the negatives: float32[1, dims].

    With negatives it is p + (p - n). Under cosine a vector counts by its direction alone.

    Args:
        positive: float32[n, dims], at least one.
        negative: float32[m, dims].
        weights: One number for each positive, or for each positive and then each negative.
        metric: That of the space.
    """
    if len(positive) == 0:
        raise InvalidArgumentError("recommend() needs at least one positive example")
    ours, theirs = split_weights(weights, len(positive), len(negative))
    query = mean_of(positive, ours, metric)
    if len(negative):
        query = 2 * query - mean_of(negative, theirs, metric)
    if metric == "cosine" and np.linalg.norm(query) < LENGTH_MIN:
        raise InvalidVectorError(
            "the examples cancel each other out: what is left is zero and has no direction, which "
            "cosine compares"
        )
    return query.astype(np.float32)[np.newaxis]


def split_weights(
    weights: Any, positives: int, negatives: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """The weights of the positives, and of the negatives if there are any for them."""
    if weights is None:
        return None, None
    if np.shape(weights) == (positives,):
        return _arrays.as_weights(weights, positives), None
    every = _arrays.as_weights(weights, positives + negatives)
    return (None, None) if every is None else (every[:positives], every[positives:])


def mean_of(
    vectors: Vectors, weights: NDArray[np.float64] | None, metric: Metric
) -> NDArray[np.float64]:
    """The weighted mean of some vectors, or of their directions."""
    rows = vectors.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(norms > 0, norms, 1)
    total = 0.0 if weights is None else float(weights.sum())
    if weights is not None and (not np.isfinite(total) or total == 0):
        raise InvalidArgumentError(f"the sum of the weights is {total}")
    mean: NDArray[np.float64] = rows.mean(axis=0) if weights is None else (weights / total) @ rows
    return mean
