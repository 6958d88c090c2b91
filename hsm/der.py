"""The little DER that pyca/cryptography has no interface for (X.690 chapter 10).

A certificate and a certification request have one shape: SEQUENCE { to-be-signed, AlgorithmIdentifier, BIT STRING }.
Here it is taken apart and put together without touching the bytes that are signed.
"""

from typing import Final, NamedTuple

SEQUENCE: Final = 0x30
BIT_STRING: Final = 0x03
OBJECT_IDENTIFIER: Final = 0x06
NULL: Final = bytes([0x05, 0x00])
OCTET_STRING: Final = 0x04

_SIGNED_TAGS: Final = (SEQUENCE, SEQUENCE, BIT_STRING)
_LONG_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MAX_LENGTH_OCTETS: Final = 4


class DerError(ValueError):
    """The bytes are not DER of the shape that is expected."""


class Element(NamedTuple):
    """Where one element stands in the bytes that hold it."""

    tag: int
    start: int
    """Offset of the tag."""
    content: int
    """Offset of the content."""
    end: int
    """Offset right after the element."""


class Signed(NamedTuple):
    """The three parts of something signed, each as it stands, with tag and length."""

    tbs: bytes
    algorithm: bytes
    signature: bytes
    """The signature itself: the BIT STRING's content without its count of unused bits."""


def read(data: bytes, offset: int, limit: int) -> Element:
    """Read the tag and length at ``offset``.

    Args:
        data: the bytes.
        offset: where the tag is expected.
        limit: offset that the element must not cross.

    Raises:
        DerError: the length is not the shortest form, crosses the limit, or the tag has more than one octet.
    """
    content, end = _content(data, offset, limit)
    return Element(data[offset], offset, content, end)


def _content(data: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Return where the content of an element begins, and where it ends."""
    if limit - offset < 2:  # noqa: PLR2004 - tag and length
        raise DerError("an element is cut off")
    length = data[offset + 1]
    content = offset + 2
    if data[offset] & _LONG_TAG == _LONG_TAG:
        raise DerError("a tag has more than one octet")
    if length >= _LONG_LENGTH:
        octets = length - _LONG_LENGTH
        content += octets
        if not 1 <= octets <= _MAX_LENGTH_OCTETS or content > limit:
            raise DerError("a length is indefinite or too long")
        length = int.from_bytes(data[content - octets : content])
        if length < _LONG_LENGTH or length >> (8 * (octets - 1)) == 0:
            raise DerError("a length is not in its shortest form")
    if content + length > limit:
        raise DerError("an element is cut off")
    return content, content + length


def children(data: bytes, parent: Element) -> list[Element]:
    """Return the elements inside a constructed element.

    Raises:
        DerError: they don't fill it exactly.
    """
    found = []
    offset = parent.content
    while offset < parent.end:
        element = read(data, offset, parent.end)
        found.append(element)
        offset = element.end
    return found


def parts(data: bytes) -> list[bytes]:
    """Return the elements inside a constructed element that is all of the data, each with its tag and length.

    Does as ``children``, for those who want the bytes only, in less time: every certificate is taken apart.

    Raises:
        DerError: it is not one element, or they don't fill it exactly.
    """
    offset, end = _content(data, 0, len(data))
    if end != len(data):
        raise DerError(f"{len(data) - end} bytes follow the end")
    found = []
    while offset < end:
        after = _content(data, offset, end)[1]
        found.append(data[offset:after])
        offset = after
    return found


def split_signed(data: bytes) -> Signed:
    """Take something signed apart.

    Raises:
        DerError: it has another shape, or bytes follow it.
    """
    found = parts(data)
    if data[0] == SEQUENCE and len(found) == 3 and (found[0][0], found[1][0], found[2][0]) == _SIGNED_TAGS:  # noqa: PLR2004 - its parts
        bits = found[2]
        content, _ = _content(bits, 0, len(bits))
        if content == len(bits) or bits[content] != 0:
            raise DerError("the signature is not a whole number of octets")
        return Signed(found[0], found[1], bits[content + 1 :])
    raise DerError("this is not SEQUENCE { SEQUENCE, AlgorithmIdentifier, BIT STRING }")


def encode(tag: int, content: bytes) -> bytes:
    """Return an element with its tag and shortest length."""
    size = len(content)
    if size < _LONG_LENGTH:
        return bytes((tag, size)) + content
    octets = (size.bit_length() + 7) // 8
    return bytes((tag, _LONG_LENGTH | octets)) + size.to_bytes(octets) + content


def join_signed(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Put something signed together; the opposite of ``split_signed``."""
    return encode(SEQUENCE, tbs + algorithm + encode(BIT_STRING, b"\0" + signature))


def object_identifier(dotted: str) -> bytes:
    """Return the DER of an OBJECT IDENTIFIER (X.690 8.19).

    Raises:
        DerError: it is not a dotted number of at least two parts.
    """
    try:
        first, second, *rest = (int(part) for part in dotted.split("."))
    except ValueError:
        raise DerError(f"{dotted!r} is not an object identifier") from None
    if not 0 <= first <= 2 or (first < 2 and second > 39) or min(second, *rest, 0) < 0:  # noqa: PLR2004 - X.690 8.19.4
        raise DerError(f"{dotted!r} is not an object identifier")
    return encode(OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *rest)))


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(0x80 | number & 0x7F)
    return bytes(reversed(octets))
