"""tests/test_subindex.py over a server."""

from __future__ import annotations

import test_subindex
from adopted import DISK, PLAIN, PRIVATE, adopt

EMBEDDED_ONLY = {
    "test_what_a_subindex_is_made_of_goes_with_it": PRIVATE,
    "test_a_deleted_version_gets_none_and_the_next_of_its_name_has_none": DISK,
    "test_a_subindex_survives_reopening_and_is_read_beside_the_writer": DISK,
    "test_a_subindex_is_a_set_of_keys_and_a_dict_whatever_is_done": DISK,
    "test_a_large_partition_and_a_large_subindex_get_a_graph_each": DISK,
    "test_rows_that_came_and_went_since_are_found_and_not_found": DISK,
    "test_a_graph_is_made_anew_when_its_set_has_changed_much": DISK,
    "test_a_graph_that_cannot_be_used_costs_time_and_nothing_else": DISK,
    "test_graphs_go_with_their_segment_and_their_subindex": DISK,
    "test_the_same_rows_make_the_same_graph": DISK,
    "test_many_small_partitions_live_beside_a_large_one": DISK,
}
NOT_AIO = {
    "test_a_subindex_is_copied_but_not_pickled": PLAIN,
}

adopt(globals(), test_subindex, EMBEDDED_ONLY, NOT_AIO)
