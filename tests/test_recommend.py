"""Recommendations are near the positives, away from the negatives, and never an example."""

from __future__ import annotations

import numpy as np
import pytest
from indexed import METRICS, distances, embeddings, filled, open_hub

import ehub

DIMS = 16


@pytest.fixture(scope="module", params=METRICS)
def indexed(request, tmp_path_factory):
    with open_hub(tmp_path_factory.mktemp("hub"), graph_rows_min=1000) as hub:
        rows = embeddings(1, 6000, DIMS)
        yield filled(hub, rows, request.param), rows


def query(metric, rows, positive, negative, weights=None):
    """The oracle: p, or p + (p - n)."""
    rows = rows.astype(np.float64)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mean = np.average(rows[positive], axis=0, weights=weights)
    return mean + (mean - rows[negative].mean(axis=0)) if negative else mean


@pytest.mark.parametrize("negative", [[], [17, 900, 4001]])
def test_what_is_nearest_to_the_examples_is_recommended(indexed, negative):
    items, rows = indexed
    positive = [3, 44, 555]
    found = items.recommend(20, positive=positive, negative=negative, exact=True)
    truth = distances(items.metric, query(items.metric, rows, positive, negative)[None], rows)[0]
    truth[positive + negative] = np.inf
    expected = np.argsort(truth)[:20]
    assert len(set(found.keys.tolist()) & set(expected.tolist())) >= 19  # ties in float32
    np.testing.assert_allclose(
        found.distances, truth[found.keys], rtol=1e-3, atol=1e-4 * np.abs(truth[expected]).max()
    )
    walked = items.recommend(20, positive=positive, negative=negative, ef=200)
    assert len(set(walked.keys.tolist()) & set(expected.tolist())) >= 17


def test_an_example_is_never_recommended(indexed):
    items, rows = indexed
    examples = list(range(0, 300, 3))
    found = items.recommend(500, positive=examples[:90], negative=examples[90:])
    assert len(found) == 500
    assert not set(found.keys.tolist()) & set(examples)
    every = items.recommend(len(rows), positive=[5, 5, 6], negative=[5])
    assert sorted(every.keys.tolist()) == [i for i in range(len(rows)) if i not in (5, 6)]


def test_weights_say_how_much_an_example_counts(indexed):
    items, rows = indexed
    alone = items.recommend(10, positive=[7], exact=True)
    heavy = items.recommend(11, positive=[7, 8], weights=[1, 0], exact=True)
    assert [key for key in alone.keys if key != 8] == heavy.keys.tolist()[: len(alone)][
        : len([key for key in alone.keys if key != 8])
    ]
    weights = [3, 1, 2]
    found = items.recommend(5, positive=[1, 2, 3], negative=[9, 10], weights=weights, exact=True)
    nearest = distances(
        items.metric, query(items.metric, rows, [1, 2, 3], [9, 10], weights)[None], rows
    )[0]
    nearest[[1, 2, 3, 9, 10]] = np.inf
    assert found.keys[0] == nearest.argmin()
    both = items.recommend(
        5, positive=[1, 2, 3], negative=[9, 10], weights=[*weights, 1, 1], exact=True
    )
    assert both == found


def test_filters_and_limits_hold(indexed):
    items, _ = indexed
    found = items.recommend(10, positive=[1, 2], filter=range(12), exact=True)
    assert set(found.keys.tolist()) == set(range(12)) - {1, 2}
    limit = float(found.distances[3])
    near = items.recommend(10, positive=[1, 2], filter=range(12), max_distance=limit, exact=True)
    assert len(near) == 4


def test_examples_may_be_vectors(indexed):
    items, rows = indexed
    by_key = items.recommend(5, positive=[1, 2], exact=True)
    by_vector = items.recommend(7, positive=rows[[1, 2]], exact=True)
    kept = [key for key in by_vector.keys.tolist() if key not in (1, 2)]
    assert kept[:5] == by_key.keys.tolist()[: len(kept[:5])]
    assert len(items.recommend(3, positive=[1], negative=rows[[5]])) == 3


def test_what_cannot_be_recommended_from_is_refused(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        items = hub.create_space("items", 2, metric="cosine")
        items.multiset({"a": [1, 0], "b": [-2, 0], "c": [0, 1]})
        with pytest.raises(ehub.InvalidVectorError, match="cancel each other out"):
            items.recommend(1, positive=["a", "b"])
        with pytest.raises(ehub.NotFoundError, match="no key 'x'"):
            items.recommend(1, positive=["a", "x"])
        with pytest.raises(ehub.NotFoundError, match="no key 'x'"):
            items.recommend(1, positive=["a"], negative=["x"])
        with pytest.raises(ehub.InvalidArgumentError, match="at least one positive"):
            items.recommend(1, positive=[], negative=["a"])
        with pytest.raises(TypeError, match="positive is 'a'"):
            items.recommend(1, positive="a")
        with pytest.raises(ehub.InvalidArgumentError, match="weights have shape"):
            items.recommend(1, positive=["a", "c"], weights=[1])
        with pytest.raises(ehub.InvalidArgumentError, match="sum of the weights is 0"):
            items.recommend(1, positive=["a", "c"], weights=[1, -1])
        with pytest.raises(ehub.DimensionError):
            items.recommend(1, positive=np.ones((1, 3)))
        assert items.recommend(5, positive=["a", "b", "c"]).keys.tolist() == []
