"""A stream of batches to a server, which goes on after the connection broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ehub._native._store import Keys
from ehub.client.duplex import Duplex
from ehub.client.link import Link
from ehub.client.remote_table import RemoteTable
from ehub.errors import ConflictError, UnavailableError
from ehub.types import Vectors
from ehub.wire import ehub_pb2 as pb

__all__ = ["IngestStream"]

# Batches of a stream that are on their way before the first of them must be acknowledged.
WINDOW = 4


@dataclass(slots=True)
class Sent:
    """A batch on its way."""

    request: pb.RequestId
    messages: list[bytes]
    rows: int


class IngestStream:
    """Batches in order on one call, sent again on another if that breaks; for one thread."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._call: Duplex | None = None
        self._sent: deque[Sent] = deque()
        self.done = 0  # rows that were acknowledged

    def put(
        self, table: RemoteTable, keys: Keys, vectors: Vectors, partitions: tuple[bytes, ...]
    ) -> None:
        """Send a batch; waits for an older one if several are on their way."""
        if len(self._sent) >= WINDOW:
            self._settle()
        request = self._link.slots.take()
        messages: Sequence[bytes] = table.messages(request, keys, vectors, partitions)
        if not self._link.transport.has_threads:  # other tasks run while this one sends
            messages = list(messages)
        sent = Sent(request, [], len(keys))
        if self._call is None and not self._sent:
            self._open()
        self._sent.append(sent)
        try:
            for message in messages:  # packed while the one before is on its way
                sent.messages.append(message)
                if self._call is not None:
                    self._call.send(message)
        except BaseException:  # interrupted: to a part of a batch there is no answer
            self._sent.pop()
            self.close()
            raise

    def finish(self) -> None:
        """Wait for all."""
        while self._sent:
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest."""
        try:
            self._link.transport.repeated(self._receive)
        # What became of them is not known, or of their numbers.
        except (ConnectionError, TimeoutError, ConflictError):
            self._sent.clear()
            raise
        except Exception:
            self._refused()
            raise
        sent = self._sent.popleft()
        self._link.slots.settle(sent.request, applied=True)
        self.done += sent.rows

    def _receive(self) -> None:
        if self._call is None:
            self._open()
        assert self._call is not None
        try:
            self._call.receive()
        except UnavailableError:
            self.close()
            raise

    def _open(self) -> None:
        """Begin a call with all that is not acknowledged."""
        call = self._link.transport.duplex("Ingest")
        try:
            for sent in self._sent:
                for message in sent.messages:
                    call.send(message)
        except BaseException:
            call.close()
            raise
        self._call = call

    def _refused(self) -> None:
        """The oldest was refused, and the server did not look at those behind it."""
        for sent in self._sent:
            self._link.slots.settle(sent.request, applied=False)
        self._sent.clear()

    def close(self) -> None:
        """End the call."""
        call, self._call = self._call, None
        if call is not None:
            call.close()
