"""tests/test_recommend.py over a server."""

from __future__ import annotations

import test_recommend
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_recommend, EMBEDDED_ONLY, NOT_AIO)
