"""tests/test_snapshot.py over a server."""

from __future__ import annotations

import test_snapshot
from adopted import DISK, PLAIN, adopt

EMBEDDED_ONLY = {
    "test_a_reader_process_keeps_its_snapshot_whatever_the_writer_does": DISK,
    "test_what_was_gone_before_a_restore_is_gone_at_that_time_for_ever": DISK,
}
NOT_AIO = {
    "test_a_snapshot_cannot_be_written_nor_pickled_without_a_tag": PLAIN,
}

adopt(globals(), test_snapshot, EMBEDDED_ONLY, NOT_AIO)
