"""Hubs behind a server for tests, and the asyncio client as tests that wait can use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import ehub
import ehub.aio
from ehub.server.config import Limits, ServerConfig
from ehub.server.requests import Requests
from ehub.server.serve import Server, Service
from ehub.server.service import service

CLIENTS = ("grpc", "aio")


def service_of(hub: ehub.Hub, config: ServerConfig) -> Service:
    """The service as it was configured."""
    return service(hub, config.limits, None, config.backup_to)


@contextmanager
def serving(path: Path, *interceptors: Any, limits: Limits | None = None, **told: Any) -> Iterator:
    """A server over the hub in `path`, on a free port of this machine if none is told."""
    config = ServerConfig(limits=limits or Limits(), **{"port": 0, **told})
    with (
        ehub.open(path, durability="off") as hub,
        Server(hub, config, [service_of(hub, config)], interceptors) as server,
    ):
        yield server


def filled(hub: Any, rows: int = 500, dims: int = 8) -> tuple[Any, Any]:
    """A space with rows, and their vectors."""
    items = hub.create_space("items", dims=dims, metric="l2")
    vectors = np.random.default_rng(1).standard_normal((rows, dims), np.float32)
    items.multiset([f"k{i}" for i in range(rows)], vectors)
    return items, vectors


@contextmanager
def client_of(server: Server, kind: str, **options: Any) -> Iterator[Any]:
    """A client of a kind; that of asyncio on a loop in a thread of its own, and waited for."""
    if kind == "grpc":
        with ehub.connect(server.address, **options) as hub:
            yield hub
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with Blocking(loop, waited(loop, ehub.aio.connect(server.address, **options))) as hub:
            yield hub
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def losing_an_answer(monkeypatch: Any) -> list[Any]:
    """Have the next numbered request be applied and its answer lost; it is then in the list."""
    once, lost = Requests.once, []

    def losing(self: Requests, asked: Any, apply: Any, *content: Any) -> Any:
        answer = once(self, asked, apply, *content)
        if not lost:
            lost.append(asked)
            raise ehub.UnavailableError("the answer is lost")
        return answer

    monkeypatch.setattr(Requests, "once", losing)
    return lost


def waited(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    """The result of a coroutine, run on a loop of another thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)


class Blocking:
    """Something of `ehub.aio`, each of whose methods is waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, awaits: Any) -> None:
        self.__dict__.update(_loop=loop, _awaits=awaits)

    def _wait(self, value: Any) -> Any:
        if asyncio.iscoroutine(value):
            value = waited(self._loop, value)
        if hasattr(value, "__anext__"):
            return self._steps(value)
        return self._bare(value)

    def _bare(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self._bare, value))
        is_ours = type(value).__module__ == "ehub.aio"
        return Blocking(self._loop, value) if is_ours else value

    def _steps(self, steps: Any) -> Iterator[Any]:
        while True:
            try:
                yield waited(self._loop, anext(steps))
            except StopAsyncIteration:
                return

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._awaits, name)
        if not callable(value) or type(value).__module__ == "ehub.aio":
            return self._wait(value)

        def call(*args: Any, **options: Any) -> Any:
            plain = [bare(one) for one in args]
            named = {key: bare(one) for key, one in options.items()}
            return self._wait(value(*plain, **named))

        return call

    def __len__(self) -> int:
        if not hasattr(self._awaits, "count"):
            return len(self.spaces())
        return self._wait(self._awaits.count())

    def __contains__(self, key: object) -> bool:
        return self._wait(self._awaits.contains(key))

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self._awaits, "__aiter__"):
            return iter(self.spaces())
        return self._steps(aiter(self._awaits))

    def __getitem__(self, key: Any) -> Any:
        return self.get(key)

    def __setitem__(self, key: Any, vector: Any) -> None:
        self.set(key, vector)

    def __delitem__(self, key: Any) -> None:
        self.delete(key)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocking) and self._awaits == other._awaits

    def __hash__(self) -> int:
        return hash(self._awaits)

    def __repr__(self) -> str:
        return repr(self._awaits).replace("<ehub.aio.", "<ehub.")


def bare(value: Any) -> Any:
    """What a Blocking stands for."""
    return value._awaits if isinstance(value, Blocking) else value
