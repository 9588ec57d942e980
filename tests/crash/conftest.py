"""What the attacks on durability share: how a report of the C++ explorers fails a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def check(report: dict, reproduce: str) -> dict:
    """Fail if the attack found something; each finding begins with the seed that reproduces it."""
    if report["failures"]:
        found = "\n".join(report["failures"])
        pytest.fail(f"{len(report['failures'])} findings, {reproduce}:\n{found}", pytrace=False)
    return report


@pytest.fixture
def survive(record_property) -> Callable[..., dict]:
    """Checks a report and notes in the test's record how much was tried."""
    tried = {"points": 0, "images": 0}

    def checked(report: dict, reproduce: str) -> dict:
        for name in tried:
            tried[name] += report[name]
            record_property(name, tried[name])
        return check(report, reproduce)

    return checked
