"""Exceptions on the wire: each becomes a status with details, and the same exception again.

The name of the exception travels in an `ErrorDetail` of the trailing metadata. What comes without
one (from a proxy, or from gRPC itself) is told by its status code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ehub import errors
from ehub.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    DeadlineError,
    DimensionError,
    EhubError,
    ExistsError,
    FormatError,
    FrozenError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidVectorError,
    LockedError,
    ModelMismatchError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    StorageError,
    UnavailableError,
)
from ehub.promotion import Check, PromotionBlocked
from ehub.wire import ehub_pb2 as pb

__all__ = [
    "DETAIL",
    "SNAPSHOT_GONE",
    "TOO_LARGE",
    "TOO_MANY",
    "Ended",
    "code_of",
    "detail_of",
    "exception_of",
    "found_in",
]

# The name of the metadata that has an ErrorDetail.
DETAIL = "ehub-error-bin"

# A header of gRPC has 8 KiB. The text is in two: as it is for tools, and in the details.
MESSAGE_BYTES_MAX = 1_500
# What gRPC says of messages beyond a limit, with the status of a server that has too much to do.
TOO_LARGE = "larger than max"
# What a server says of more rows, or neighbors, than it takes or gives in one call.
TOO_MANY = "its limit `rows`: ask in parts"
# What it says of a snapshot that it does not hold.
SNAPSHOT_GONE = "the snapshot was closed, or not used for "

Code = grpc.StatusCode

# By exception, the first that fits.
CODES: list[tuple[type[BaseException], grpc.StatusCode]] = [
    (NotFoundError, Code.NOT_FOUND),
    (ExistsError, Code.ALREADY_EXISTS),
    (PermissionDeniedError, Code.PERMISSION_DENIED),
    (UnavailableError, Code.UNAVAILABLE),
    (ClosedError, Code.UNAVAILABLE),
    (LockedError, Code.UNAVAILABLE),
    (DeadlineError, Code.DEADLINE_EXCEEDED),
    (ConflictError, Code.ABORTED),
    (FrozenError, Code.FAILED_PRECONDITION),
    (ReadOnlyError, Code.FAILED_PRECONDITION),
    (FormatError, Code.FAILED_PRECONDITION),
    (ModelMismatchError, Code.FAILED_PRECONDITION),
    (CorruptionError, Code.DATA_LOSS),
    (StorageError, Code.INTERNAL),
    (InvalidArgumentError, Code.INVALID_ARGUMENT),
    (DimensionError, Code.INVALID_ARGUMENT),
    (InvalidVectorError, Code.INVALID_ARGUMENT),
    (InvalidKeyError, Code.INVALID_ARGUMENT),
    (TypeError, Code.INVALID_ARGUMENT),
    (MemoryError, Code.RESOURCE_EXHAUSTED),
]

# By name, what a client raises.
KINDS: dict[str, type[Exception]] = {
    **{name: getattr(errors, name) for name in errors.__all__},
    "TypeError": TypeError,
    "ValueError": ValueError,
    "MemoryError": MemoryError,
}

# For what comes without details.
EXCEPTIONS: dict[grpc.StatusCode, type[Exception]] = {
    Code.NOT_FOUND: NotFoundError,
    Code.ALREADY_EXISTS: ExistsError,
    Code.PERMISSION_DENIED: PermissionDeniedError,
    Code.UNAUTHENTICATED: PermissionDeniedError,
    Code.UNAVAILABLE: UnavailableError,
    Code.DEADLINE_EXCEEDED: DeadlineError,
    Code.ABORTED: ConflictError,
    Code.INVALID_ARGUMENT: InvalidArgumentError,
    Code.RESOURCE_EXHAUSTED: UnavailableError,
    # By the server that stops, or a proxy; what the caller cancels it does not wait for.
    Code.CANCELLED: UnavailableError,
    Code.OUT_OF_RANGE: InvalidArgumentError,
    Code.UNIMPLEMENTED: FormatError,
    Code.DATA_LOSS: CorruptionError,
}


class Ended(grpc.RpcError):  # type: ignore[misc]
    """The end of a call that was refused or has failed, where gRPC makes none itself."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, Any], ...]
    ) -> None:
        super().__init__(details)
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        """Its status."""
        return self._code

    def details(self) -> str:
        """Why."""
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        """What goes with it."""
        return self._trailing


# --- in the server ---


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """The status of an exception that is an answer; None for one that is a mistake of ours."""
    return next((code for kind, code in CODES if isinstance(error, kind)), None)


def detail_of(error: BaseException) -> pb.ErrorDetail:
    """What the client needs to raise it again."""
    kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in KINDS), "EhubError")
    detail = pb.ErrorDetail(kind=kind, message=message_of(error))
    if isinstance(error, PromotionBlocked):
        detail.kind = "PromotionBlocked"
        detail.checks.extend(check_message(check) for check in error.checks)
    if isinstance(error, OSError) and error.errno is not None:
        detail.metadata["errno"] = str(error.errno)
    return detail


def message_of(error: BaseException) -> str:
    """The text, with the notes that were added to it; not too long for a header."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:  # its number travels apart
        text = error.strerror
    whole = "\n".join([text, *getattr(error, "__notes__", ())])
    return whole.encode(errors="replace")[:MESSAGE_BYTES_MAX].decode(errors="ignore")


def check_message(check: Check) -> pb.Check:
    """A requirement and its figure."""
    return pb.Check(name=check.name, value=check.value, least=check.least, note=check.note)


# --- in the client ---


def exception_of(
    code: grpc.StatusCode, details: str | None, trailing: Iterable[tuple[str, Any]] | None
) -> Exception:
    """The exception that a call's status stands for."""
    detail = found_in(trailing)
    if detail is None:
        if TOO_LARGE in (details or ""):
            return InvalidArgumentError(details)
        return EXCEPTIONS.get(code, EhubError)(details or code.name)
    if detail.kind == "PromotionBlocked":
        return blocked_of(detail)
    kind = KINDS.get(detail.kind, EXCEPTIONS.get(code, EhubError))
    errno = detail.metadata.get("errno", "")
    if issubclass(kind, OSError) and errno.isdecimal():
        return kind(int(errno), detail.message)
    return kind(detail.message)


def found_in(trailing: Iterable[tuple[str, Any]] | None) -> pb.ErrorDetail | None:
    """The details of the metadata; None if there are none that can be read."""
    packed = next((value for key, value in trailing or () if key == DETAIL), None)
    if packed is None:
        return None
    try:
        return pb.ErrorDetail.FromString(packed)
    except DecodeError:  # something between here and the server has changed them
        return None


def blocked_of(detail: pb.ErrorDetail) -> PromotionBlocked:
    """A PromotionBlocked with the server's message and figures."""
    error = PromotionBlocked("", "", tuple(check_of(check) for check in detail.checks))
    error.args = (detail.message,)
    return error


def check_of(check: pb.Check) -> Check:
    """The figure of a message."""
    value = check.value if check.HasField("value") else None
    return Check(check.name, value, check.least, check.note)
