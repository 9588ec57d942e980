"""tests/test_versions.py over a server."""

from __future__ import annotations

import test_versions
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_versions, EMBEDDED_ONLY, NOT_AIO)
