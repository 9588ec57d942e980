"""How often something may happen."""

from __future__ import annotations

import threading
import time

__all__ = ["Pace"]


class Pace:
    """So many at once, then so many a second. Any thread may use it."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst, self._per_second = float(burst), per_second
        self._lock = threading.Lock()
        self._left, self._filled = self._burst, time.monotonic()

    def take(self) -> bool:
        """Whether another one may happen, which counts it."""
        with self._lock:
            now = time.monotonic()
            more = (now - self._filled) * self._per_second
            self._left, self._filled = min(self._burst, self._left + more), now
            if self._left < 1:
                return False
            self._left -= 1
            return True
