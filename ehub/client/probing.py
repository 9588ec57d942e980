"""What answers at an address where no hub was reached, asked without gRPC.

Of a name with several addresses gRPC tells what was wrong with the last one, where there may be
nobody, and of a server that ends a connection not why. What is certain here does not pass with
time, so that nobody needs to try again.
"""

from __future__ import annotations

import os
import pkgutil
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ehub.client.transport import ClientTls

__all__ = ["Found", "found_at"]

# For each connection, and for each wait on it.
SECONDS = 2.0
# What a client of HTTP/2 begins with: the preface, and settings without a value.
BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
HEAD_BYTES = 9  # of a frame, whose fourth byte is its kind
SETTINGS = 4
ALERT = b"\x15\x03"  # how TLS answers what is no TLS

WANTS_TLS = "the server there wants TLS: connect with tls="
NO_TLS = "the server there has no TLS: connect without tls="
OTHER = (
    "what answers there is no Embeddinghub server ({}): check host and port, and whether a proxy "
    "between passes HTTP/2 on"
)


class Found(NamedTuple):
    """What is wrong.

    Args:
        text: With what to do about it.
        certain: Whether it stays so until somebody does.
    """

    text: str
    certain: bool = True


def found_at(address: str, tls: ClientTls | None) -> Found | None:
    """What is wrong at an address; None: nothing that can be seen from here."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or host.startswith("unix"):
        return None
    place = host.strip("[]"), int(port)
    with suppress(OSError):
        return without_tls(place) if tls is None else with_tls(place, tls)
    return None


def without_tls(place: tuple[str, int]) -> Found | None:
    """What is wrong with what answers there, asked without TLS."""
    head = head_of(place)
    if head[3:4] == bytes([SETTINGS]):
        return None
    if head.startswith(ALERT) or has_tls(place):  # which may answer others by HTTP/1
        return Found(WANTS_TLS)
    return other(head) if head else None


def with_tls(place: tuple[str, int], tls: ClientTls) -> Found | None:
    """What is wrong with what answers there, asked with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    trust(context, tls)
    connection = socket.create_connection(place, SECONDS)
    try:
        with context.wrap_socket(
            connection, server_hostname=tls.server_name or place[0]
        ) as secured:
            return after_handshake(secured, tls)
    except ssl.SSLCertVerificationError as error:
        return Found(
            f"the certificate of the server there is not to be trusted ({error.verify_message}): "
            "check that `ca` signed it, that it has not ended, and that it is made for this name "
            "(else server_name=)"
        )
    except (ssl.SSLError, ConnectionError) as error:
        head = head_of(place)
        if head[3:4] == bytes([SETTINGS]):
            return Found(NO_TLS)
        if has_tls(place):
            return Found(f"the handshake of TLS fails ({error}): check both sides", certain=False)
        return other(head) if head else None


def trust(context: ssl.SSLContext, tls: ClientTls) -> None:
    """Have it trust, and show, what gRPC does."""
    roots = tls.ca or os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    if roots is not None:
        context.load_verify_locations(roots)
    elif own := pkgutil.get_data("grpc._cython", "_credentials/roots.pem"):
        context.load_verify_locations(cadata=own.decode())
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)


def after_handshake(secured: ssl.SSLSocket, tls: ClientTls) -> Found | None:
    """What is wrong although the server's certificate is good."""
    if secured.selected_alpn_protocol() != "h2":
        return Found(OTHER.format("it has TLS, but not HTTP/2"))
    said = ""
    try:
        secured.sendall(BEGINNING)
        if secured.recv(HEAD_BYTES):
            return None
    except (ssl.SSLError, ConnectionError) as error:
        said = str(getattr(error, "reason", None) or "")
    asks = (
        "does it want a certificate of yours (certificate=, key=)?"
        if tls.certificate is None
        else "does it trust the certificate of yours (certificate=)?"
    )
    why = f" ({said})" if said else ""
    # A server that is about to stop may end a connection, too; but it says no such thing.
    certain = "CERTIFICATE" in said or "UNKNOWN_CA" in said
    return Found(
        f"the server there ends the connection behind the handshake of TLS{why}: {asks}", certain
    )


def other(head: bytes) -> Found:
    """What begins like that is no server of gRPC."""
    kind = "it speaks HTTP/1" if head.startswith((b"HTTP/1", b"<")) else f"it begins with {head!r}"
    return Found(OTHER.format(kind))


def head_of(place: tuple[str, int]) -> bytes:
    """How what is there begins to answer who speaks HTTP/2 without TLS; empty: not at all."""
    head = b""
    with socket.create_connection(place, SECONDS) as connection, suppress(OSError):
        connection.sendall(BEGINNING)
        while len(head) < HEAD_BYTES and (more := connection.recv(HEAD_BYTES - len(head))):
            head += more
    return head


def has_tls(place: tuple[str, int]) -> bool:
    """Whether what is there has TLS, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with suppress(OSError):
        context.wrap_socket(socket.create_connection(place, SECONDS)).close()
        return True
    return False
