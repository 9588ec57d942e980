"""Promises of embedded use, kept over a server: the tests of tests/test_*.py, run on its clients.

A module here takes over the tests and fixtures of one there, with a `hub` of its own; so no promise
is written twice. It lists those that are about files or processes, which a client has none of.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
from served import CLIENTS, client_of, serving

DISK = "it looks at files of the hub, or opens them beside it"
ENGINE = "it asks the engine itself"
PRIVATE = "it looks into the facade's own state"
LOOP = "it waits within a step of the event loop"
LAZY = "an asynchronous iterator begins with its first step"
PLAIN = "the adapter of the asyncio client is not what is asked for"


def adopt(
    into: dict[str, Any],
    suite: ModuleType,
    embedded_only: Mapping[str, str],
    not_aio: Mapping[str, str] | None = None,
) -> None:
    """Take over the tests of a module.

    Args:
        into: The namespace of the module that takes them.
        suite: The module that has them.
        embedded_only: Tests that are left out, and why.
        not_aio: Tests that are left out for asyncio, and why.
    """
    known = {name for name in vars(suite) if name.startswith("test_")}
    left_out = {**embedded_only, **(not_aio or {})}
    assert set(left_out) <= known, f"no such tests: {sorted(set(left_out) - known)}"

    @pytest.fixture(params=CLIENTS)
    def hub(request, tmp_path):
        name = request.node.originalname
        if request.param == "aio" and name in (not_aio or {}):
            pytest.skip(not_aio[name])
        with serving(tmp_path / "served") as server, client_of(server, request.param) as client:
            yield client

    for name, value in vars(suite).items():
        if not name.startswith("__") and name not in embedded_only:
            into[name] = value
    into["hub"] = hub
