"""tests/test_erase.py over a server: what is erased is gone from its files while it runs."""

from __future__ import annotations

import pytest
import test_erase
from adopted import DISK, ENGINE, adopt

EMBEDDED_ONLY = {
    "test_what_was_erased_stays_so_when_the_hub_is_opened_again": DISK,
    "test_a_hub_that_only_reads_plans_and_does_not_erase": DISK,
    "test_memberships_and_means_forget_the_key": DISK,
    "test_means_of_before_go_where_the_membership_is_long_gone": ENGINE,
    "test_what_readers_held_goes_when_the_hub_is_opened_again": DISK,
    "test_the_command_asks_plans_and_erases": DISK,
    "test_the_command_needs_keys_of_the_right_kind": DISK,
    "test_an_acknowledged_erasure_outlives_a_kill": DISK,
    "test_graphs_are_built_again_without_the_rows": ENGINE,
    "test_a_sub_index_loses_an_erased_key_and_goes_on": DISK,
    "test_a_sub_index_of_a_reader_loses_an_erased_key_too": DISK,
}

adopt(globals(), test_erase, EMBEDDED_ONLY)


@pytest.fixture
def path(tmp_path):
    """Where the served hub is."""
    return tmp_path / "served"
