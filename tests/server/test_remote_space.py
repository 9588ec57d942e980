"""tests/test_space.py over a server."""

from __future__ import annotations

import test_space
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_space, EMBEDDED_ONLY, NOT_AIO)
