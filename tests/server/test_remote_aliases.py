"""tests/test_aliases.py over a server."""

from __future__ import annotations

import test_aliases
from adopted import DISK, LOOP, PRIVATE, adopt

EMBEDDED_ONLY = {
    "test_a_readers_space_follows_the_alias_after_refresh": DISK,
    "test_a_promotion_is_refused_if_the_alias_was_moved_while_it_was_measured": PRIVATE,
}
NOT_AIO = {
    "test_a_stream_goes_to_one_version_whatever_is_promoted_meanwhile": LOOP,
    "test_a_call_reads_the_version_that_it_began_with": LOOP,
}

adopt(globals(), test_aliases, EMBEDDED_ONLY, NOT_AIO)
