"""tests/test_scan.py over a server."""

from __future__ import annotations

import test_scan
from adopted import DISK, LAZY, LOOP, PLAIN, adopt

EMBEDDED_ONLY = {
    "test_sealed_rows_are_read_where_they_lie": DISK,
    "test_stored_rows_cannot_be_written_to": DISK,
    "test_a_batch_is_a_buffer_for_anybody": DISK,
    "test_an_export_does_not_copy_sealed_rows": DISK,
    "test_an_export_is_a_stream_of_the_moment_of_the_call": DISK,
    "test_an_export_shows_a_bar_on_a_terminal": DISK,
}
NOT_AIO = {
    "test_batch_rows_has_limits": LAZY,
    "test_threads_share_a_scan_without_sharing_a_batch": LOOP,
    "test_an_export_can_be_stored_again": PLAIN,
    "test_an_export_has_two_columns_without_nulls": PLAIN,
    "test_a_scan_outlives_its_space": LAZY,
}

adopt(globals(), test_scan, EMBEDDED_ONLY, NOT_AIO)
