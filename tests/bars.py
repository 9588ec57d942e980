"""What bars a call has shown on a terminal that is none."""

from __future__ import annotations

import re
import threading

# Of a bar: what it says, and how much is done of how much.
COUNTED = re.compile(r"([^\r\n]*): +\d+%\|[^|]*\| *([\d.]+)([kM]?)/([\d.]+)([kM]?) ")
TIMES = {"": 1.0, "k": 1e3, "M": 1e6}


def counts(shown: str, what: str) -> list[tuple[float, float]]:
    """How far the bar of that title was each time it was drawn, and of how much."""
    return [
        (float(done) * TIMES[done_unit], float(total) * TIMES[total_unit])
        for title, done, done_unit, total, total_unit in COUNTED.findall(shown)
        if title == what
    ]


def require_steps(shown: str, what: str) -> None:
    """The bar has moved on before the end, never back, and to its end."""
    seen = counts(shown, what)
    dones = [done for done, _ in seen]
    assert dones == sorted(dones)
    assert any(0 < done < total for done, total in seen), shown
    assert seen[-1][0] == seen[-1][1] > 0


def watchers() -> list[str]:
    """The threads that look how far a call is."""
    return [one.name for one in threading.enumerate() if one.name == "ehub-progress"]
