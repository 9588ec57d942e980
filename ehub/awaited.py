"""Objects of `ehub.aio`, told from those that calls wait for."""

from __future__ import annotations

__all__ = ["require_not_awaited"]


def require_not_awaited(given: object, instead: str) -> None:
    """Refuse an object of an asyncio client with a TypeError.

    Args:
        given: Anything.
        instead: What to do.
    """
    if type(given).__module__ == "ehub.aio" and hasattr(given, "_waits"):
        raise TypeError(f"{given!r:.200} belongs to an asyncio client: {instead}")
