"""A file that nobody can open for a while: by it tests hold the engine up where it opens one."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def held_up(file: Path | str) -> Iterator[int]:
    """Whoever opens a file, which nobody has open, waits meanwhile: this process has a lease of it.

    For some 45 seconds at most (/proc/sys/fs/lease-break-time). Gives the lease.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("this system has no leases of files")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        # The signal that somebody waits; the usual one would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield descriptor
    finally:
        os.close(descriptor)


def is_waited_for(lease: int) -> bool:
    """Whether somebody waits to open the file."""
    return fcntl.fcntl(lease, fcntl.F_GETLEASE) != fcntl.F_WRLCK
