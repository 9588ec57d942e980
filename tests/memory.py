"""How much memory this process takes at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path


def peak_kib() -> int:
    """The most that it has had, since it last forgot that."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert told is not None
    return int(told[1])


def watched_kib() -> Callable[[], int]:
    """Gives what says by how much memory has grown since, at most, in KiB.

    What was taken before is forgotten: under a peak of another test no growth would be seen.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is taken now
    before = peak_kib()
    return lambda: peak_kib() - before
