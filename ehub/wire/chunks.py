"""A message of a batch as the server has it: its vectors stay in the bytes that they came in.

Protobuf copies bytes out of a message twice: when it reads it, and when they are asked for. So of a
large message the vectors are found here, and protobuf reads what is around them. What is not as our
clients write it, such as a field that comes twice, is left to protobuf, which says what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from ehub.types import Vectors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import LENGTH_DELIMITED, rows_in, varint

__all__ = ["Chunk", "Piece"]

# A part of a batch, and its vectors, which are held apart; None: it sets none.
Piece = tuple[pb.Part, "Vectors | None"]

# A smaller message is soon copied, and one of more fields soon read by protobuf alone.
LARGE_BYTES = 16 << 10
FIELDS_MAX = 1_000

# Where vectors are: a part may have them once.
PARTS = pb.WriteRequest.PARTS_FIELD_NUMBER
PATH = (pb.Part.SET_FIELD_NUMBER, pb.Set.VECTORS_FIELD_NUMBER, pb.Vectors.VALUES_FIELD_NUMBER)
# The bytes of a number, by the type that its tag says.
FIXED = {1: 8, 5: 4}
VARINT = 0
VARINT_BITS_MAX = 63
# Of a tag, or a length: protobuf refuses longer ones.
SHORT_BYTES_MAX = 5


class Unusual(Exception):
    """A message that is for protobuf to read."""


class Chunk:
    """A message of a batch.

    Args:
        request: What it says, but for the vectors.
        values: The bytes of each part's vectors; None: it has none.
        size: The bytes of all of it.
    """

    def __init__(
        self, request: pb.WriteRequest, values: Sequence[bytes | memoryview | None], size: int
    ) -> None:
        self.request = request
        self.size = size
        self._values = values

    @classmethod
    def read(cls, data: bytes) -> Chunk:
        """A message as it came; a DecodeError if it is none."""
        if len(data) >= LARGE_BYTES:
            try:
                return cls.in_place(data)
            except Unusual:
                pass
        return cls.of_message(pb.WriteRequest.FromString(data))

    @classmethod
    def in_place(cls, data: bytes) -> Chunk:
        """The same, its vectors where they are; Unusual if they are not where ours are."""
        apart = Apart(data)
        return cls(pb.WriteRequest.FromString(apart.rest), apart.values, len(data))

    @classmethod
    def of_message(cls, request: pb.WriteRequest) -> Chunk:
        """Of a message, which has its vectors no more: they would be there twice."""
        size = request.ByteSize()
        values = [taken(part) for part in request.parts]
        # What it is made anew of has no memory for them.
        return cls(pb.WriteRequest.FromString(request.SerializeToString()), values, size)

    @property
    def parts(self) -> Sequence[pb.Part]:
        """Its parts, as the message has them."""
        return self.request.parts

    @cached_property
    def pieces(self) -> list[Piece]:
        """Its parts with their vectors, which may lie at any address."""
        return [
            (part, rows_in(values or b"", part.set.vectors.dims) if is_set(part) else None)
            for part, values in zip(self.request.parts, self._values, strict=True)
        ]


def is_set(part: pb.Part) -> bool:
    """Whether a part sets rows."""
    return bool(part.WhichOneof("what") == "set")


def taken(part: pb.Part) -> bytes | None:
    """The vectors of a part, which it has no more; None if it sets none."""
    if not is_set(part):
        return None
    values = part.set.vectors.values
    part.set.vectors.ClearField("values")
    return values


class Apart:
    """A WriteRequest, and the vectors of its parts.

    Attributes:
        rest: All but the vectors.
        values: In order, the bytes of each part's vectors; None: it has none.
    """

    def __init__(self, data: bytes) -> None:
        self.values: list[memoryview | None] = []
        self._left = FIELDS_MAX
        self.rest = self._request(memoryview(data))

    def _request(self, data: memoryview) -> bytes:
        rest = list[bytes | memoryview]()
        for number, begin, first, last in self._fields(data, PARTS):
            if number != PARTS:
                rest.append(data[begin:last])
                continue
            own = list[memoryview]()
            rest += field_of(number, self._without(data[first:last], PATH, own))
            self.values.append(own[0] if own else None)
        return b"".join(rest)

    def _without(self, data: memoryview, path: tuple[int, ...], found: list[memoryview]) -> bytes:
        """A message without the field at the end of a path, whose content is added to `found`."""
        wanted, deeper = path[0], path[1:]
        rest, seen = list[bytes | memoryview](), False
        for number, begin, first, last in self._fields(data, wanted):
            if number != wanted:
                rest.append(data[begin:last])
                continue
            if seen:  # protobuf makes one of both
                raise Unusual
            seen = True
            if deeper:
                rest += field_of(number, self._without(data[first:last], deeper, found))
            else:
                found.append(data[first:last])
        return b"".join(rest)

    def _fields(self, data: memoryview, wanted: int) -> Iterator[tuple[int, int, int, int]]:
        """Of each field its number, where it begins, and where its content does and ends.

        A message is Unusual if fields of the number `wanted` are no messages, and no bytes.
        """
        at, end = 0, len(data)
        while at < end:
            begin = at
            tag, first = short_varint_at(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == LENGTH_DELIMITED:
                size, first = short_varint_at(data, first)
                at = first + size
            elif kind == VARINT:
                _, at = varint_at(data, first)
            else:
                at = first + FIXED.get(kind, end)
            self._left -= 1
            if at > end or self._left < 0 or (number == wanted and kind != LENGTH_DELIMITED):
                raise Unusual
            yield number, begin, first, at


def field_of(number: int, content: bytes) -> list[bytes]:
    """A field that is a message."""
    return [varint(number << 3 | LENGTH_DELIMITED), varint(len(content)), content]


def short_varint_at(data: memoryview, at: int) -> tuple[int, int]:
    """The same of a tag, or of a length; Unusual if it is written with more bytes than it may."""
    number, end = varint_at(data, at)
    if end - at > SHORT_BYTES_MAX:
        raise Unusual
    return number, end


def varint_at(data: memoryview, at: int) -> tuple[int, int]:
    """A number that begins there, and where what is behind it does."""
    number = 0
    for shift in range(0, VARINT_BITS_MAX + 1, 7):
        if at >= len(data):
            break
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
    raise Unusual
