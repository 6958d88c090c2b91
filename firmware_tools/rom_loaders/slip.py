"""Frames of Espressif's loaders (SLIP, RFC 1055).

A frame is ``C0``, the bytes, ``C0``; within, ``C0`` is sent as ``DB DC`` and ``DB`` as ``DB DD``. Unlike in the RFC,
each frame begins with ``C0`` too.
"""

from collections.abc import Iterator
from typing import Final

__all__ = ["LIMIT", "Deframer", "frame"]

_END: Final = b"\xc0"

LIMIT: Final = 2 * 0x4000 + 256
"""Bytes of a frame on the wire: a block of the stub is 16 kB, and each byte may need two."""


def frame(content: bytes) -> bytes:
    """Return a frame as it goes onto the wire."""
    return _END + content.replace(b"\xdb", b"\xdb\xdd").replace(_END, b"\xdb\xdc") + _END


class Deframer:
    """Finds frames in a stream of bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that ``data`` completes. What is too long to be one is dropped."""
        self._rest += data
        *whole, rest = self._rest.split(_END)
        self._rest = rest if len(rest) <= LIMIT else bytearray()
        for part in whole:
            if part:  # between the end of a frame and the start of the next there is nothing
                yield bytes(part).replace(b"\xdb\xdc", _END).replace(b"\xdb\xdd", b"\xdb")

    def reset(self) -> None:
        """Forget half a frame."""
        self._rest.clear()
