"""Embeddinghub for ann-benchmarks: `ann_benchmarks/algorithms/ehub/module.py` there."""

import shutil
import tempfile

import numpy as np

import ehub

from ..base.module import BaseANN


class Ehub(BaseANN):
    """A space of a hub in a temporary directory; what is timed as the build ends settled."""

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
        self.space.multiset(np.arange(len(rows)), rows)
        self.space.optimize()

    def set_query_arguments(self, ef):
        self.ef = ef
        self.name = f"ehub ({self.method_param}, ef: {ef})"

    def query(self, v, n):
        return self.space.nearest_neighbors(n, vector=v, ef=self.ef).keys

    def batch_query(self, X, n):
        self.res = self.space.multi_nearest_neighbors(n, vectors=X, ef=self.ef)

    def get_batch_results(self):
        return [neighbors.keys for neighbors in self.res]

    def done(self):
        self.hub.close()
        shutil.rmtree(self.directory, ignore_errors=True)
