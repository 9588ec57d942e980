"""What the caller of the running call may see and who it is, as interceptors have found it.

An interceptor sets both around a call; the services ask. Without interceptors everybody is nobody,
and sees everything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ehub._native import _store
    from ehub.server.admission import Visit

__all__ = ["may_on_hub", "may_see", "may_write", "partitions", "principal", "visit"]

# Who calls, for the log.
principal: ContextVar[str] = ContextVar("principal", default="")

# The call as those see it who look after all of them, as long as it runs; None: nobody does.
visit: ContextVar[Callable[[], Visit | None]] = ContextVar("visit", default=lambda: None)

# Given a version and the partitions that a read names (none: it names none), the partitions to look
# into; none is the whole version. What is read is then a view of these partitions, so the rest is
# not there for searches, scans and averages alike. Raises a PermissionDeniedError if the caller may
# not read one that is named, and a NotFoundError if there is nothing that it may read.
PartitionsOf = Callable[["_store.Table", "tuple[str, ...]"], "tuple[str, ...]"]
partitions: ContextVar[PartitionsOf | None] = ContextVar("partitions", default=None)

# Whether the caller may know of a space: lists leave out the others.
may_see: ContextVar[Callable[[str], bool] | None] = ContextVar("may_see", default=None)

# Whether the caller may do what a verb says to the hub as a whole.
may_on_hub: ContextVar[Callable[[str], bool] | None] = ContextVar("may_on_hub", default=None)

# Given a version, the partitions that a write names (none: it names none, so rows of any may
# change) and the keys that are set (None: it deletes, in these partitions only), raises a
# PermissionDeniedError if the caller may not write there, or a key is now in a partition where it
# may not. Returns the partitions in which keys must be, too, when they are set; None: anywhere.
MayWrite = Callable[
    ["_store.Table", "tuple[str, ...]", "_store.Keys | None"], "tuple[str, ...] | None"
]
may_write: ContextVar[MayWrite | None] = ContextVar("may_write", default=None)
