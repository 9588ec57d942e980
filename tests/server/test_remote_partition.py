"""tests/test_partition.py over a server."""

from __future__ import annotations

import test_partition
from adopted import DISK, ENGINE, LAZY, PLAIN, adopt

EMBEDDED_ONLY = {
    "test_deletes_survive_reopening": DISK,
    "test_a_read_only_hub_reads_partitions_and_writes_none": DISK,
    "test_a_bound_set_takes_no_key_from_another_partition": ENGINE,
    "test_no_bound_set_comes_between_a_look_and_a_write": ENGINE,
}
NOT_AIO = {
    "test_a_partition_is_not_pickled": PLAIN,
    "test_a_view_shows_whole_batches_of_a_partition": LAZY,
}

adopt(globals(), test_partition, EMBEDDED_ONLY, NOT_AIO)
