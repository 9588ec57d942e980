"""Memory for batches that come in several messages: bounded for each, and for all together."""

from __future__ import annotations

import threading

from ehub.closing import Closing
from ehub.errors import InvalidArgumentError, UnavailableError
from ehub.server.config import Limits

__all__ = ["Room", "Unfinished"]


class Unfinished:
    """How much of batches that are not whole yet the server holds. Any thread may use it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._bytes = 0

    def room(self) -> Room:
        """Room for the batches of one stream, given back at the end of a `with` block."""
        return Room(self)

    def change(self, size: int) -> None:
        """Hold so much more, or less; an UnavailableError if that is too much."""
        with self._lock:
            if size > 0 and self._bytes + size > self.limits.batches_bytes:
                raise UnavailableError(
                    f"the server holds {self._bytes:,} bytes of batches that are not whole yet; "
                    f"its limit `batches_bytes` is {self.limits.batches_bytes:,}: try again later"
                )
            self._bytes += size


class Room(Closing):
    """What one stream holds of that, for the thread that serves it."""

    def __init__(self, of: Unfinished) -> None:
        self._of = of
        self._bytes = 0

    def take(self, size: int) -> None:
        """Hold another message.

        Raises:
            InvalidArgumentError: The batch is too large.
            UnavailableError: There are too many batches under way.
        """
        if self._bytes + size > self._of.limits.batch_bytes:
            raise InvalidArgumentError(
                f"an atomic batch has more than {self._of.limits.batch_bytes:,} bytes, the "
                "server's limit `batch_bytes`: write it in parts"
            )
        self._of.change(size)
        self._bytes += size

    def close(self) -> None:
        """Hold nothing any more."""
        self._of.change(-self._bytes)
        self._bytes = 0
