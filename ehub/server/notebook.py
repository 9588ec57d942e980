"""What the server writes into the audit log: denials, mutations, changes of keys and grants."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from ehub.access import AuditLog, NotAuthenticated, Principal
from ehub.access.principals import NOBODY
from ehub.errors import ClosedError
from ehub.server.pace import Pace
from ehub.server.rules import Need
from ehub.wire.failures import code_of

__all__ = ["Notebook"]

log = logging.getLogger("ehub.server.audit")

# Lines about callers that proved nothing: so many at once, so many a second. The rest is counted.
STRANGERS_BURST = 50.0
STRANGERS_PER_SECOND = 10.0

NAME_CHARS_MAX = 300


class Notebook:
    """Writes the audit log of a server; any thread may. Without a log nothing is written.

    What fails on a full disk is counted, and told by the next line that can be written (`missed`):
    calls go on, because a delete may be what makes room. So are denials of callers who proved
    nothing, beyond ten lines a second (`suppressed`).
    """

    def __init__(self, audit: AuditLog | None) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._strangers = Pace(STRANGERS_BURST, STRANGERS_PER_SECOND)
        self._counts = {"missed": 0, "suppressed": 0}

    def denial(
        self, method: str, who: Principal, peer: str, needs: Iterable[Need], error: Exception
    ) -> None:
        """A call was refused."""
        if who.how == NOBODY.how and not self._may_tell_of_stranger():
            return
        if isinstance(error, NotAuthenticated):
            status = "UNAUTHENTICATED"
        else:
            code = code_of(error)
            status = "UNKNOWN" if code is None else code.name
        self._append("denial", method, who, peer, needs, {"status": status, "why": str(error)})

    def mutation(
        self,
        method: str,
        who: Principal,
        peer: str,
        needs: Iterable[Need],
        answer: Any,
        *,
        failed: bool,
    ) -> None:
        """A call has changed something, or failed, and may have before that.

        Args:
            method: Its path.
            who: Who calls.
            peer: From where.
            needs: What it needed.
            answer: The last one that it gave; of a call that failed None, if it gave none.
            failed: Whether it failed after this answer.
        """
        rows = None if failed else getattr(answer, "rows", getattr(answer, "count", None))
        more = {
            "rows": rows if isinstance(rows, int) else None,
            "place": getattr(answer, "place", None),
        }
        ended = {"ended": "failed"} if failed else {}
        self._append("mutation", method, who, peer, needs, more | ended)

    def change(self, method: str, who: Principal, peer: str, what: dict[str, Any]) -> None:
        """A key or a grant was made or taken back."""
        self._append("grant", method, who, peer, (), what, durable=True)

    def close(self) -> None:
        """Write what was only counted, and close the log."""
        if self._audit is not None:
            if any(self._counts.values()):
                self._append("end", "", Principal(""), "", (), {})
            self._audit.close()

    def _append(
        self,
        action: str,
        method: str,
        who: Principal,
        peer: str,
        needs: Iterable[Need],
        more: dict[str, Any],
        *,
        durable: bool = False,
    ) -> None:
        if self._audit is None:
            return
        with self._lock:
            counts = {name: number for name, number in self._counts.items() if number}
            self._counts = dict.fromkeys(self._counts, 0)
        fields = {
            "action": action,
            "principal": shortened(who.name),
            "how": who.how if who.name else "",
            "peer": peer,
            "method": method.rpartition("/")[2] if method.startswith("/ehub.") else method,
            **described(needs),
            **{name: shortened(value) for name, value in more.items()},
            **counts,
        }
        try:
            self._audit.append(fields, durable=durable)
        except (OSError, ClosedError) as error:
            log.error("the audit log was not written", extra={"error": str(error)})
            with self._lock:
                for name, number in counts.items():
                    self._counts[name] += number
                self._counts["missed"] += 1

    def _may_tell_of_stranger(self) -> bool:
        """Whether another line about a caller who proved nothing is due; if not, it is counted."""
        if self._strangers.take():
            return True
        with self._lock:
            self._counts["suppressed"] += 1
        return False


def described(needs: Iterable[Need]) -> dict[str, Any]:
    """What a call was about: one resource as fields, several as a list of such."""
    found = [
        {
            "verb": need.verb,
            "space": shortened(need.resource.space),
            "partitions": [shortened(name) for name in need.resource.partitions or ()][:10],
        }
        for need in list(needs)[:10]
    ]
    cleaned = [{name: value for name, value in one.items() if value} for one in found]
    return {"on": cleaned} if len(cleaned) > 1 else (cleaned or [{}])[0]


def shortened(value: Any) -> Any:
    """A text of a caller, no longer than it deserves."""
    return value[:NAME_CHARS_MAX] if isinstance(value, str) else value
