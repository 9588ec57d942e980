"""tests/test_named_averages.py over a server."""

from __future__ import annotations

import test_named_averages
from adopted import AVERAGES, PRIVATE, adopt

EMBEDDED_ONLY = {
    "test_many_groups_change_in_one_batch": PRIVATE,
    "test_keys_with_any_characters_are_told_apart": PRIVATE,
    "test_a_refused_average_leaves_nothing": PRIVATE,
    "test_what_an_average_is_made_of_is_hidden": PRIVATE,
    "test_deleting_the_version_or_the_space_deletes_its_averages": PRIVATE,
    "test_an_average_that_is_gone_answers_no_call": AVERAGES,
    "test_a_snapshot_of_both_is_of_one_time": AVERAGES,
    "test_verify_finds_a_mean_that_is_not_that_of_its_members": PRIVATE,
    "test_verify_finds_a_mean_that_is_missing": PRIVATE,
    "test_verify_lets_the_last_bit_differ_for_sums_depend_on_their_order": PRIVATE,
}
NOT_AIO = {}

adopt(globals(), test_named_averages, EMBEDDED_ONLY, NOT_AIO)
