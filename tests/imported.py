"""Rows that are imported by `ehub import`, and what a space has of them."""

from __future__ import annotations

import numpy as np

import ehub

ROWS = 257
DIMS = 12
KEYS = [f"schlüssel {i}, «{i}»" for i in range(ROWS)]
VECTORS = np.random.default_rng(11).standard_normal((ROWS, DIMS)).astype(np.float32)


def contents(hub, space="s"):
    """A space as a dict of bytes."""
    with ehub.open(hub, read_only=True) as store:
        keys, vectors = store.get_space(space).to_numpy()
    return {key: vector.tobytes() for key, vector in zip(keys.tolist(), vectors, strict=True)}


def rows(keys, vectors):
    """What `contents` gives for these."""
    vectors = np.asarray(vectors, np.float32)
    return {key: vector.tobytes() for key, vector in zip(keys, vectors, strict=True)}


def refused(cli, hub, path, *options):
    """What an import says that is refused as it should be."""
    code, out, err = cli("import", hub, path, "--space", "s", *options)
    assert code == 1
    assert out == ""
    assert "\nerror: " in "\n" + err
    assert "Traceback" not in err
    return err
