"""tests/test_migration.py over a server."""

from __future__ import annotations

import test_migration
from adopted import adopt

EMBEDDED_ONLY = {}
NOT_AIO = {}

adopt(globals(), test_migration, EMBEDDED_ONLY, NOT_AIO)
