"""Calls of one client by what they do, and the numbers of its writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ehub._progress import watched
from ehub.client.slots import Slots
from ehub.client.transport import Transport
from ehub.errors import ConflictError
from ehub.wire import ehub_pb2 as pb
from ehub.wire.searches import Searches

__all__ = ["Link"]


class Link:
    """The way to one server: calls, and the numbers of writes. Any thread may use it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.slots = Slots()
        # Of threads, or tasks, that search at once.
        self.searches = Searches(make_event=transport.event)

    def read(self, name: str, request: Any) -> Any:
        """A call that may be repeated."""
        return self.transport.call(name, request, again=True)

    def change(self, name: str, request: Any) -> Any:
        """A call that may not: whether it was done is not known if the answer does not come."""
        return self.transport.call(name, request)

    def waiting(self, progress: bool, what: str) -> AbstractContextManager[None]:
        """A bar of the time that a block takes, which is all that is known of a call."""
        return watched(progress, what, looking=self.transport.beside)

    def change_once(self, name: str, request_of: Callable[[pb.RequestId], Any]) -> int:
        """A change of one message, applied once however often it is sent; how many rows.

        Args:
            name: A method that answers with a `WriteResponse`.
            request_of: Given its number, the message.
        """
        return self.numbered(lambda request: self.read(name, request_of(request)))

    def write(
        self, messages_of: Callable[[pb.RequestId], Sequence[pb.WriteRequest | bytes]]
    ) -> int:
        """One atomic batch, applied once however often it is sent; how many rows.

        The arrays that it is packed from must not change meanwhile: it is packed as it is sent, and
        again if it is sent again. On an event loop all of it is packed before the first wait.

        Args:
            messages_of: Given its number, the messages that it travels in, or these packed.
        """
        return self.numbered(lambda request: self._sent(messages_of(request)))

    def _sent(self, messages: Sequence[pb.WriteRequest | bytes]) -> pb.WriteResponse:
        answer: pb.WriteResponse
        if not self.transport.has_threads:  # other tasks run while this one sends, and may write
            messages = list(messages)  # into the caller's arrays
        if len(messages) == 1:
            answer = self.read("Write", messages[0])
        else:
            answer = self.transport.repeated(lambda: self._streamed(messages))
        return answer

    def _streamed(self, messages: Sequence[pb.WriteRequest | bytes]) -> pb.WriteResponse:
        call = self.transport.duplex("Ingest")
        try:
            for message in messages:
                call.send(message)
            answer: pb.WriteResponse = call.receive()
        finally:
            call.close()
        return answer

    def numbered(self, send: Callable[[pb.RequestId], pb.WriteResponse | pb.EraseResponse]) -> int:
        """A write under a number of its own, which is free again if it was refused."""
        request = self.slots.take()
        try:
            answer = send(request)
        # It may have been applied, or another write under its number.
        except (ConnectionError, TimeoutError, ConflictError):
            raise
        except Exception:
            self.slots.settle(request, applied=False)
            raise
        # Where there was nothing to delete nothing was noted.
        self.slots.settle(request, applied=answer.HasField("request"))
        return answer.rows
