"""HTTP/2 as a caller may speak it who does not keep to what gRPC's own clients do."""

from __future__ import annotations

import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
COUNT = "/ehub.v1.Embeddinghub/Count"


def frame(kind, flags, stream, payload):
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def framed(message):
    """A message as gRPC frames it: not compressed, with its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def headers(token, method, stream=1):
    """The beginning of a call."""
    told = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "x",
        "te": "trailers",
        "content-type": "application/grpc",
        **({"authorization": f"Bearer {token}"} if token else {}),
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in told.items()
    )
    return frame(HEADERS, END_HEADERS, stream, block)


def conversation(token, message, method=COUNT):
    """A whole call as a client sends it: `message` with its prefix, as gRPC frames it."""
    begun = PREFACE + frame(SETTINGS, 0, 0, b"") + headers(token, method)
    return begun + frame(DATA, END_STREAM, 1, message)


class Wire:
    """A connection whose calls are begun, and no more.

    Args:
        address: Of the server.
        window: How many bytes of each answer the server may send; they are not read on.
    """

    def __init__(self, address, window=65_535):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        setting = (4).to_bytes(2, "big") + window.to_bytes(4, "big")
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, setting))
        self._streams = 0
        self._unread = b""
        self._ended = set()

    def begin(self, token, method=COUNT, message=None):
        """Begin a call, with its request if it is given; the number of its stream."""
        stream = 2 * self._streams + 1
        self._streams += 1
        sent = headers(token, method, stream)
        if message is not None:
            sent += frame(DATA, END_STREAM, stream, framed(message))
        self._socket.sendall(sent)
        return stream

    def send(self, stream, data):
        """Send some of a request, and say that more follows."""
        self._socket.sendall(frame(DATA, 0, stream, data))

    def ended(self, seconds=30):
        """The next stream that the server ends, before so long."""
        self._socket.settimeout(seconds)
        while True:
            kind, flags, stream, payload = self._read()
            ends = kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM)
            if ends and stream not in self._ended:  # it may say so twice
                self._ended.add(stream)
                return stream
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
            if kind == PING and not flags & ACK:
                self._socket.sendall(frame(PING, ACK, 0, payload))

    def _read(self):
        head = self._exactly(9)
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    def _exactly(self, size):
        while len(self._unread) < size:
            part = self._socket.recv(65_536)
            if not part:
                raise ConnectionError("the server has closed the connection")
            self._unread += part
        wanted, self._unread = self._unread[:size], self._unread[size:]
        return wanted

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
