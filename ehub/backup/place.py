"""Where backups are: a directory or a bucket, as a few calls that fail with errors of ours.

Everything goes through obstore, whose credentials and endpoints come from the environment
(`AWS_ACCESS_KEY_ID`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` ...), never from a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from ehub.errors import (
    ExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from obstore.store import ObjectStore

__all__ = ["Object", "Place", "Where", "open_place", "require_extra", "split"]

# Of a URL, what is before an @, and all behind a question mark.
SECRETS = re.compile(r"(?<=://)[^/\s\"'@]+(?=@)|(?<=[\w/])\?[^\s\"')]+")

# Where machines of a cloud ask for credentials.
CREDENTIAL_HOSTS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")

# A directory, a URL such as s3://bucket/prefix, or a store of obstore.
Where: TypeAlias = "str | os.PathLike[str] | ObjectStore"


class Object(NamedTuple):
    """What a listing says of an object."""

    size: int
    modified: datetime


class Place:
    """Objects by path. Any thread may use it.

    Every call may raise a StorageError, a PermissionDeniedError, and where it says so others.
    """

    def __init__(self, store: ObjectStore, url: str, directory: Path | None = None) -> None:
        self.url = url
        self.directory = directory
        self._store = store
        self._unsynced: set[Path] = set()

    def put(self, path: str, data: bytes, *, create: bool = False) -> None:
        """Put an object there, whole or not at all; with `create` an ExistsError if there is one.

        It is sure to stay after `settle()`.
        """
        with self._named(path):
            self._store.put(path, data, mode="create" if create else "overwrite")
        if self.directory is not None:
            self._sync(path)

    def get(self, path: str) -> bytes:
        """An object's bytes; a NotFoundError if there is none."""
        with self._named(path):
            return bytes(self._store.get(path).bytes())

    def objects(self, prefix: str) -> dict[str, Object]:
        """What is below `prefix`."""
        with self._named(prefix):
            return {
                one["path"]: Object(one["size"], one["last_modified"])
                for page in self._store.list(prefix)
                for one in page
            }

    def delete(self, paths: list[str]) -> None:
        """Remove objects; those that are not there are fine."""
        try:
            with self._named(paths[0] if paths else ""):
                self._store.delete(paths)
        except NotFoundError:  # of any one; which of the others are gone nobody says
            for path in paths:
                with suppress(NotFoundError), self._named(path):
                    self._store.delete(path)

    def settle(self) -> None:
        """Make everything durable that was put. An object store does that with each object."""
        while self._unsynced:
            sync(self._unsynced.pop(), os.O_DIRECTORY)

    def sweep(self) -> None:
        """Remove what writers that were killed left half-written, while no other is at work."""
        if self.directory is None:
            return
        for ours in ("chunks", "backups", "locks"):  # what else is there is not ours
            for path in self.directory.glob(f"{ours}/**/*#*"):
                path.unlink(missing_ok=True)

    def _sync(self, path: str) -> None:
        """A file on the disk; the directories on the way to it follow in `settle()`."""
        assert self.directory is not None
        file = self.directory / path
        with self._named(path):
            sync(file)
        self._unsynced.update(
            parent for parent in file.parents if parent.is_relative_to(self.directory)
        )

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        """Turn what obstore raises into errors of ours that say where."""
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.url} has no object {path!r}") from error
        except exceptions.AlreadyExistsError as error:
            raise ExistsError(f"{self.url} has an object {path!r} already") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise PermissionDeniedError(
                f"{self.url} refuses access to {path!r}; see to the credentials in the "
                f"environment: {first_line(error)}"
            ) from error
        except (exceptions.BaseError, OSError) as error:
            text = first_line(error)
            raise StorageError(f"{self.url}: {path!r}: {text}{advice_on(text)}") from error


def advice_on(text: str) -> str:
    """What to do about an error that tells of a service which only machines of a cloud have."""
    if not any(host in text for host in CREDENTIAL_HOSTS):
        return ""
    return (
        "; there are no credentials: they come from the environment, as AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_ACCOUNT_NAME, or else from "
        "the service of a cloud's machine, which does not answer here"
    )


def sync(path: Path, flags: int = 0) -> None:
    """Make a file or a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def split(text: str) -> SplitResult:
    """The parts of a URL."""
    try:
        return urlsplit(text)
    except ValueError as error:  # brackets that do not close, and the like
        raise InvalidArgumentError(
            "a URL that cannot be read is no place for backups; expected scheme://bucket/prefix"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without what obstore adds for its developers.

    And without what may be credentials in a URL that was asked for: those of Azure may be in its
    options, those of an endpoint before its host.
    """
    text = str(error).partition("\n")[0] or type(error).__name__
    return SECRETS.sub("...", text)


def require_extra() -> None:
    """An UnavailableError where the packages that backups need are not installed."""
    try:
        import lz4  # noqa: F401 - wanted later
        import obstore  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"backups need the extra: pip install 'ehub[backup]' ({error})"
        ) from error


def open_place(where: Where, *, outside: str | None = None) -> Place:
    """The place that is meant.

    Args:
        where: A directory, a URL, or a store of obstore.
        outside: The directory of a hub, for which one that is missing is made, and which that may
            not be in. Without it a directory that is missing is a NotFoundError.
    """
    require_extra()
    if isinstance(where, (str, os.PathLike)):
        text = os.fspath(where)
        if not isinstance(text, str) or not text or "\0" in text:
            raise InvalidArgumentError(
                f"{text!r:.100} is no place for backups; expected a directory or a URL"
            )
        url = split(text) if "://" in text else None
        if url is None:
            return open_directory(Path(text), outside)
        if url.scheme == "file":
            return open_directory(Path(unquote(url.path)), outside)
        return open_url(text)
    return Place(where, str(where))


def open_directory(path: Path, outside: str | None) -> Place:
    """Backups in a directory of this machine."""
    from obstore.store import LocalStore

    directory = path.resolve()
    if outside is None and not directory.is_dir():
        raise NotFoundError(f"there is no directory {str(directory)!r} with backups")
    if outside is not None and directory.is_relative_to(Path(outside).resolve()):
        raise InvalidArgumentError(
            f"{str(directory)!r} is in the hub itself; expected a place that outlives it"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        store = LocalStore(prefix=directory)
    except OSError as error:
        raise StorageError(f"{directory}: {error}") from error
    return Place(store, str(directory), directory)


def open_url(text: str) -> Place:
    """Backups in an object store."""
    from obstore import exceptions
    from obstore.store import from_url

    url = split(text)
    if "@" in url.netloc or url.query or url.fragment:
        raise InvalidArgumentError(
            f"a URL of {url.scheme} with credentials or options; expected scheme://bucket/prefix: "
            "credentials and endpoints come from the environment"
        )
    if url.scheme == "memory":
        raise InvalidArgumentError(
            "memory:// is a new, empty store at each call; give an obstore.store.MemoryStore"
        )
    try:
        return Place(from_url(text), text.rstrip("/"))
    except (exceptions.BaseError, ValueError) as error:
        raise InvalidArgumentError(f"{text!r:.200} cannot be used: {first_line(error)}") from error
