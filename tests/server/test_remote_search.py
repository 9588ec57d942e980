"""tests/test_search.py over a server."""

from __future__ import annotations

import test_search
from adopted import DISK, ENGINE, adopt

EMBEDDED_ONLY = {
    "test_a_search_that_is_stopped_is_an_error_and_no_damage": ENGINE,
    "test_the_instruction_set_can_be_chosen_and_changes_no_answer": DISK,
}
NOT_AIO = {}

adopt(globals(), test_search, EMBEDDED_ONLY, NOT_AIO)
