"""Where the keys come from that prove JSON web tokens: a file, or an identity provider's URL.

Nothing waits for a provider: its keys are fetched by a thread of their own, and tokens are checked
with those that it fetched last. Where there are none, or none for too long, no token is believed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from ehub.errors import InvalidArgumentError, NotFoundError
from ehub.wire.hosts import is_this_machine

__all__ = ["ALGORITHMS", "KeySource", "PublicKeys", "require_trusted", "source_of"]

log = logging.getLogger("ehub.access")

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# By their ids, None for one that has none; each with the only algorithm it is for, if that is said.
PublicKeys: TypeAlias = "dict[str | None, tuple[Any, str | None]]"

# How often the file of keys is looked at for a change, which is how a provider's keys rotate.
FILE_SECONDS = 5.0
# How often keys are fetched; how soon again if that has failed, or a token names another key; how
# long one fetch may take; and how long keys are good that cannot be fetched any more.
FETCH_SECONDS, AGAIN_SECONDS, TIMEOUT_SECONDS, KEEP_SECONDS = 300.0, 10.0, 5.0, 3_600.0
SET_BYTES_MAX = 1 << 20
NONE: PublicKeys = {}
# What only private keys have: RSA, EC and OKP (RFC 7518, 8037), and AKP, that of ML-DSA.
PRIVATE = {"d", "priv"}


class KeySource(Protocol):
    """Any thread may ask it."""

    def keys(self) -> PublicKeys:
        """The keys as of now, the same object until they change; none if none can be trusted."""

    def look_again(self) -> None:
        """A token named a key that is not among them."""

    def close(self) -> None:
        """Look after them no more."""


def source_of(library: Any, keys: Path | str) -> KeySource:
    """The keys of a file, or of a URL; `library` is PyJWT."""
    return KeyServer(library, keys) if isinstance(keys, str) else KeyFile(library, keys)


def require_trusted(url: str) -> None:
    """Refuse a URL where others could put keys of theirs: it has to be https."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and is_this_machine(parts.hostname or "")
    if not parts.hostname or (parts.scheme != "https" and not local):
        raise InvalidArgumentError(
            f"keys of JWTs are at {url!r:.300}; expected an https:// URL, or a file"
        )


class KeyFile:
    """The keys of a file, which may change; as it is now, or was when it could last be read."""

    def __init__(self, library: Any, path: Path) -> None:
        self._jwt, self._path = library, path
        self._lock = threading.Lock()
        self._read: tuple[int, int] | None = None
        self._looked = 0.0
        self._keys = NONE
        self.keys()

    def keys(self) -> PublicKeys:
        """The keys, looked at anew every few seconds."""
        with self._lock:
            now = time.monotonic()
            if self._keys and now - self._looked < FILE_SECONDS:
                return self._keys
            self._looked = now
            try:
                state = self._path.stat()
                version = (state.st_mtime_ns, state.st_size)
                if version != self._read:
                    self._keys = read_keys(self._jwt, self._path)
                    self._read = version
            except (OSError, InvalidArgumentError) as error:
                if not self._keys:
                    raise unreadable(self._path, error) from error
            return self._keys

    def look_again(self) -> None:
        """Nothing: it is looked at often."""

    def close(self) -> None:
        """Nothing."""


class KeyServer:
    """The keys at a URL, fetched now and then by a thread, which `close()` ends."""

    def __init__(self, library: Any, url: str) -> None:
        require_trusted(url)
        self._jwt, self._url = library, url
        self._document: Any = None
        self._keys = NONE
        self._fetched = -KEEP_SECONDS
        self._asked = False
        self._closed = threading.Event()
        self._fetch()
        threading.Thread(target=self._fetch_often, name="ehub-jwt-keys", daemon=True).start()

    def keys(self) -> PublicKeys:
        """The keys that were fetched last, unless that is too long ago."""
        return self._keys if time.monotonic() - self._fetched < KEEP_SECONDS else NONE

    def look_again(self) -> None:
        """Fetch them soon; not for each token that was made up."""
        self._asked = True

    def close(self) -> None:
        """Fetch no more."""
        self._closed.set()

    def _fetch_often(self) -> None:
        while not self._closed.wait(AGAIN_SECONDS):
            if self._asked or time.monotonic() - self._fetched >= FETCH_SECONDS:
                self._asked = False
                self._fetch()

    def _fetch(self) -> None:
        try:
            document = fetched(self._url)
            if document != self._document:
                self._keys, self._document = key_set(self._jwt, document), document
            self._fetched = time.monotonic()
        except Exception as error:  # whatever a provider answers, it is asked again
            about = {"url": self._url, "error": str(error)}
            log.warning("the keys for JWTs were not fetched", extra=about)


def fetched(url: str) -> Any:
    """The JSON at a URL; all kinds of errors if there is none.

    Where another place would answer, which nobody has named, there is no answer.
    """
    # Not before it is needed: it takes megabytes.
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *args: Any, **named: Any) -> None:
            return None

    asked = Request(url, headers={"Accept": "application/json"})
    with build_opener(NoRedirects).open(asked, timeout=TIMEOUT_SECONDS) as response:
        data = response.read(SET_BYTES_MAX + 1)
    if len(data) > SET_BYTES_MAX:
        raise InvalidArgumentError(f"it has more than {SET_BYTES_MAX:,} bytes")
    return json.loads(data)


def unreadable(path: Path, error: Exception) -> Exception:
    """What to say of a file of keys that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"there is no file of keys for JWTs: {str(path)!r}")
    return InvalidArgumentError(f"the keys for JWTs in {str(path)!r} cannot be read: {error}")


def read_keys(library: Any, path: Path) -> PublicKeys:
    """The public keys of a file, by their ids: a JSON web key set, or one key in PEM without."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except ValueError as error:
            raise no_key_set(error) from error
        return key_set(library, document)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return {None: (load_pem_public_key(text.encode()), None)}
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(
            "expected a JSON web key set, or a public key in PEM (BEGIN PUBLIC KEY)"
        ) from error


def key_set(library: Any, document: Any) -> PublicKeys:
    """The keys for signatures of a JSON web key set.

    A set with secrets in it (kty "oct", or private parts) is refused as a whole. Keys of a type or
    a curve that nobody here knows, or that lack something, are not among the answer (RFC 7517,
    section 5): a provider adds some for others.
    """
    try:
        entries = document.get("keys", [document])
        if any(one.get("kty") == "oct" or PRIVATE & one.keys() for one in entries):
            raise InvalidArgumentError("it has secret or private keys; expected public ones alone")
        entries = [one for one in entries if is_for_signatures(one)]
        read = [(one, key_of(library, one)) for one in entries]
        found = [(one.get("kid"), key, one.get("alg")) for one, key in read if key is not None]
        ids = [id for id, _, _ in found]
        distinct = len(set(ids)) == len(ids) and (len(ids) == 1 or None not in ids)
    except InvalidArgumentError:
        raise
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise no_key_set(error) from error
    if not ids or not distinct:
        raise InvalidArgumentError("it has no keys, or keys that no `kid` tells apart")
    return {id: (key, algorithm) for id, key, algorithm in found}


def key_of(library: Any, entry: Any) -> Any:
    """The key of an entry; None if it is none that is known here."""
    try:
        return library.PyJWK(entry).key
    except (ValueError, TypeError, KeyError, library.PyJWTError) as error:
        about = {"kid": str(entry.get("kid")), "error": str(error)}
        log.warning("a key for JWTs is not known here, and is left out", extra=about)
        return None


def is_for_signatures(entry: Any) -> bool:
    """Whether a key is for signatures that could be believed; providers list others beside them."""
    return entry.get("use", "sig") == "sig" and entry.get("alg") in (None, *ALGORITHMS)


def no_key_set(error: Exception) -> InvalidArgumentError:
    """What to say of a document that is none."""
    return InvalidArgumentError(f"it is no JSON web key set: {error}")
