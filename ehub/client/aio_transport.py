"""The way to a server for asyncio: the calls of `transport.py`, awaited (bridge.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc

from ehub._progress import END_SECONDS
from ehub.client.bridge import await_only, run
from ehub.client.duplex import Duplex
from ehub.client.lines import Line, LineBroken, timed_out
from ehub.client.transport import LOOK_SECONDS, METHODS, Answer, Options, Transport
from ehub.errors import UnavailableError
from ehub.wire.methods import packed

__all__ = ["AioTransport"]


class AioTransport(Transport):
    """Calls on an event loop; for that loop alone."""

    has_threads = False

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._channel = (
            grpc.aio.insecure_channel(options.address, options.channel_options)
            if options.tls is None
            else grpc.aio.secure_channel(
                options.address, options.credentials(), options.channel_options
            )
        )
        self._calls = {name: method.call(self._channel) for name, method in METHODS.items()}
        # Of messages that are bytes already.
        self._lines = self._channel.stream_stream(METHODS["Calls"].path)

    def _line(self) -> Line:
        return AioLine(self._lines(metadata=self.options.caller))

    def _unary(
        self,
        name: str,
        request: Any,
        connects_within: float | None = None,
        within: float | None = None,
    ) -> Any:
        timing = self._timing(connects_within, within)
        return await_only(self._calls[name](request, metadata=self.options.metadata, **timing))

    def _in_time(self, name: str, request: Any, seconds: float) -> Any:
        return self._unary(name, request, within=seconds)

    def _stream(self, name: str, request: Any) -> Iterator[Any]:
        return AioAnswers(self._calls[name](request, metadata=self.options.metadata))

    def _duplex(self, name: str) -> Duplex:
        return AioDuplex(self, self._calls[name](metadata=self.options.metadata))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        await_only(asyncio.sleep(seconds))

    def aside(self, ask: Callable[[], Answer]) -> Answer:
        """The result of a function that waits, in a thread."""
        return await_only(asyncio.to_thread(ask))

    def event(self) -> LoopEvent:
        """What one task waits for, and another sets."""
        return LoopEvent()

    def beside(self) -> LoopBeside:
        """What looks at a call from beside it: there is no thread for it."""
        return LoopBeside()

    def close(self) -> None:
        """Close the channel."""
        if not self.closed:
            self.closed = True
            if self.lines is not None:
                self.lines.close()
            await_only(self._channel.close())


class LoopEvent:
    """What tasks of one event loop wait for, and set."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wait(self) -> None:
        """Wait until it is set."""
        await_only(self._event.wait())

    def set(self) -> None:
        """Wake who waits."""
        self._event.set()


class LoopBeside:
    """Steps in a task of the event loop, between those of others; a step may wait."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._step: Callable[[], None] = lambda: None

    def start(self, step: Callable[[], None]) -> None:
        """Take `step` again and again."""
        self._step = step
        self._task = asyncio.get_running_loop().create_task(self._run(step))

    async def _run(self, step: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await run(step)

    def end(self, *, last: bool) -> None:
        """Cancel the task; a last step that takes long, too."""
        if self._task is None:
            return
        self._task.cancel()
        if last:
            with suppress(asyncio.TimeoutError):
                await_only(asyncio.wait_for(run(self._step), END_SECONDS))


class AioAnswers(Iterator[Any]):
    """The answers of a call, each awaited."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __next__(self) -> Any:
        answer = await_only(self._call.read())
        if answer is grpc.aio.EOF:
            raise StopIteration
        return answer

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()


class AioDuplex(Duplex):
    """A call in both directions."""

    def __init__(self, transport: AioTransport, call: Any) -> None:
        self._transport = transport
        self._call = call

    def send(self, message: Any) -> None:
        """Send one more message; what the call ended with comes out of `receive()`."""
        await_only(written(self._call, packed(message)))

    def receive(self) -> Any:
        """The next answer."""
        try:
            answer = await_only(self._call.read())
        except grpc.RpcError as error:
            raise self._transport.exception(error) from None
        if answer is grpc.aio.EOF:
            raise UnavailableError("the server has ended the stream")
        return answer

    def close(self) -> None:
        """End the call."""
        self._call.cancel()


class AioLine(Line):
    """A stream of small calls.

    grpcio never wakes who waits to write the first message of a stream that is cancelled before it
    has begun. So the wait for an answer is a task of its own, and ends with a future, too.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        # Set when nobody may wait any more: whether that is because the time is over.
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        """Whether its end has come."""
        return bool(self._call.done())

    def ask(self, data: bytes, seconds: float | None) -> bytes:
        """The answer to a message."""
        return await_only(self._exchange(data, seconds))

    async def _exchange(self, data: bytes, seconds: float | None) -> bytes:
        loop = asyncio.get_running_loop()
        answer = loop.create_task(answered(self._call, data))
        clock = None if seconds is None else loop.call_later(seconds, self._end, True)
        try:
            await asyncio.wait((answer, self._ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.cancel()
            if clock is not None:
                clock.cancel()
        if self._ended.done() and self._ended.result():
            raise timed_out()
        if not answer.done() or answer.cancelled():
            raise LineBroken
        return self._message(answer.result())

    def _message(self, found: bytes | grpc.StatusCode) -> bytes:
        """What was answered, if it was that."""
        if isinstance(found, bytes):
            return found
        self.code = found
        raise LineBroken(found)

    def _end(self, expired: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(expired)
        self._call.cancel()

    def cancel(self) -> None:
        """End the stream, from its event loop; whoever waits for an answer gets none."""
        self._end(False)

    def close(self) -> None:
        """End the stream."""
        self._end(False)


async def answered(call: Any, data: bytes) -> bytes | grpc.StatusCode:
    """The answer to a message on a stream, or how the stream has ended instead."""
    with suppress(grpc.RpcError):
        if await written(call, data):
            answer = await call.read()
            if isinstance(answer, bytes):
                return answer
    code: grpc.StatusCode = await call.code()
    return code


async def written(call: Any, data: bytes) -> bool:
    """Write a message to a stream; whether it was, for a call that is over takes no more.

    What a call ended with while its `write()` waits, grpcio replaces by INTERNAL. So the core is
    asked past it, where a release has that door.
    """
    inner = getattr(call, "_cython_call", None)
    write = getattr(inner, "send_serialized_message", call.write)
    if call.done():
        return False
    try:
        await call.wait_for_connection()
        await write(data)
    except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        return False
    return True
