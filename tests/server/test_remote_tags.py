"""tests/test_tags.py over a server."""

from __future__ import annotations

import test_tags
from adopted import DISK, adopt

EMBEDDED_ONLY = {
    "test_a_reader_tags_nothing_and_sees_tags_after_refresh": DISK,
}
NOT_AIO = {}

adopt(globals(), test_tags, EMBEDDED_ONLY, NOT_AIO)
