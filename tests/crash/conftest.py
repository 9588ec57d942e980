"""What the attacks on durability share: reports of the C++ explorers, processes to be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kill_client import KillServer


def check(report: dict, reproduce: str) -> dict:
    """Fail if the attack found something; each finding begins with the seed that reproduces it."""
    if report["failures"]:
        found = "\n".join(report["failures"])
        pytest.fail(f"{len(report['failures'])} findings, {reproduce}:\n{found}", pytrace=False)
    return report


@pytest.fixture
def survive(record_property) -> Callable[..., dict]:
    """Checks a report and notes in the test's record how much was tried: tests/conftest.py sums.

    `points` are crashes by default; say as `what` if they are something else.
    """
    tried: dict[str, int] = {}

    def checked(report: dict, reproduce: str, what: str = "points") -> dict:
        for name, count in ((what, report["points"]), ("images", report["images"])):
            tried[name] = tried.get(name, 0) + count
            record_property(name, tried[name])
        return check(report, reproduce)

    return checked


@pytest.fixture
def server() -> Iterator[KillServer]:
    """Starts processes that are killed."""
    server = KillServer()
    yield server
    server.close()
