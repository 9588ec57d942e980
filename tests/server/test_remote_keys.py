"""tests/test_keys.py over a server."""

from __future__ import annotations

import test_keys
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_keys, EMBEDDED_ONLY, NOT_AIO)
