"""Code that waits, run in asyncio: where it would block a thread, its coroutine awaits instead.

The facade is written once, for callers that wait. `run()` runs a call of it in a greenlet of its
own; deep within, the transport hands what is to be awaited to `await_only()`, which parks the
greenlet until the event loop has the result. So the asyncio client has the same code, checks and
errors, needs no thread, and a task that is cancelled cancels its call. (SQLAlchemy does the same.)
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

__all__ = ["await_only", "iterate", "iterated", "run"]

Result = TypeVar("Result")
END: Any = object()


class Runner(greenlet):
    """A greenlet whose parent awaits for it."""


def await_only(awaitable: Awaitable[Result]) -> Result:
    """Wait for `awaitable`, in code that `run()` runs."""
    current = getcurrent()
    if not isinstance(current, Runner) or current.parent is None:
        raise RuntimeError("this belongs to an asyncio client: await its methods")
    result: Result = current.parent.switch(awaitable)
    return result


async def run(call: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """What `call` returns, awaiting what it waits for."""
    runner = Runner(lambda: call(*args, **options))
    # A greenlet begins without the caller's variables, such as the span that it is in.
    runner.gr_context = contextvars.copy_context()
    waits_for = runner.switch()
    while not runner.dead:
        try:
            found = await waits_for
        except BaseException as error:
            waits_for = runner.throw(error)
        else:
            waits_for = runner.switch(found)
    result: Result = waits_for
    return result


async def iterate(make: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
    """The items of an iterator whose steps wait."""
    items = await run(make)
    while (item := await run(next, items, END)) is not END:
        yield item


def iterated(items: AsyncIterable[Any]) -> Iterator[Any]:
    """The items of an asynchronous iterable, in code that `run()` runs."""
    steps = aiter(items)
    while (item := await_only(following(steps))) is not END:
        yield item


async def following(steps: AsyncIterator[Any]) -> Any:
    """The next item, or END."""
    try:
        return await steps.__anext__()
    except StopAsyncIteration:
        return END
