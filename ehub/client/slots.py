"""The numbers of a client's writes, by which the server knows one that it has applied already."""

from __future__ import annotations

import secrets
import threading

from ehub.wire import ehub_pb2 as pb

__all__ = ["Slots"]

CLIENT_BYTES = 16
SLOTS = 64


class Slots:
    """Request ids: each slot numbers its writes, and has one in flight. Any thread may use it.

    When all are in flight, or what became of some is not known, another client id with slots of its
    own begins; nobody waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._client = secrets.token_bytes(CLIENT_BYTES)
        self._free = list(range(SLOTS - 1, -1, -1))
        self._numbers = [0] * SLOTS

    def take(self) -> pb.RequestId:
        """The id of a write that is to be sent."""
        with self._lock:
            if not self._free:
                self._begin()
            slot = self._free.pop()
            return pb.RequestId(client=self._client, slot=slot, number=self._numbers[slot] + 1)

    def settle(self, request: pb.RequestId, *, applied: bool) -> None:
        """The server has answered: it was applied, or refused and its number is free again.

        Not to be called for a write whose outcome is not known, or that met another one under its
        number: its slot is used no more.
        """
        with self._lock:
            if request.client != self._client:
                return
            if applied:
                self._numbers[request.slot] = request.number
            self._free.append(request.slot)
