r"""SMP over a console UART: frames out of a noisy wire, and one answer for one request.

**A message** is eight bytes of header, big-endian, and one CBOR map (RFC 8949, definite or indefinite length)::

    op and version (1)   flags (1)   length of the map (2)   group (2)   sequence (1)   command (1)   map

``op`` stands in the low three bits: 0 read, 2 write, and one more in the response. The version stands in the two bits
above: 1 is "SMP version 2". A response repeats group, sequence and command.

**A frame** is ``length (2) || message || CRC (2)``, both big-endian; the length counts message and CRC, the CRC is
CRC-16/XMODEM over the message. The frame goes over the wire in Base64, cut into lines of at most 128 characters::

    06 09 <Base64> 0a      first line
    04 14 <Base64> 0a      each line that follows

So log lines may stand between the lines of a frame, and text of any kind before one. ``smp.packet`` of the ``smp``
library does this framing; here are only its limits and the way back after noise:

- a line counts from its last ``06 09`` (or, inside a frame, ``04 14``) on; other lines are logs and are skipped;
- a new first line drops an unfinished frame;
- a frame that fails (Base64, length, CRC, header) is dropped and counted as damaged;
- lines are bounded by ``LINE_LIMIT``, messages by ``MESSAGE_LIMIT``, all that a board may say before it answers by
  ``TALK_LIMIT``.

**An exchange** is one request and its response. Everything with another group, command or sequence is dropped: the
echo of our request (a console that echoes, or TX wired to RX), and responses that come after we gave up on them. A
damaged frame or silence makes us send the same bytes again, under the same sequence number, since every command may be
repeated: so a late answer to the first try is as good as one to the second.
"""

import asyncio
import binascii
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from smp import packet
from smp.exceptions import SMPException
from smpclient.transport import SMPTransport
from typing_extensions import override

from station.errors import Garbled, LinkError, NoAnswer
from station.ports.link import Link

LINE_LENGTH: Final = 128
"""Characters of a line we send, its end included: what Zephyr and MCUboot take by default."""

LINE_LIMIT: Final = 1024
"""Characters of a line we accept."""

MESSAGE_LIMIT: Final = 4096
"""Bytes of a message we accept or send, header included."""

TALK_LIMIT: Final = 65536
"""Bytes that a board may say before the answer to a request comes; a boot log has room, a flood has not."""

DAMAGE_LIMIT: Final = 6
"""Damaged frames after which a request is given up. Each is followed by another try at once."""

DEFAULT_DEADLINES: Final = (1.0, 2.0, 4.0)
"""Seconds that each try waits for its answer, beside the time that the bytes need on the wire."""

ANSWER_SIZE: Final = 2048
"""Bytes that an answer may need on the wire within a deadline: a piece of a chain, encoded, and a log line or two."""

CLIENT_DEADLINE: Final = 60.0
"""Seconds that ``smpclient`` may wait for an answer; it sets its own, shorter deadlines, since an upload that erases
flash takes long and must not be repeated meanwhile."""

FRAME_OVERHEAD: Final = 4
"""Bytes of a frame beside its message: length and CRC."""

UNKNOWN_BUFFER: Final = 88
"""Bytes of the largest message for a server that does not tell its buffer: what fits one line."""

BITS_PER_BYTE: Final = 10
"""On the wire: a start bit, eight data bits, a stop bit."""

_HEADER: Final = struct.Struct("!BBHHBB")
_OP_MASK: Final = 0b111
_ENCODED_LIMIT: Final = MESSAGE_LIMIT * 2
"""Characters of a frame: Base64 takes 4/3, and a board may cut short lines."""


class Header(NamedTuple):
    """What tells an answer from everything else."""

    op: int
    group: int
    sequence: int
    command: int

    @classmethod
    def of(cls, message: bytes) -> "Header | None":
        """Read a message's header; None if the message is not as long as it says."""
        if len(message) < _HEADER.size:
            return None
        op, _flags, length, group, sequence, command = _HEADER.unpack_from(message)
        if _HEADER.size + length != len(message):
            return None
        return cls(op & _OP_MASK, group, sequence, command)

    @property
    def response(self) -> "Header":
        """The header that answers this one."""
        return self._replace(op=self.op + 1)


class FrameReader:
    """Finds messages in what comes over the wire; any bytes in any pieces are fine. Holds a few kilobytes at most."""

    def __init__(self) -> None:
        """Begin between two lines."""
        self.damaged = 0
        """Frames that began and can't be used."""
        self._rest = b""
        self._decoder = packet.decode()
        self._taken: int | None = None
        """Characters that the frame at hand has taken; None between frames."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the messages that ended in it."""
        *lines, rest = (self._rest + data).split(packet.END_DELIMITER)
        messages = [message for line in lines if (message := self._line(line)) is not None]
        if len(rest) > LINE_LIMIT:
            # No end in sight. Keep what may be the beginning of a frame; a line that long can't become one itself.
            start = rest.rfind(packet.START_DELIMITER, len(rest) - LINE_LIMIT)
            rest = rest[start:] if start >= 0 else rest[-1:]
        self._rest = rest
        return messages

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


class _Damaged(Exception):
    """A frame came and can't be used: it was most likely our answer."""


class SmpTransport(SMPTransport):
    """The transport of ``smpclient`` over our ``Link``, with the rules of the module docstring."""

    def __init__(self, link: Link) -> None:
        """Speak over an open link; the caller closes it."""
        self._link = link
        self._frames = FrameReader()
        self._heard = 0
        self.disturbances = 0
        """How often an answer was waited for in vain, or came damaged."""
        self.bytes_sent = 0
        """On the wire, framing included."""
        self.bytes_received = 0
        """On the wire, framing and noise included."""

    async def exchange(self, request: bytes, deadlines: Sequence[float] = DEFAULT_DEADLINES) -> bytes:
        """Send a message and return the one that answers it.

        Args:
            request: a message, header included.
            deadlines: seconds that each try waits, beside the time on the wire; as many tries as there are deadlines.

        Raises:
            NoAnswer: the board stayed silent.
            Garbled: the board talked, but never in a usable frame, or without end.
            Unplugged: the port is gone.
        """
        header = Header.of(request)
        if header is None:
            raise LinkError(f"a request of {len(request)} bytes is no SMP message", code="link.bad_request")
        encoded = b"".join(packet.encode(request, LINE_LENGTH))
        on_wire = (len(encoded) + ANSWER_SIZE) * BITS_PER_BYTE / self._link.baud
        self._heard = silences = damages = 0
        await asyncio.sleep(0)  # a board that has sent its answers ahead must not keep the other slots waiting
        while silences < len(deadlines) and damages < DAMAGE_LIMIT:
            # A newline before a repetition ends whatever half a line of the last try the board still holds.
            data = b"\n" + encoded if silences or damages else encoded
            try:
                async with asyncio.timeout(deadlines[silences] + on_wire):
                    await self._send(data)
                    return await self._answer(header.response)
            except TimeoutError:
                silences += 1
                self.disturbances += 1
            except _Damaged:
                damages += 1
                self.disturbances += 1
        tries = silences + damages
        if damages:
            raise Garbled(f"{damages} of {tries} answers were damaged on the wire", port=self._link.name)
        if heard := self._heard + self._link.waiting:
            raise Garbled(f"{heard} bytes came in {tries} tries, and no answer", port=self._link.name)
        raise NoAnswer(f"no byte came in {tries} tries", port=self._link.name)

    async def _send(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        await self._link.write(data)

    async def _answer(self, wanted: Header) -> bytes:
        damaged = self._frames.damaged
        while True:
            data = await self._link.read(packet.END_DELIMITER)
            self.bytes_received += len(data)
            self._heard += len(data)
            for message in self._frames.feed(data):
                if Header.of(message) == wanted:
                    return message
            if self._heard > TALK_LIMIT:
                raise Garbled(f"the board sent {self._heard} bytes and no answer", port=self._link.name)
            if self._frames.damaged > damaged:
                raise _Damaged

    # What smpclient.SMPClient calls; so firmware is uploaded through the same wire.

    @override
    async def connect(self, address: str, timeout_s: float) -> None:
        """Do nothing: the link is open."""

    @override
    async def disconnect(self) -> None:
        """Do nothing: the link's owner closes it."""

    @override
    async def send(self, data: bytes) -> None:
        await self._send(b"".join(packet.encode(data, LINE_LENGTH)))

    @override
    async def receive(self) -> bytes:
        while True:
            data = await self._link.read(packet.END_DELIMITER)
            self.bytes_received += len(data)
            for message in self._frames.feed(data):
                return message

    @override
    async def send_and_receive(self, data: bytes) -> bytes:
        return await self.exchange(data, (CLIENT_DEADLINE,))

    @property
    @override
    def mtu(self) -> int:
        return LINE_LENGTH

    @property
    @override
    def max_unencoded_size(self) -> int:
        """Bytes of the largest message: length and CRC share the server's buffer with it."""
        if self._smp_server_transport_buffer_size is None:
            return UNKNOWN_BUFFER
        return min(self._smp_server_transport_buffer_size - FRAME_OVERHEAD, MESSAGE_LIMIT)
