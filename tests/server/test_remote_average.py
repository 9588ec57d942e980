"""tests/test_average.py over a server."""

from __future__ import annotations

import test_average
from adopted import DISK, adopt

EMBEDDED_ONLY = {
    "test_a_reader_averages_too": DISK,
}
NOT_AIO = {}

adopt(globals(), test_average, EMBEDDED_ONLY, NOT_AIO)
