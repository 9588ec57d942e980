"""The way to a server for asyncio: the calls of `transport.py`, awaited (bridge.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc

from ehub.client.bridge import await_only
from ehub.client.lines import Line, LineBroken, timed_out
from ehub.client.transport import METHODS, Duplex, Options, Transport
from ehub.errors import UnavailableError

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

    def _unary(self, name: str, request: Any, connects_within: float | None = None) -> Any:
        timing = self._timing(connects_within)
        return await_only(self._calls[name](request, metadata=self.options.metadata, **timing))

    def _stream(self, name: str, request: Any) -> Iterator[Any]:
        return AioAnswers(self._calls[name](request, metadata=self.options.metadata))

    def _duplex(self, name: str) -> Duplex:
        return AioDuplex(self, self._calls[name](metadata=self.options.metadata))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        await_only(asyncio.sleep(seconds))

    def close(self) -> None:
        """Close the channel."""
        if not self.closed:
            self.closed = True
            if self.lines is not None:
                self.lines.close()
            await_only(self._channel.close())


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
        try:
            await_only(self._call.write(message))
        except (grpc.RpcError, asyncio.InvalidStateError):
            return

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
    """A stream of small calls."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._expired = False

    def ask(self, data: bytes, seconds: float | None) -> bytes:
        """The answer to a message."""
        answer: bytes = await_only(self._exchange(data, seconds))
        return answer

    async def _exchange(self, data: bytes, seconds: float | None) -> bytes:
        loop = asyncio.get_running_loop()
        clock = None if seconds is None else loop.call_later(seconds, self._expire)
        try:
            await self._call.write(data)
            answer = await self._call.read()
        except (grpc.RpcError, asyncio.InvalidStateError):
            raise LineBroken from None
        except asyncio.CancelledError:  # the task was, or the stream
            if self._expired:
                raise timed_out() from None
            raise
        finally:
            if clock is not None:
                clock.cancel()
        if answer is grpc.aio.EOF:
            raise LineBroken
        found: bytes = answer
        return found

    def _expire(self) -> None:
        self._expired = True
        self._call.cancel()

    def close(self) -> None:
        """End the stream."""
        self._call.cancel()
