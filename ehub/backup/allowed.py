"""Where others may have a hub backed up to: below places that whoever runs the server named.

A place is compared by whole names between slashes, and nothing that a file system or a library for
URLs would read as something else passes: no "..", no escapes, no credentials, no options. Of a
directory it is asked what it is once its links are followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote

from ehub.backup.place import split
from ehub.errors import InvalidArgumentError, PermissionDeniedError

__all__ = ["AllowedPlaces", "as_prefix"]

# Of a name below an allowed URL.
PLAIN = re.compile(r"[A-Za-z0-9_.~=+@:,-]+")


class AllowedPlaces:
    """The places below which backups may be made. Any thread may ask.

    Args:
        prefixes: Directories, as absolute paths, and URLs. An InvalidArgumentError for what can be
            no place.
    """

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefixes = [as_prefix(prefix) for prefix in prefixes]

    def place(self, text: str) -> str:
        """The place that is meant, its links followed.

        An InvalidArgumentError for what can be none, a PermissionDeniedError for what is not below
        an allowed one.
        """
        wanted = as_prefix(text)
        if not self._prefixes:
            raise PermissionDeniedError(
                "this server may back up nowhere: whoever runs it allows places by `ehub serve "
                "--backup-to PREFIX`, or backup_to in its config file"
            )
        try:
            found = wanted.resolve() if isinstance(wanted, Path) else wanted
        except (OSError, RuntimeError) as error:  # links in a circle
            raise InvalidArgumentError(f"{text!r:.200} is no place for backups: {error}") from error
        if any(is_below(found, prefix) for prefix in self._prefixes):
            return str(found)
        listed = ", ".join(repr(str(prefix)) for prefix in self._prefixes)
        raise PermissionDeniedError(
            f"this server may not back up to {text!r:.200}; expected a place below {listed}: "
            "whoever runs it allows others by --backup-to"
        )


def as_prefix(text: str) -> Path | str:
    """A place: a directory, or a URL without a slash at its end. It need not be there.

    An InvalidArgumentError for what is no absolute path and no URL, or has what is refused.
    """
    if not text or not text.isprintable():
        raise InvalidArgumentError(
            f"{text!r:.100} is no place for backups; expected an absolute path or a URL"
        )
    if "://" not in text:
        return as_directory(text, text)
    url = split(text)
    if "@" in url.netloc or "?" in text or "#" in text:
        raise InvalidArgumentError(
            f"a URL of {url.scheme} with credentials or options; expected scheme://bucket/prefix: "
            "credentials and endpoints come from the environment of the server"
        )
    if url.scheme == "file":
        return as_directory("" if url.netloc else unquote(url.path), text)
    return as_url(url, text)


def as_directory(path: str, text: str) -> Path:
    """A directory on the server's machine."""
    directory = Path(path)
    if not directory.is_absolute() or ".." in directory.parts or not path.isprintable():
        raise InvalidArgumentError(
            f"{text!r:.200} is no place for backups by a server; expected an absolute path on its "
            "machine, without '..', or a URL"
        )
    return directory


def as_url(url: SplitResult, text: str) -> str:
    """A URL of an object store."""
    names = url.path.rstrip("/").split("/")[1:]
    wrong = [name for name in names if not PLAIN.fullmatch(name) or name in (".", "..")]
    if not url.netloc or wrong or url.scheme == "memory":
        raise InvalidArgumentError(
            f"{text!r:.200} is no place for backups by a server; expected scheme://bucket/prefix, "
            "whose names have letters, digits and _.~=+@:,- alone, and are not '..'"
        )
    return "/".join([f"{url.scheme}://{url.netloc}", *names])


def is_below(place: Path | str, prefix: Path | str) -> bool:
    """Whether a place is an allowed one, or below it."""
    if isinstance(place, Path):
        return isinstance(prefix, Path) and place.is_relative_to(prefix.resolve())
    return isinstance(prefix, str) and f"{place}/".startswith(f"{prefix}/")
