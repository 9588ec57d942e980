"""tests/test_snapshot.py over a server."""

from __future__ import annotations

import test_snapshot
from adopted import DISK, PLAIN, adopt

EMBEDDED_ONLY = {
    "test_a_reader_process_keeps_its_snapshot_whatever_the_writer_does": DISK,
}
NOT_AIO = {
    "test_a_snapshot_cannot_be_written_nor_pickled_without_a_tag": PLAIN,
}

adopt(globals(), test_snapshot, EMBEDDED_ONLY, NOT_AIO)
