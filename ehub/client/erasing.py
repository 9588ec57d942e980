"""Keys erased for good by a server."""

from __future__ import annotations

from typing import Any

from ehub import _arrays
from ehub.client.link import Link
from ehub.erasure import (
    ErasurePlan,
    ErasureReceipt,
    FileRecord,
    Typed,
    VersionErasure,
    as_seconds,
    hashes_of,
    keys_by_type,
)
from ehub.errors import ConflictError
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import keys_message

__all__ = ["erase", "finish", "plan"]


def plan(link: Link, space: str, keys: Any) -> ErasurePlan:
    """`Space.erasure_plan()`."""
    about = message_of(keys_by_type(keys, space), space)
    answer = link.read("PlanErasure", pb.PlanErasureRequest(space=space, keys=about))
    return ErasurePlan(
        answer.space,
        answer.keys,
        answer.keys_missing,
        versions_of(answer.versions),
        tuple(answer.files),
        tuple(answer.readers),
        tuple(answer.blockers),
        tuple(answer.backups),
        tuple(answer.hidden),
    )


def erase(link: Link, space: str, keys: Any, wait: float) -> ErasureReceipt:
    """`Space.erase()`: applied once, however often it is sent."""
    seconds = as_seconds(wait)
    typed = keys_by_type(keys, space)
    about = message_of(typed, space)
    answers: list[pb.EraseResponse] = []

    def send(number: pb.RequestId) -> pb.EraseResponse:
        request = pb.EraseRequest(request=number, space=space, keys=about, wait_seconds=seconds)
        answers.append(link.read("Erase", request))
        return answers[-1]

    link.numbered(send)
    if not answers[-1].HasField("receipt"):
        raise ConflictError(
            "the keys were erased, but the answer was lost and the server was started again since, "
            "which keeps no receipts on its disk; erase them once more for another one"
        )
    return receipt_of(answers[-1].receipt, typed)


def finish(link: Link, wait: float) -> list[str]:
    """`Hub.finish_erasures()`."""
    request = pb.FinishErasuresRequest(wait_seconds=as_seconds(wait))
    return list(link.read("FinishErasures", request).names)


def message_of(keys: Typed, space: str) -> pb.TypedKeys:
    """Keys by type as they travel."""
    packed = {
        kind: keys_message(_arrays.as_keys(listed, kind, space), kind)
        for kind, listed in keys.items()
    }
    return pb.TypedKeys(texts=packed["str"], integers=packed["int"])


def receipt_of(receipt: pb.ErasureReceipt, keys: Typed) -> ErasureReceipt:
    """A receipt, with hashes of the keys that were sent."""
    return ErasureReceipt(
        receipt.space,
        receipt.time,
        receipt.salt,
        hashes_of(receipt.salt, keys),
        receipt.keys_missing,
        versions_of(receipt.versions),
        files_of(receipt.written),
        files_of(receipt.removed),
        tuple(receipt.held),
        tuple(receipt.backups),
        tuple(receipt.hidden),
    )


def versions_of(messages: Any) -> tuple[VersionErasure, ...]:
    """What versions had."""
    return tuple(
        VersionErasure(one.version, one.rows, one.rows_live, tuple(one.tags), one.snapshots)
        for one in messages
    )


def files_of(messages: Any) -> tuple[FileRecord, ...]:
    """Files that were written or removed."""
    return tuple(FileRecord(one.path, one.bytes, one.crc32c) for one in messages)
