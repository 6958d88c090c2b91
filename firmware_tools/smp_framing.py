r"""How an SMP message goes over a serial wire, and how it is found in what comes back. Pure: bytes in, bytes out.

**A message** is eight bytes of header, big-endian, and one CBOR map (RFC 8949, definite or indefinite length)::

    op and version (1)   flags (1)   length of the map (2)   group (2)   sequence (1)   command (1)   map

``op`` stands in the low three bits: 0 read, 2 write, and one more in the response. The version stands in the two bits
above: 1 is "SMP version 2". A response repeats group, sequence and command.

**Base64 framing** is for a console. A frame is ``length (2) || message || CRC (2)``, both big-endian; the length counts
message and CRC, the CRC is CRC-16/XMODEM over the message. It goes over the wire in Base64, cut into lines of at most
128 characters::

    06 09 <Base64> 0a      first line
    04 14 <Base64> 0a      each line that follows

So log lines may stand between the lines of a frame, and text of any kind before one. ``smp.packet`` of the ``smp``
library does this framing; here are only its limits and the way back after noise:

- a line counts from its last ``06 09`` (or, inside a frame, ``04 14``) on; other lines are logs and are skipped;
- a new first line drops an unfinished frame;
- a frame that fails (Base64, length, CRC, header) is dropped and counted as damaged;
- lines are bounded by ``LINE_LIMIT``, messages by ``MESSAGE_LIMIT``.

**Raw framing** is for a UART that carries nothing else (Zephyr's ``CONFIG_UART_MCUMGR_RAW_PROTOCOL``, MCUboot's
``BOOT_SERIAL_RAW_PROTOCOL``): messages as they are, one after the other, with no CRC. Both servers drop a message that
stops in the middle after some silence. On our side bytes are passed over until something begins that can be the header
of a response and the map behind it, so the boot log of a ROM does no harm.
"""

import binascii
import struct
from enum import Enum
from typing import Final, NamedTuple, Protocol, assert_never

from smp import packet
from smp.exceptions import SMPException

__all__ = [
    "BITS_PER_BYTE",
    "DELIMITER",
    "FRAME_OVERHEAD",
    "HEADER_SIZE",
    "LINE_LENGTH",
    "LINE_LIMIT",
    "MESSAGE_LIMIT",
    "UNKNOWN_BUFFER",
    "FrameReader",
    "Framing",
    "Header",
    "MessageReader",
    "RawReader",
    "encode",
    "reader_of",
    "wire_size",
]

BITS_PER_BYTE: Final = 10
"""On the wire: a start bit, eight data bits, a stop bit."""

LINE_LENGTH: Final = 128
"""Characters of a line we send, its end included: what Zephyr and MCUboot take by default."""

LINE_LIMIT: Final = 1024
"""Characters of a line we accept."""

MESSAGE_LIMIT: Final = 4096
"""Bytes of a message we accept or send, header included."""

FRAME_OVERHEAD: Final = 4
"""Bytes of a frame beside its message: length and CRC. They share a server's buffer with the message."""

UNKNOWN_BUFFER: Final = 88
"""Bytes of the largest message for a server that does not tell its buffer: what fits one line."""

DELIMITER: Final = packet.END_DELIMITER
"""Ends a line. Before a repetition it ends whatever half a line of the last try the other side still holds."""

_HEADER: Final = struct.Struct("!BBHHBB")
HEADER_SIZE: Final = _HEADER.size
"""Bytes of a message's header."""

_OP_MASK: Final = 0b111
_ENCODED_LIMIT: Final = MESSAGE_LIMIT * 2
"""Characters of a frame: Base64 takes 4/3, and a board may cut short lines."""

_LINE_CHARACTERS: Final = (LINE_LENGTH - packet.LINE_LENGTH_SUBTRACTOR) // 4 * 4
"""Base64 characters of a full line."""

_RESPONSES: Final = frozenset(version << 3 | op for version in (0, 1) for op in (1, 3))
"""First bytes of a response."""

_MAPS: Final = range(0xA0, 0xC0)
"""First bytes of a CBOR map (RFC 8949 3.1, major type 5)."""


class Framing(Enum):
    """How messages are told apart on the wire, by the names that stand in a configuration."""

    BASE64 = "base64"
    RAW = "raw"


class Header(NamedTuple):
    """What tells an answer from everything else."""

    op: int
    group: int
    sequence: int
    command: int

    @classmethod
    def of(cls, message: bytes) -> "Header | None":
        """Read a message's header; None if the message is not as long as it says."""
        if len(message) < HEADER_SIZE:
            return None
        op, _flags, length, group, sequence, command = _HEADER.unpack_from(message)
        if HEADER_SIZE + length != len(message):
            return None
        return cls(op & _OP_MASK, group, sequence, command)

    @property
    def response(self) -> "Header":
        """The header that answers this one."""
        return self._replace(op=self.op + 1)


def encode(message: bytes, framing: Framing) -> bytes:
    """Return what goes over the wire for a message."""
    return message if framing is Framing.RAW else b"".join(packet.encode(message, LINE_LENGTH))


def wire_size(size: int, framing: Framing) -> int:
    """Return how many bytes a message of ``size`` bytes takes on the wire, in the lines that we send."""
    if framing is Framing.RAW:
        return size
    characters = -(-(size + FRAME_OVERHEAD) // 3) * 4
    return characters + -(-characters // _LINE_CHARACTERS) * (len(packet.START_DELIMITER) + len(DELIMITER))


class MessageReader(Protocol):
    """Finds messages in what comes over the wire; any bytes in any pieces are fine. Holds a few kilobytes at most."""

    damaged: int
    """Frames that began and can't be used."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the messages that ended in it."""

    def silence(self) -> None:
        """The wire was silent for so long that nothing that began before goes on."""


def reader_of(framing: Framing) -> MessageReader:
    """Return a reader for one wire."""
    match framing:
        case Framing.BASE64:
            return FrameReader()
        case Framing.RAW:
            return RawReader()
        case _:
            assert_never(framing)


class FrameReader:
    """The ``MessageReader`` of Base64 framing."""

    def __init__(self) -> None:
        """Begin between two lines."""
        self.damaged = 0
        self._rest = b""
        self._decoder = packet.decode()
        self._taken: int | None = None
        """Characters that the frame at hand has taken; None between frames."""

    def feed(self, data: bytes) -> list[bytes]:
        """See ``MessageReader``."""
        *lines, rest = (self._rest + data).split(packet.END_DELIMITER)
        messages = [message for line in lines if (message := self._line(line)) is not None]
        if len(rest) > LINE_LIMIT:
            # No end in sight. Keep what may be the beginning of a frame; a line that long can't become one itself.
            start = rest.rfind(packet.START_DELIMITER, len(rest) - LINE_LIMIT)
            rest = rest[start:] if start >= 0 else rest[-1:]
        self._rest = rest
        return messages

    def silence(self) -> None:
        """See ``MessageReader``; nothing to do: a first line begins anew whatever came before."""

    def _line(self, line: bytes) -> bytes | None:
        start = line.rfind(packet.START_DELIMITER)
        if start >= 0:
            self._decoder = packet.decode()
            next(self._decoder)
            self._taken = 0
        elif self._taken is None or (start := line.rfind(packet.CONTINUE_DELIMITER)) < 0:
            return None
        piece = line[start:].rstrip(b"\r") + packet.END_DELIMITER
        self._taken += len(piece)
        if len(piece) > LINE_LIMIT or self._taken > _ENCODED_LIMIT:
            self._damage()
            return None
        try:
            self._decoder.send(piece)
        except StopIteration as end:
            message: bytes = end.value
            self._taken = None
            if len(message) <= MESSAGE_LIMIT and Header.of(message) is not None:
                return message
            self._damage()
        except (SMPException, binascii.Error, struct.error, ValueError):
            self._damage()
        return None

    def _damage(self) -> None:
        self.damaged += 1
        self._taken = None


class RawReader:
    """The ``MessageReader`` of raw framing."""

    def __init__(self) -> None:
        """Begin between two messages."""
        self.damaged = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """See ``MessageReader``."""
        self._buffer += data
        messages: list[bytes] = []
        at = 0
        while len(self._buffer) - at > HEADER_SIZE:
            if not self._can_begin(at):
                at += 1
                continue
            end = at + HEADER_SIZE + int.from_bytes(self._buffer[at + 2 : at + 4])
            if end > len(self._buffer):
                break
            messages.append(bytes(self._buffer[at:end]))
            at = end
        del self._buffer[:at]
        return messages

    def silence(self) -> None:
        """See ``MessageReader``."""
        self.damaged += bool(self._buffer)
        self._buffer.clear()

    def _can_begin(self, at: int) -> bool:
        op, flags, length, *_ = _HEADER.unpack_from(self._buffer, at)
        return (
            op in _RESPONSES
            and flags == 0
            and 0 < length <= MESSAGE_LIMIT - HEADER_SIZE
            and self._buffer[at + HEADER_SIZE] in _MAPS
        )
