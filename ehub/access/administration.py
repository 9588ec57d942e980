"""Changes of keys and grants by somebody, each with its line in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from ehub.access.access import Access
from ehub.access.grants import Grant
from ehub.access.keys import ApiKey

__all__ = ["Administration"]


class Administration:
    """Who changes what, told.

    Args:
        access: What is changed.
        by: Who does it, for the records: a principal, or a user of this machine.
        tell: Takes the fields of a line of the audit log; called after each change.
    """

    def __init__(self, access: Access, by: str, tell: Callable[[dict[str, Any]], None]) -> None:
        self._access = access
        self._by = by
        self._tell = tell

    def create_key(
        self, name: str, grants: Iterable[Grant] = (), *, expires_in: timedelta | None = None
    ) -> tuple[str, ApiKey]:
        """`Access.create_key()`."""
        given = list(grants)
        token, key = self._access.create_key(
            name, given, expires_in=expires_in, created_by=self._by
        )
        about = {"to": key.principal, "key": key.id, "expires": key.expires}
        self._tell({"change": "create-key", **about, "grants": [str(one) for one in given]})
        return token, key

    def revoke(self, key: str) -> list[ApiKey]:
        """`Access.revoke()`."""
        ended = self._access.revoke(key)
        for one in ended:
            self._tell({"change": "revoke", "to": one.principal, "key": one.id})
        return ended

    def grant(self, principal: str, grant: Grant) -> None:
        """`Access.grant()`."""
        self._access.grant(principal, grant, created_by=self._by)
        self._tell({"change": "grant", "to": principal, "grants": [str(grant)]})

    def ungrant(self, principal: str, grant: Grant) -> None:
        """`Access.ungrant()`."""
        self._access.ungrant(principal, grant)
        self._tell({"change": "ungrant", "to": principal, "grants": [str(grant)]})
