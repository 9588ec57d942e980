"""tests/test_versions.py over a server."""

from __future__ import annotations

import test_versions
from adopted import DISK, adopt

EMBEDDED_ONLY = {
    "test_a_version_stays_frozen_when_its_process_is_killed": DISK,
}
NOT_AIO = {}

adopt(globals(), test_versions, EMBEDDED_ONLY, NOT_AIO)
