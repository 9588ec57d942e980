"""tests/test_kmeans.py over a server."""

from __future__ import annotations

import test_kmeans
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_kmeans, EMBEDDED_ONLY, NOT_AIO)
