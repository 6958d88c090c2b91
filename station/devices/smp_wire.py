"""SMP over a board's port: one answer for one request, and messages one by one for whoever has several on the way.

``firmware_tools.smp_framing`` says what goes over the wire and how messages are found in a noisy one.

**An exchange** is one request and its response. Everything with another group, command or sequence is dropped: the
echo of our request (a console that echoes, or TX wired to RX), and responses that come after we gave up on them. A
damaged frame or silence makes us send the same bytes again, under the same sequence number, since every command may be
repeated: so a late answer to the first try is as good as one to the second.

``send`` and ``receive`` are for flashers: they make an ``SmpTransport`` an ``SmpWire`` of ``firmware_tools.flashers``.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from smpclient.transport import SMPTransport
from typing_extensions import override

from firmware_tools.smp_framing import (
    BITS_PER_BYTE,
    DELIMITER,
    FRAME_OVERHEAD,
    LINE_LENGTH,
    MESSAGE_LIMIT,
    UNKNOWN_BUFFER,
    Framing,
    Header,
    encode,
    reader_of,
    wire_size,
)
from station.errors import Garbled, LinkError, NoAnswer
from station.ports.link import Link

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


class _Damaged(Exception):
    """A frame came and can't be used: it was most likely our answer."""


class SmpTransport(SMPTransport):
    """The transport of ``smpclient`` over our ``Link``, with the rules of the module docstring."""

    def __init__(self, link: Link, framing: Framing = Framing.BASE64) -> None:
        """Speak over an open link; the caller closes it."""
        self._link = link
        self._framing = framing
        self._frames = reader_of(framing)
        # A line of Base64 is of no use before it ends; of a raw message nobody knows which byte is the last.
        self._until = DELIMITER if framing is Framing.BASE64 else b""
        self._received: deque[bytes] = deque()
        """Messages that ``receive`` has not handed out yet."""
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
        encoded = encode(request, self._framing)
        on_wire = (len(encoded) + ANSWER_SIZE) * BITS_PER_BYTE / self._link.baud
        self._heard = silences = damages = 0
        await asyncio.sleep(0)  # a board that has sent its answers ahead must not keep the other slots waiting
        while silences < len(deadlines) and damages < DAMAGE_LIMIT:
            try:
                async with asyncio.timeout(deadlines[silences] + on_wire):
                    await self._send(encoded, after_silence=bool(silences or damages))
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

    async def _send(self, data: bytes, *, after_silence: bool = False) -> None:
        if after_silence:
            self._frames.silence()
            data = self._until + data
        self.bytes_sent += len(data)
        await self._link.write(data)

    async def _read(self) -> list[bytes]:
        data = await self._link.read(self._until)
        self.bytes_received += len(data)
        self._heard += len(data)
        return self._frames.feed(data)

    async def _answer(self, wanted: Header) -> bytes:
        damaged = self._frames.damaged
        while True:
            for message in await self._read():
                if Header.of(message) == wanted:
                    return message
            if self._heard > TALK_LIMIT:
                raise Garbled(f"the board sent {self._heard} bytes and no answer", port=self._link.name)
            if self._frames.damaged > damaged:
                raise _Damaged

    # What smpclient.SMPClient calls, and a flasher; so firmware is uploaded through the same wire.

    @property
    def name(self) -> str:
        """The port, as configured."""
        return self._link.name

    @property
    def baud(self) -> int:
        """Bits a second, 8N1, each direction."""
        return self._link.baud

    def wire_size(self, size: int) -> int:
        """Return how many bytes a message of ``size`` bytes takes on the wire."""
        return wire_size(size, self._framing)

    @override
    async def connect(self, address: str, timeout_s: float) -> None:
        """Do nothing: the link is open."""

    @override
    async def disconnect(self) -> None:
        """Do nothing: the link's owner closes it."""

    @override
    async def send(self, data: bytes, *, after_silence: bool = False) -> None:
        await self._send(encode(data, self._framing), after_silence=after_silence)

    @override
    async def receive(self) -> bytes:
        while not self._received:
            self._received += await self._read()
        return self._received.popleft()

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
