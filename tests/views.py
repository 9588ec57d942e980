"""Pairs of spaces to compare, and rows that are one another rotated."""

from __future__ import annotations

import itertools

import numpy as np

import ehub

_numbers = itertools.count()


def normal(seed: int, n: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims)).astype(np.float32)


def rotation(seed: int, dims: int) -> np.ndarray:
    """float64[dims, dims], orthogonal."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))[0]


def rotated(rows: np.ndarray, seed: int = 9) -> np.ndarray:
    return (rows @ rotation(seed, rows.shape[1])).astype(np.float32)


def space(
    hub: ehub.Hub,
    rows: np.ndarray,
    keys: list | np.ndarray | None = None,
    metric: str = "l2",
    name: str | None = None,
) -> ehub.Space:
    """A space with these rows, under their numbers if no keys are given."""
    keys = np.arange(len(rows)) if keys is None else keys
    strings = len(keys) > 0 and isinstance(keys[0], str)
    made = hub.create_space(
        name or f"space-{next(_numbers)}",
        rows.shape[1],
        metric=metric,
        key_type="str" if strings else "int",
    )
    made.multiset(keys, rows)
    return made
