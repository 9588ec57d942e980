"""What answers at an address where no hub was reached, asked without gRPC.

Of a name with several addresses gRPC tells what was wrong with the last one, where there may be
nobody, and of a server that ends a connection not why. What is certain here does not pass with
time, so that nobody needs to try again. Where one of several addresses may have the hub nothing is.
"""

from __future__ import annotations

import os
import pkgutil
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ehub.client.transport import ClientTls

__all__ = ["Found", "found_at"]

# For each connection, and then for what is said on it.
SECONDS = 2.0
# Of the addresses of a name so many are looked at.
ADDRESSES_MAX = 4
# What a client of HTTP/2 begins with: the preface, and settings without a value.
BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
# Of an answer: the head of a frame, whose fourth byte is its kind, or HTTP/1 up to its status.
HEAD_BYTES = 12
SETTINGS = 4
ALERT = b"\x15\x03"  # how TLS answers what is no TLS
# Of what stands before a server that is not there yet, or has too much to do.
PASSING = re.compile(rb"HTTP/1\.\d (?:429|502|503|504)")
# Of what is wrong with a certificate, where gRPC may trust it all the same: an address is named as
# if it was a host, a key or a digest is weak.
STRICTER = frozenset((64, 66, 67, 68))
# Where gRPC looks for a proxy, and for what is reached without it.
PROXIES, DIRECT = ("grpc_proxy", "https_proxy", "http_proxy"), ("no_grpc_proxy", "no_proxy")

WANTS_TLS = "the server there wants TLS: connect with tls="
NO_TLS = "the server there has no TLS: connect without tls="
OTHER = (
    "what answers there is no Embeddinghub server ({}): check host and port, and whether a proxy "
    "between passes HTTP/2 on"
)


# An address and a port.
Place = tuple[str, int]


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
    is_socket = address.startswith(("unix:", "unix-abstract:"))
    if is_socket or not port.isdecimal() or goes_by_proxy(host):
        return None
    name = host.strip("[]")
    with suppress(OSError, ValueError):  # the latter: it is the name of no host
        return found_among(addresses_of(name, int(port)), name, tls)
    return None


def addresses_of(name: str, port: int) -> list[Place]:
    """Where gRPC looks for a host, each place once."""
    known = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(at[0]), port) for *_, at in known))


def found_among(places: list[Place], name: str, tls: ClientTls | None) -> Found | None:
    """What is wrong at all places of a name where anything is; None: at one of them nothing is.

    Of places where nobody is nothing is known, and it is certain if it is at all the others.
    """
    wrong = []
    for place in places[:ADDRESSES_MAX]:
        with suppress(OSError):
            found = without_tls(place) if tls is None else with_tls(place, name, tls)
            if found is None:
                return None
            wrong.append(found)
    if not wrong:
        return None
    certain = len(places) <= ADDRESSES_MAX and all(found.certain for found in wrong)
    return wrong[0]._replace(certain=certain)


def goes_by_proxy(host: str) -> bool:
    """Whether gRPC goes to a host by a proxy: what it meets there is not seen from here."""
    if not any(os.environ.get(name) for name in PROXIES):
        return False
    direct = next((told for name in DIRECT if (told := os.environ.get(name))), "")
    ends = [name.strip() for name in direct.split(",") if name.strip()]
    return not any(host == end or host.endswith("." + end.lstrip(".")) for end in ends)


def without_tls(place: Place) -> Found | None:
    """What is wrong with what answers there, asked without TLS."""
    head = head_of(place)
    if head[3:4] == bytes([SETTINGS]):
        return None
    if head.startswith(ALERT) or has_tls(place):  # which may answer others by HTTP/1
        return Found(WANTS_TLS)
    return other(head) if head else None


def with_tls(place: Place, name: str, tls: ClientTls) -> Found | None:
    """What is wrong with what answers there, asked with TLS, as the host of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    trust(context, tls)
    # Here, as what is the name of no host would leave the connection open.
    named = (tls.server_name or name).encode("idna").decode()
    connection = socket.create_connection(place, SECONDS)
    try:
        with connection, context.wrap_socket(connection, server_hostname=named) as secured:
            return after_handshake(secured, tls)
    except ssl.SSLCertVerificationError as error:
        return Found(
            f"the certificate of the server there is not to be trusted ({error.verify_message}): "
            "check that `ca` signed it, that it has not ended, and that it is made for this name "
            "(else server_name=)",
            certain=error.verify_code not in STRICTER,
        )
    except (ssl.SSLError, ConnectionError) as error:
        head = head_of(place)
        if head[3:4] == bytes([SETTINGS]):
            return Found(NO_TLS)
        if head.startswith(ALERT) or has_tls(place):
            return Found(f"the handshake of TLS fails ({error}): check both sides", certain=False)
        return other(head) if head else None


def trust(context: ssl.SSLContext, tls: ClientTls) -> None:
    """Have it trust, and show, what gRPC does: `ca` may be signed by another, who is not known."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
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
    return Found(OTHER.format(kind), certain=PASSING.match(head) is None)


def head_of(place: Place) -> bytes:
    """How what is there begins to answer who speaks HTTP/2 without TLS; empty: not at all."""
    head = b""
    with socket.create_connection(place, SECONDS) as connection, suppress(OSError):
        ends = time.monotonic() + SECONDS
        connection.sendall(BEGINNING)
        while len(head) < HEAD_BYTES and (left := ends - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (more := connection.recv(HEAD_BYTES - len(head))):
                break
            head += more
    return head


def has_tls(place: Place) -> bool:
    """Whether what is there has TLS, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with suppress(OSError):
        context.wrap_socket(socket.create_connection(place, SECONDS)).close()
        return True
    return False
