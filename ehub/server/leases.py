"""Snapshots that are held for clients, until they are closed or nobody used them for a while."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass

from ehub.errors import NotFoundError, UnavailableError
from ehub.server.config import Limits
from ehub.snapshot import Snapshot
from ehub.wire.failures import SNAPSHOT_GONE

__all__ = ["Leases"]

CHECK_SECONDS_MAX = 10.0


@dataclass(slots=True)
class Lease:
    """One of them."""

    snapshot: Snapshot
    used: float


class Leases:
    """Held snapshots by handle: a text that cannot be guessed. Any thread may use it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._held: dict[str, Lease] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._expire, name="ehub-leases", daemon=True).start()

    def add(self, snapshot: Snapshot) -> str:
        """Hold a snapshot; its handle. An UnavailableError if there are too many."""
        handle = secrets.token_urlsafe(16)
        with self._lock:
            if len(self._held) < self._limits.snapshots and not self._closed.is_set():
                self._held[handle] = Lease(snapshot, time.monotonic())
                return handle
        snapshot.close()
        raise UnavailableError(
            f"the server holds {self._limits.snapshots:,} snapshots, its limit `snapshots`: close "
            "those that are done with"
        )

    def get(self, handle: str) -> Snapshot:
        """The snapshot of a handle; a NotFoundError if it was let go."""
        with self._lock:
            lease = self._held.get(handle)
            if lease is None:
                raise NotFoundError(
                    f"{SNAPSHOT_GONE}{self._limits.snapshot_idle_seconds:g} seconds, or the server "
                    "was started again since; a tag lasts"
                )
            lease.used = time.monotonic()
            return lease.snapshot

    def remove(self, handle: str) -> None:
        """Let a snapshot go; nothing happens if it is gone."""
        with self._lock:
            lease = self._held.pop(handle, None)
        if lease is not None:
            lease.snapshot.close()

    def count_in(self, space: str) -> int:
        """How many snapshots of a space are held."""
        with self._lock:
            return sum(lease.snapshot.space == space for lease in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def close(self) -> None:
        """Let all go."""
        self._closed.set()
        for handle in list(self._held):
            self.remove(handle)

    def _expire(self) -> None:
        idle = self._limits.snapshot_idle_seconds
        while not self._closed.wait(min(CHECK_SECONDS_MAX, idle / 4)):
            before = time.monotonic() - idle
            with self._lock:
                old = [handle for handle, lease in self._held.items() if lease.used < before]
            for handle in old:
                self.remove(handle)
