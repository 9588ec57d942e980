"""Calls that erase keys for good."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from ehub import erasure
from ehub.erasure import ErasureReceipt
from ehub.errors import ConflictError, add_note
from ehub.hub import Hub
from ehub.server import scope
from ehub.server.config import Limits
from ehub.server.leases import Leases
from ehub.server.requests import Requests, Ticket
from ehub.types import Key, KeyType
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import key_array, native_keys

__all__ = ["Erasing", "Receipts"]

RECEIPTS_MAX = 256
# What is left of a call's time for its answer when a wait within it ends.
ANSWER_SECONDS = 0.5

# What a plan or a receipt has of the hub as a whole.
OF_THE_HUB = ("backups", "held", "readers")

Told = TypeVar("Told", pb.ErasurePlan, pb.ErasureReceipt)

# A client, a slot, a number.
Asked = tuple[bytes, int, int]


class Receipts:
    """The last answers to erasures, for those who ask again. Any thread may use it.

    They stay in memory: a hub must not have on its disk who was erased from it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Asked, pb.EraseResponse] = OrderedDict()

    def keep(self, request: pb.RequestId, answer: pb.EraseResponse) -> None:
        """Remember an answer, and the first one no more if there are too many."""
        with self._lock:
            self._kept[asked_by(request)] = answer
            while len(self._kept) > RECEIPTS_MAX:
                self._kept.popitem(last=False)

    def get(self, request: pb.RequestId) -> pb.EraseResponse | None:
        """The answer to a request, if it is remembered."""
        with self._lock:
            return self._kept.get(asked_by(request))


class Erasing:
    """A part of the servicer (service.py)."""

    _hub: Hub
    _limits: Limits
    _leases: Leases
    _requests: Requests
    _receipts: Receipts

    def PlanErasure(self, request: pb.PlanErasureRequest, context: Any) -> pb.ErasurePlan:
        plan = erasure.plan_erasure(self._hub, request.space, listed(request.keys))
        return shown(pb.ErasurePlan(**asdict(plan)))

    def Erase(self, request: pb.EraseRequest, context: Any) -> pb.EraseResponse:
        keys = listed(request.keys)
        answer = pb.EraseResponse()

        def apply(ticket: Ticket | None) -> int:
            receipt = erasure.erase_keys(
                self._hub,
                request.space,
                keys,
                request.wait_seconds,
                notes=lambda: {} if ticket is None else ticket.notes(1),
                is_awaited=awaited(context),
            )
            answer.receipt.CopyFrom(receipt_message(receipt))
            answer.rows = sum(version.rows for version in receipt.versions)
            if ticket is not None:
                answer.request.CopyFrom(request.request)
                self._receipts.keep(request.request, copy_of(answer))
            return 1

        try:
            done = self._requests.once(
                request,
                apply,
                # How long to wait may be another, the second time.
                lambda: [request.space.encode(), request.keys.SerializeToString()],
            )
        except ConflictError as error:
            self._tell_of_snapshots(request.space, error)
            raise
        if done.repeated:
            answer = self._repeated(request.request)
        if answer.HasField("receipt"):
            shown(answer.receipt)
        return answer

    def _repeated(self, request: pb.RequestId) -> pb.EraseResponse:
        """The answer to a request that was applied before."""
        answer = pb.EraseResponse(request=request)
        kept = self._receipts.get(request)
        if kept is not None:
            answer.CopyFrom(kept)
        answer.repeated = True
        return answer

    def FinishErasures(self, request: pb.FinishErasuresRequest, context: Any) -> pb.Names:
        _, held = erasure.finish_erasures(self._hub, request.wait_seconds, awaited(context))
        return pb.Names(names=held)

    def _tell_of_snapshots(self, space: str, error: ConflictError) -> None:
        """Say whose snapshots may be in the way, to who cannot see them."""
        count = self._leases.count_in(space)
        if count:
            idle = self._limits.snapshot_idle_seconds
            add_note(
                error,
                f"clients of the server hold {count} of this space; each goes when it is closed, "
                f"or was not used for {idle:g} seconds",
            )


def copy_of(answer: pb.EraseResponse) -> pb.EraseResponse:
    """The same answer, to be kept whole: what is shown of it depends on who asks."""
    copied = pb.EraseResponse()
    copied.CopyFrom(answer)
    return copied


def shown(told: Told) -> Told:
    """A plan or a receipt without what is the hub's: where it is backed up to, and who reads it.

    Whoever may back up the hub sees all of it; who may erase in one space, that there is something.
    """
    may = scope.may_on_hub.get()
    if may is None or may("backup"):
        return told
    for name in OF_THE_HUB:
        if getattr(told, name, None):
            told.ClearField(name)
            told.hidden.append(name)
    return told


def asked_by(request: pb.RequestId) -> Asked:
    """What tells requests apart."""
    return request.client, request.slot, request.number


def awaited(context: Any) -> Callable[[], bool]:
    """What says whether there is time to wait on, and somebody who waits."""

    def is_awaited() -> bool:
        left = context.time_remaining()
        return context.is_active() and (left is None or left > ANSWER_SECONDS)

    return is_awaited


def listed(keys: pb.TypedKeys) -> list[Key]:
    """The keys of a request, all checked."""
    return [*keys_of(keys.texts, "str"), *keys_of(keys.integers, "int")]


def keys_of(keys: pb.Keys, kind: KeyType) -> list[Key]:
    """Keys that must be of a type."""
    native_keys(keys, kind)
    found: list[Key] = key_array(keys, kind).tolist()
    return found


def receipt_message(receipt: ErasureReceipt) -> pb.ErasureReceipt:
    """A receipt as it travels: without the hashes, which whoever sent the keys can make."""
    said = asdict(receipt)
    del said["key_hashes"]
    return pb.ErasureReceipt(**said)
