"""What every test runs with: the package under test, and how hypothesis searches."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from commands import Outcome

ROOT = Path(__file__).resolve().parent.parent

NOT_BUILT = """
ehub is not installed with its test module, so there is nothing to test. From the checkout:

    pip install '.[test]' && pytest

from an unpacked source distribution:

    EHUB_TESTING=1 pip install '.[test]' && pytest

or, to edit and test in place:

    EHUB_TESTING=1 python setup.py build_ext --inplace && python -m pytest
"""


def pytest_configure(config: pytest.Config) -> None:
    """Find the package under test, or say how to build it."""
    # Ignored where a shell has begun this in the background, and then by every child process too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prefer_installed_package()
    if tested_module() is None:
        raise pytest.UsageError(NOT_BUILT)


def prefer_installed_package() -> None:
    """Test the checkout if it was built in place, else the installed package.

    `python -m pytest` and the workers of xdist have the checkout on sys.path, where an `ehub/`
    without compiled modules would hide the installed package.
    """
    if list((ROOT / "ehub" / "_native").glob("*.so")):
        os.environ["PYTHONPATH"] = str(ROOT)  # for child processes
        return
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    importlib.invalidate_caches()


@pytest.fixture(scope="session", autouse=True)
def away_from_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run elsewhere: a child process looks for modules in its working directory first.

    And look after sys.path again: lizard, which a test imports, puts the working directory there.
    """
    prefer_installed_package()
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs a command of `ehub`; gives its exit code and what it wrote."""
    from commands import outcome_of  # not before the package under test is found

    for name in ("EMBEDDINGHUB_DATA", "EMBEDDINGHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return partial(outcome_of, capsys)


def tested_module() -> str | None:
    """Where the C++ internals that the tests need would be imported from."""
    try:
        spec = importlib.util.find_spec("ehub._native._testing")
    except ModuleNotFoundError:
        return None
    return spec.origin if spec else None


def pytest_report_header() -> str:
    """Say which build is being tested."""
    return f"ehub: {tested_module()}"


# What the tests record of how much they tried, and how the end of a run calls it.
TRIED = {
    "points": "crash points",
    "images": "disks opened afterwards",
    "cycles": "SIGKILL cycles",
    "damages": "damages",
    "failed_calls": "failed calls",
    "failed_allocations": "failed allocations",
    "full_disks": "full disks",
}


def sums_of_tried(reports: Iterable[pytest.TestReport]) -> dict[str, int]:
    """How much was tried in all; of what one test recorded more than once, the last counts."""
    sums = dict.fromkeys(TRIED, 0)
    for report in reports:
        last = dict(report.user_properties) if report.when == "call" else {}
        for name in sums:
            sums[name] += int(last.get(name, 0))
    return sums


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often the run crashed, killed and damaged a hub."""
    ended = [terminalreporter.getreports(outcome) for outcome in ("passed", "failed")]
    sums = sums_of_tried(chain.from_iterable(ended))
    tried = [f"{TRIED[name]}: {count:,}" for name, count in sums.items() if count]
    if tried:
        terminalreporter.write_line(", ".join(tried))


# `ci` finds the same examples each time, so that a red run can be repeated; `default` explores.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "slow",
    deadline=None,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)
