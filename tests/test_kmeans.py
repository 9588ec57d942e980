"""k-means finds the clusters that there are, the same on any number of cores."""

from __future__ import annotations

import numpy as np
import pytest
from cores import one_core
from indexed import METRICS

import ehub

DIMS = 24


@pytest.fixture
def hub(tmp_path):
    with ehub.open(tmp_path, durability="off") as hub:
        yield hub


def blobs(k: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows in clusters that lie far apart, and which cluster each is in."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, DIMS)) * 10
    labels = rng.integers(0, k, rows)
    return (centres[labels] + rng.standard_normal((rows, DIMS)) * 0.1).astype(np.float32), labels


def filled(hub: ehub.Hub, vectors: np.ndarray, metric: str, name: str = "items") -> ehub.Space:
    items = hub.create_space(name, vectors.shape[1], metric=metric, key_type="int")
    items.multiset(np.arange(len(vectors)), vectors)
    return items


def nearest(metric: str, rows: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: the centroid of each row, and its distance."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    if metric == "cosine":
        distances = 1 - rows / np.linalg.norm(rows, axis=1, keepdims=True) @ centroids.T
    else:
        distances = ((rows[:, None] - centroids[None]) ** 2).sum(axis=2)
    return distances.argmin(axis=1), distances.min(axis=1)


@pytest.mark.parametrize("metric", METRICS)
def test_clusters_that_lie_apart_are_found(hub, metric):
    vectors, labels = blobs(7, 3000)
    found = filled(hub, vectors, metric).kmeans(7)
    assert (found.centroids.dtype, found.centroids.shape) == (np.float32, (7, DIMS))
    assert found.converged
    assert found.rows == len(vectors) == found.counts.sum()
    assert sorted(found.counts) == sorted(np.bincount(labels))
    own, distances = nearest(metric, vectors, found.centroids)
    assert np.bincount(own, minlength=7).tolist() == found.counts.tolist()
    np.testing.assert_allclose(found.inertia, distances.sum(), rtol=1e-4, atol=1e-3)
    assert "k=7" in repr(found)
    for cluster in range(7):
        rows = vectors[own == cluster].astype(np.float64)
        if metric == "cosine":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        mean = rows.mean(axis=0)
        if metric == "cosine":
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(found.centroids[cluster], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_neither_cores_nor_a_second_time_change_a_bit(hub, metric):
    rng = np.random.default_rng(3)
    items = filled(hub, rng.standard_normal((20_000, DIMS), dtype=np.float32), metric)
    first = items.kmeans(40, seed=5, iterations=4)
    with one_core():
        again = items.kmeans(40, seed=5, iterations=4)
    assert first.centroids.tobytes() == again.centroids.tobytes()
    assert (first.inertia, first.counts.tolist()) == (again.inertia, again.counts.tolist())
    other = items.kmeans(40, seed=6, iterations=4)
    assert other.centroids.tobytes() != first.centroids.tobytes()


def test_iterations_make_it_better(hub):
    rng = np.random.default_rng(4)
    items = filled(hub, rng.standard_normal((5000, DIMS), dtype=np.float32), "l2")
    inertia = [items.kmeans(20, iterations=n).inertia for n in (0, 1, 3, 25)]
    assert inertia == sorted(inertia, reverse=True)
    assert inertia[0] > 1.05 * inertia[-1]
    assert items.kmeans(20, iterations=3).iterations == 3
    assert not items.kmeans(20, iterations=0).converged


def test_as_many_clusters_as_rows_is_each_row(hub):
    vectors, _ = blobs(3, 50)
    found = filled(hub, vectors, "l2").kmeans(50)
    assert found.counts.tolist() == [1] * 50
    assert found.inertia == 0
    assert sorted(map(tuple, found.centroids)) == sorted(map(tuple, vectors))


def test_more_clusters_than_rows_is_an_error(hub):
    vectors, _ = blobs(3, 50)
    items = filled(hub, vectors, "l2")
    with pytest.raises(ehub.InvalidArgumentError, match="k is 51, and there are 50 rows"):
        items.kmeans(51)
    with pytest.raises(ehub.InvalidArgumentError, match="there are 0 rows"):
        hub.create_space("empty", 2).kmeans(1)
    with pytest.raises(ehub.InvalidArgumentError, match="sample is 2, fewer than the 3"):
        items.kmeans(3, sample=2)
    for options in ({"k": 0}, {"k": 2, "seed": -1}, {"k": 2, "iterations": -1}):
        with pytest.raises(ehub.InvalidArgumentError):
            items.kmeans(**options)


def test_equal_rows_leave_clusters_empty_and_nothing_else(hub):
    items = filled(hub, np.ones((100, DIMS), np.float32), "l2")
    found = items.kmeans(3)
    assert found.counts.tolist() == [100, 0, 0]
    assert (found.centroids == 1).all()
    assert found.inertia == 0


def test_an_empty_cluster_moves_to_the_farthest_row(hub):
    """Two rows far away, many equal ones: three seeds among the equal ones would lose both."""
    vectors = np.zeros((40_000, DIMS), np.float32)
    vectors[20_000:, 0] = 1
    vectors[7] = 50
    vectors[8] = -50
    found = filled(hub, vectors, "l2").kmeans(4, iterations=10)
    assert sorted(found.counts) == [1, 1, 19_998, 20_000]


def test_a_sample_stands_for_all(hub):
    vectors, _ = blobs(5, 20_000)
    items = filled(hub, vectors, "cosine")
    found = items.kmeans(5, sample=1000)
    assert found.rows == found.counts.sum() == 1000
    whole = items.kmeans(5)
    own, _ = nearest("cosine", whole.centroids, found.centroids)
    assert sorted(own) == list(range(5))
    assert items.kmeans(5, sample=10**9).rows == len(vectors)


def test_dead_rows_count_for_nothing(hub):
    vectors, _ = blobs(2, 500)
    items = filled(hub, np.concatenate([vectors, vectors + 1000]), "l2")
    hub.checkpoint()
    items.multidelete(range(500, 1000))
    alone = filled(hub, vectors, "l2", "alone")
    assert items.kmeans(2).counts.tolist() == alone.kmeans(2).counts.tolist()
    assert items.kmeans(2).centroids.tobytes() == alone.kmeans(2).centroids.tobytes()


def test_many_clusters_are_seeded_without_repeats(hub):
    rng = np.random.default_rng(8)
    items = filled(hub, rng.standard_normal((3000, 8), dtype=np.float32), "l2")
    found = items.kmeans(1000, iterations=0)
    assert len({tuple(row) for row in found.centroids.tolist()}) == 1000
    assert found.counts.min() >= 1


def test_vectors_whose_distances_overflow_are_clustered_all_the_same(hub):
    vectors = np.ones((300, 4), np.float32)
    vectors[:100] = 3e38
    vectors[100:200] = -3e38
    found = filled(hub, vectors, "l2").kmeans(3)
    assert np.isfinite(found.centroids).all()
    assert found.counts.sum() == 300
