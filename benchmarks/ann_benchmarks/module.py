"""Embeddinghub for ann-benchmarks: `ann_benchmarks/algorithms/ehub/module.py` there."""

import shutil
import tempfile

import numpy as np

import ehub

from ..base.module import BaseANN


class Ehub(BaseANN):
    """A space of a hub in a temporary directory; what is timed as the build ends settled.

    Some sets of the metric angular hold zero vectors, which have no direction. Those among the rows
    are in no answer, and those among the queries have none.
    """

    def __init__(self, metric, method_param):
        self.metric = {"angular": "cosine", "euclidean": "l2", "dot": "ip", "ip": "ip"}[metric]
        self.method_param = method_param
        self.ef = None
        self.name = f"ehub ({method_param})"
        self.directory = tempfile.mkdtemp(prefix="ehub-")
        self.hub = ehub.open(self.directory)

    def fit(self, X):
        rows = np.ascontiguousarray(X, dtype=np.float32)
        self.space = self.hub.create_space(
            "rows",
            rows.shape[1],
            metric=self.metric,
            key_type="int",
            M=self.method_param["M"],
            ef_construction=self.method_param["efConstruction"],
        )
        numbers = np.arange(len(rows))
        if self.metric == "cosine" and not (kept := rows.any(axis=1)).all():
            numbers, rows = numbers[kept], rows[kept]
        self.space.multiset(numbers, rows)
        self.space.optimize()

    def set_query_arguments(self, ef):
        self.ef = ef
        self.name = f"ehub ({self.method_param}, ef: {ef})"

    def query(self, v, n):
        try:
            return self.space.nearest_neighbors(n, vector=v, ef=self.ef).keys
        except ehub.InvalidVectorError:
            if self.metric == "cosine" and not np.any(v):
                return []
            raise

    def batch_query(self, X, n):
        try:
            self.res = self.space.multi_nearest_neighbors(n, vectors=X, ef=self.ef)
            self.kept = None
        except ehub.InvalidVectorError:
            # Looked at only here: queries are timed.
            self.kept = np.any(X, axis=1)
            if self.metric != "cosine" or self.kept.all():
                raise
            queries = np.asarray(X)[self.kept]
            self.res = self.space.multi_nearest_neighbors(n, vectors=queries, ef=self.ef)

    def get_batch_results(self):
        found = (neighbors.keys for neighbors in self.res)
        if self.kept is None:
            return list(found)
        return [next(found) if is_kept else [] for is_kept in self.kept]

    def done(self):
        self.hub.close()
        shutil.rmtree(self.directory, ignore_errors=True)
