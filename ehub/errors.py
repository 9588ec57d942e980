"""What can go wrong, as exceptions: each an `EhubError`, and a built-in one where that fits.

So `except KeyError` works as it does for a dict, and `except ehub.EhubError` catches everything
that the store itself reports. A call that raises has changed nothing, but for a stream or an Arrow
table: of these the batches before the one that failed stay, and the error says how many rows.

An argument of a wrong type is a TypeError, as in the standard library; of the right type and with a
value that cannot be, an InvalidArgumentError. Keys and vectors have errors of their own, because
what they may be the space says.
"""

from __future__ import annotations

__all__ = [
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "DeadlineError",
    "DimensionError",
    "EhubError",
    "ExistsError",
    "FormatError",
    "FrozenError",
    "InvalidArgumentError",
    "InvalidKeyError",
    "InvalidVectorError",
    "LockedError",
    "ModelMismatchError",
    "NotFoundError",
    "PermissionDeniedError",
    "ReadOnlyError",
    "StorageError",
    "UnavailableError",
]


class EhubError(Exception):
    """The base of all errors of Embeddinghub."""


class NotFoundError(EhubError, KeyError):
    """There is no such key, partition, space or hub."""

    def __str__(self) -> str:
        """The message as it is: KeyError would show its repr."""
        return Exception.__str__(self)


class ExistsError(EhubError):
    """A name is taken."""


class InvalidArgumentError(EhubError, ValueError):
    """An argument has the right type and a value that cannot be."""


class DimensionError(EhubError, ValueError):
    """Vectors have another shape than the space needs."""


class InvalidVectorError(EhubError, ValueError):
    """A vector with a NaN or infinity, of no numbers, or, under cosine, without a direction."""


class InvalidKeyError(EhubError, ValueError):
    """A key is of the wrong type for its space, empty, too long, or no UTF-8."""


class FrozenError(EhubError):
    """A frozen version takes no writes."""


class ReadOnlyError(EhubError):
    """The hub takes no writes: it was opened so, or became so when a sync to disk failed."""


class LockedError(EhubError):
    """Another process, or this one, has the hub open for writing; the message has the pid."""


class CorruptionError(EhubError):
    """A file is damaged; the message has its path and the offset."""


class FormatError(EhubError):
    """The hub was written by a release with another format."""


class ModelMismatchError(EhubError):
    """Vectors of different models do not mix."""


class ConflictError(EhubError):
    """Somebody else changed it first."""


class PermissionDeniedError(EhubError, PermissionError):
    """This principal may not do that."""


class UnavailableError(EhubError, ConnectionError):
    """There is no way to the hub, or not in this build."""


class DeadlineError(EhubError, TimeoutError):
    """A call to a server took longer than it was given; whether it was done is not known."""


class ClosedError(EhubError):
    """The hub is closed, or belongs to the process that this one was forked from."""


class StorageError(EhubError, OSError):
    """A system call failed, as OSError with its errno: no space, no permission, a broken disk."""


def add_note(error: BaseException, note: str) -> None:
    """Add to what a traceback says about an error, as `BaseException.add_note` of Python 3.11."""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]


def brief(value: object) -> str:
    """What a call was given, as a message repeats it: the beginning."""
    try:
        return f"{value!r:.100}"
    except ValueError:  # Python writes no int of thousands of digits
        return f"a {type(value).__name__} that is too long to write"
