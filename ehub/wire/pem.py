"""Files of TLS, looked at before gRPC has them.

Of what is wrong with one it says no more than that there is no way, and it ends the process of a
client that has a certificate and no key.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from ehub.errors import InvalidArgumentError

__all__ = ["contents", "require_authority", "require_pair"]

# Else OpenSSL asks for the password of an encrypted key on the terminal.
NO_PASSWORD = b""


def contents(path: str | Path, what: str) -> bytes:
    """What is in a file.

    Args:
        path: Where it is.
        what: What it has, as an error says it.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{what} for TLS is {path!r:.100}; expected the path of a file in PEM")
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # the latter: NUL is no part of a path
        raise InvalidArgumentError(
            f"{what} for TLS cannot be read from {str(path)!r}: "
            f"{getattr(error, 'strerror', None) or error}; expected a file in PEM"
        ) from None


def require_pair(certificate: str | Path, key: str | Path) -> None:
    """Refuse files that are no certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            certificate, key, password=NO_PASSWORD
        )
    except ssl.SSLError as error:
        raise InvalidArgumentError(
            f"TLS with certificate {str(certificate)!r} and key {str(key)!r} is not possible: "
            f"{error}; expected PEM, the key of that certificate and not encrypted"
        ) from None


def require_authority(path: str | Path, what: str) -> None:
    """Refuse a file that has no certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise InvalidArgumentError(
            f"TLS with {what} {str(path)!r} is not possible: {error}; expected certificates in PEM"
        ) from None
