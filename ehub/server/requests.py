"""Writes that are sent again apply once: what the server remembers of each client's last writes.

A client has slots, numbers the writes of each, and has one in flight per slot (`RequestId` in
ehub.proto; as sessions have it in NFS 4.1). The last number of a slot and its answer are a note of
the hub, changed in the same atomic batch as the rows: whatever a crash leaves, it leaves of both or
of neither. So the guarantee is: a write that was acknowledged, or whose acknowledgement was lost,
is never applied a second time, however often it is sent and over how many restarts, as long as the
server remembers the client; once it does not, the write is refused. It remembers the clients that
wrote last, `Limits.clients` of them. The number of rows that a delete is answered with after a
restart is that of the moment before it.

A write that comes under the number of the last one and asks for something else was never applied,
so it is refused. What tells is a digest, kept in memory alone, with a key of this process's own: no
file may tell who was erased. So after a restart the last write of each slot is answered by its
number.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ehub import names
from ehub.errors import ConflictError, InvalidArgumentError
from ehub.hub import Hub
from ehub.wire import ehub_pb2 as pb

__all__ = ["CLIENT_BYTES", "SLOTS", "Requests", "Ticket"]

PREFIX = "request/"
SLOTS = 64
CLIENT_BYTES = 16
DIGEST_BYTES = 16


@dataclass(slots=True)
class Slot:
    """The last write of a slot: its number and how many rows it was answered with."""

    number: int = 0
    rows: int = 0
    digest: bytes | None = None  # of what it asked for; None: it was before this process
    running: threading.Event | None = None  # set when the write in flight has ended


@dataclass(slots=True)
class Client:
    """One client's slots."""

    slots: dict[int, Slot] = field(default_factory=dict)


@dataclass(slots=True)
class Ticket:
    """A write that is to be applied: the notes that go with it, for the thread that applies it."""

    client: str
    slot: int
    number: int
    digest: bytes
    forgotten: dict[str, Client]
    noted: bool = False  # whether there were any

    def notes(self, rows: int) -> dict[str, str | None]:
        """What is noted in the same batch, if the answer is `rows`; nothing if none were written.

        Then the client's number stays free.
        """
        self.noted = rows > 0
        if not self.noted:
            return {}
        said = json.dumps([self.number, rows, int(time.time())], separators=(",", ":"))
        forgotten: dict[str, str | None] = {
            note_of(name, slot): None for name, one in self.forgotten.items() for slot in one.slots
        }
        return {**forgotten, note_of(self.client, self.slot): said}


class Requests:
    """The clients that are remembered. Any thread may use it."""

    def __init__(self, hub: Hub, clients_max: int) -> None:
        self._lock = threading.Lock()
        self._clients_max = clients_max
        # Last used last.
        self._clients: OrderedDict[str, Client] = OrderedDict()
        self._digest_key = secrets.token_bytes(DIGEST_BYTES)
        self._load(hub)

    def _load(self, hub: Hub) -> None:
        """What the hub has noted, the oldest first."""
        found = hub._store.notes(PREFIX)
        said = [names.understood(name, partial(noted, name, text)) for name, text in found.items()]
        for _, client, slot, last in sorted(said, key=lambda one: one[0]):
            self._clients.setdefault(client, Client()).slots[slot] = last
            self._clients.move_to_end(client)

    def __len__(self) -> int:
        return len(self._clients)

    def begin(self, request: pb.RequestId, content: Iterable[bytes]) -> Ticket | int:
        """A ticket to apply a write with; or, if it was applied before, what it was answered.

        Waits for a write of the same slot that is in flight: the client has given it up.
        """
        name, digest = checked(request), self._digest_of(content)
        while True:
            with self._lock:
                slot = self._slot(name, request)
                running = slot.running
                if running is None:
                    if request.number == slot.number:
                        require_same(request, slot, digest)
                        return slot.rows
                    return self._start(name, slot, request, digest)
            running.wait()

    def _digest_of(self, content: Iterable[bytes]) -> bytes:
        digest = hashlib.blake2b(key=self._digest_key, digest_size=DIGEST_BYTES)
        for part in content:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    def once(
        self,
        asked: Any,
        apply: Callable[[Ticket | None], int],
        content: Callable[[], Iterable[bytes]] | None = None,
    ) -> pb.WriteResponse:
        """Apply what a message asks for, unless that was done; how many rows it is about.

        Args:
            asked: The message; if it has no `request`, it is applied whenever it comes.
            apply: Does it, and notes in the same atomic step what the ticket says.
            content: What it asks for, by which another write of the same number is told; by
                default, the message.
        """
        if not asked.HasField("request"):
            return pb.WriteResponse(rows=apply(None))
        told = [asked.SerializeToString()] if content is None else content()
        begun = self.begin(asked.request, told)
        if isinstance(begun, int):
            return pb.WriteResponse(rows=begun, request=asked.request, repeated=True)
        rows = None
        try:
            rows = apply(begun)
        finally:
            self.end(begun, rows if begun.noted else None)
        return pb.WriteResponse(rows=rows, request=asked.request if begun.noted else None)

    def _slot(self, name: str, request: pb.RequestId) -> Slot:
        client = self._clients.get(name)
        slot = None if client is None else client.slots.get(request.slot)
        if slot is None:
            if request.number != 1:
                raise ConflictError(
                    f"write {request.number} of slot {request.slot} is of a client that the server "
                    f"does not remember; it remembers the last {self._clients_max:,}. Whether the "
                    "write was applied is not known: look, and write again"
                )
            slot = self._clients.setdefault(name, Client()).slots.setdefault(request.slot, Slot())
        self._clients.move_to_end(name)
        if slot.running is None and not slot.number <= request.number <= slot.number + 1:
            raise ConflictError(
                f"write {request.number} of slot {request.slot} is neither the client's last one, "
                f"{slot.number}, nor the next; it was not applied"
            )
        return slot

    def _start(self, name: str, slot: Slot, request: pb.RequestId, digest: bytes) -> Ticket:
        slot.running = threading.Event()
        forgotten: dict[str, Client] = {}
        while len(self._clients) > self._clients_max:
            oldest = next((key for key, one in self._clients.items() if is_idle(one)), name)
            if oldest == name:  # all others are writing
                break
            forgotten[oldest] = self._clients.pop(oldest)
        return Ticket(name, request.slot, request.number, digest, forgotten)

    def end(self, ticket: Ticket, rows: int | None) -> None:
        """The write was applied with this answer; or not, if there is none."""
        with self._lock:
            client = self._clients[ticket.client]
            slot = client.slots[ticket.slot]
            running, slot.running = slot.running, None
            if rows is not None:
                slot.number, slot.rows, slot.digest = ticket.number, rows, ticket.digest
            else:
                self._take_back(ticket, client)
        if running is not None:
            running.set()

    def _take_back(self, ticket: Ticket, client: Client) -> None:
        """What failed has made nobody forgotten, and nobody known."""
        if all(slot.number == 0 and slot.running is None for slot in client.slots.values()):
            del self._clients[ticket.client]
        for name in reversed(ticket.forgotten):
            if name not in self._clients:
                self._clients[name] = ticket.forgotten[name]
                self._clients.move_to_end(name, last=False)


def require_same(request: pb.RequestId, slot: Slot, digest: bytes) -> None:
    """Refuse a write that asks for something else than the one that was applied."""
    if slot.digest is not None and slot.digest != digest:
        raise ConflictError(
            f"write {request.number} of slot {request.slot} was applied before, and asked for "
            "something else; this one was not applied: a write that is sent again is the same one, "
            "and another one has the next number"
        )


def note_of(client: str, slot: int) -> str:
    """The note of a slot."""
    return f"{PREFIX}{client}/{slot}"


def is_idle(client: Client) -> bool:
    """Whether nothing of a client is in flight."""
    return all(slot.running is None for slot in client.slots.values())


def checked(request: pb.RequestId) -> str:
    """The client's name of a request that is sound."""
    if (
        len(request.client) != CLIENT_BYTES
        or not 0 <= request.slot < SLOTS
        or not 1 <= request.number < 1 << 63
    ):
        raise InvalidArgumentError(
            f"a request has a client of {CLIENT_BYTES} bytes, a slot below {SLOTS} and a number "
            f"from 1 on; {len(request.client)} bytes, {request.slot} and {request.number} were "
            "given"
        )
    return request.client.hex()


def noted(name: str, text: str) -> tuple[int, str, int, Slot]:
    """What a note of a slot says: when, of whom, of which slot, and its last write."""
    client, slot = name[len(PREFIX) :].split("/")
    number, rows, when = map(int, json.loads(text))
    return when, client, int(slot), Slot(number, rows)
