"""Brings one image onto a board through SMP's image group, and keeps the wire full while it does.

Each request carries a piece and its offset; each answer says which offset the server wants next. A server takes the
piece at the offset that it wants and drops every other, so several may be on the way, and an answer speaks for all that
went before it. From that follows the way back after a loss:

- the answer to a later piece asks for an earlier offset: wait for what is still on the way, then go on from there;
- silence: send again from the last offset that is known, which also brings the offset that the server really wants;
- the server wants offset 0, or refuses an offset: it was reset, and begins anew, a bounded number of times.

The first request names the size and the SHA-256 of the whole. It may take the time of an erase, tens of seconds, and
must not be sent again meanwhile. So after some silence an echo is sent: if that is answered and the first request is
not, then it was lost. A server that was in the middle of this very image goes on where it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from smp.error import MGMT_ERR
from smp.header import CommandId, GroupId
from smp.image_management import IMG_MGMT_ERR
from smpclient.requests.image_management import ImageUploadWrite
from smpclient.requests.os_management import EchoWrite

from firmware_tools.errors import FlashError
from firmware_tools.flashers import Placed
from firmware_tools.flashers.smp_pace import MessageSize, Window
from firmware_tools.flashers.smp_peer import Answer, SmpPeer
from firmware_tools.smp_framing import FRAME_OVERHEAD, MESSAGE_LIMIT, UNKNOWN_BUFFER

__all__ = ["Limits", "Upload", "UploadPatience"]

FIRST_PIECE: Final = 32
"""Bytes that the first piece has to hold: the header of an image, or Zephyr refuses it."""

RESTARTS: Final = 3
"""How often an upload may begin anew and come no further than before."""

REMEMBERED: Final = 64
"""Requests whose late answers are still understood."""

LOSSES: Final = 30
"""Losses in a row, of whatever kind, that bring nothing forward before the board is given up."""

STRANGERS: Final = 256
"""Messages that answer nothing of ours after which a board that talks counts as silent."""

_WHAT: Final = "a piece of the image"

_LOST_SESSION: Final = frozenset({MGMT_ERR.EUNKNOWN, MGMT_ERR.EINVAL, MGMT_ERR.EBADSTATE})
"""What a server of SMP version 1 says to a piece in the middle of an upload that it knows nothing of."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server says of its buffers; None: nothing."""

    buffer: int | None = None
    """Bytes of one, for a message with its length and CRC."""
    count: int | None = None

    @property
    def message(self) -> int | None:
        """Bytes of the largest message."""
        return None if self.buffer is None else min(self.buffer - FRAME_OVERHEAD, MESSAGE_LIMIT)


@dataclass(frozen=True, slots=True)
class UploadPatience:
    """Seconds, beside the time on the wire."""

    erase: float = 40.0
    """For the answer to the first request."""
    first_silence: float = 3.0
    """After which the server is asked whether it is still there, while it should be erasing."""
    shortest: float = 0.5
    longest: float = 4.0
    """A piece waits for its answer at least and at most so long; in between, four times the slowest answer so far."""
    silences: int = 7
    """Times in a row that nothing is answered before the board is given up."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """One request on the way."""

    offset: int
    end: int
    size: int
    """Bytes of the message."""
    sent: float
    """When the port had taken it, by the loop's clock."""


class _Anew(Exception):
    """The server knows nothing of this upload any more."""

    def __init__(self, cause: FlashError | None = None) -> None:
        """Give the reason, to be raised if it happens too often; None: the board was reset."""
        super().__init__()
        self.cause = cause


class Upload:
    """One image to one board; ``run`` once."""

    def __init__(  # noqa: PLR0913 - what a transfer is made of
        self,
        peer: SmpPeer,
        image: Placed,
        *,
        limits: Limits,
        patience: UploadPatience,
        progress: Callable[[int], None],
        is_there: Callable[[], Awaitable[bool]],
        one_by_one: bool = False,
    ) -> None:
        """Prepare.

        Args:
            peer: the board's server.
            image: its ``address`` is the number of the image on the board.
            limits: of the server.
            patience: with it.
            progress: told the bytes that the board has, often.
            is_there: asks the board whether it holds the image: the answer to the last piece may be lost.
            one_by_one: never send a piece before the last one was answered.
        """
        self._peer = peer
        self._image = image
        self._total = len(image.content)
        self._patience = patience
        self._progress = progress
        self._is_there = is_there
        self._loop = asyncio.get_running_loop()
        self._window = Window(limits.count)
        if one_by_one:
            self._window.stay_alone()
        self._size = MessageSize(limits.message, UNKNOWN_BUFFER)
        self._slowest = 0.0
        """Seconds of the slowest answer of late."""
        self._known: dict[int, _Flight] = {}
        """Requests that may still be answered, by sequence number, oldest first: those given up too."""
        self._wanted = 0
        """The offset that the server wants next, as far as we know."""
        self._first_end = 0
        """Bytes of the first piece."""
        self.written = 0
        """Bytes that the board took; less than all where it had a part already."""

    async def run(self) -> None:
        """Upload.

        Raises:
            FlashError: ``flash.no_answer``, ``flash.refused``, ``flash.too_large``, ``flash.downgrade``, or
                ``flash.verify``: the board says that what came is not what was sent.
        """
        cause: FlashError | None = None
        in_vain, best = 0, 0
        while in_vain <= RESTARTS:
            try:
                offset = await self._begin()
                is_fresh = offset <= self._first_end or self.written > 0
                self.written = self._total if is_fresh else self._total - offset
                await self._stream(offset)
            except _Anew as anew:
                cause = anew.cause or cause
                if cause is not None and cause.code == "flash.verify":  # buffers ran over, and no CRC was there to tell
                    self._window.stay_alone()
                if await self._is_there():
                    return
                in_vain = in_vain + 1 if self._wanted <= best else 0
                best = max(best, self._wanted)
            else:
                return
        raise cause or FlashError(
            f"{self._image.name}: the board forgets the upload again and again; does it reset by itself?",
            code="flash.no_answer",
        )

    async def _begin(self) -> int:
        """Send the first piece; return the offset that the server wants next."""
        asked = {await self._send_first()}
        echoes: set[int] = set()
        end = self._loop.time() + self._patience.erase
        while (left := end - self._loop.time()) > 0:
            answer = await self._peer.answer(min(self._patience.first_silence, left))
            if answer is None:  # it erases, or did not hear us
                echo = EchoWrite(d="", sequence=self._peer.next_sequence())
                echoes.add(echo.sequence)
                await self._peer.send(echo, after_silence=True)
            elif _is_upload(answer) and answer.sequence in asked:
                if (refusal := answer.refusal(_WHAT)) is not None:
                    raise refusal
                if (offset := self._offset(answer)) > 0:
                    self._progress(offset)
                    return offset
                raise FlashError(f"{self._image.name}: the board takes no piece of it", code="flash.refused")
            elif answer.group == GroupId.OS_MANAGEMENT and answer.sequence in echoes:
                echoes.clear()
                if len(asked) > self._patience.silences:
                    break
                self._size.lost()
                asked.add(await self._send_first(after_silence=True))
                end = self._loop.time() + self._patience.erase
        raise FlashError(
            f"{self._peer.wire.name}: no answer to the first piece of {self._image.name}", code="flash.no_answer"
        )

    async def _stream(self, offset: int) -> None:
        """Send all pieces from an offset on."""
        self._wanted = ahead = best = offset
        self._known.clear()
        flying: dict[int, _Flight] = {}
        silences = strangers = losses = 0
        rewinding = after_silence = False
        while self._wanted < self._total:
            at_once = self._window.size if self._size.is_settled else 1
            while not rewinding and ahead < self._total and len(flying) < at_once:
                sequence, sent = await self._send_piece(ahead, after_silence=after_silence)
                flying[sequence] = sent
                ahead, after_silence = sent.end, False
            answer = await self._peer.answer(self._deadline(flying, silences))
            flight = None if answer is None or not _is_upload(answer) else self._known.get(answer.sequence)
            if answer is None or strangers > STRANGERS:
                silences, losses, strangers = silences + 1, losses + 1, 0
                self._lose(silences, losses)
                flying.clear()
                ahead, rewinding, after_silence = self._wanted, False, True
                continue
            if flight is None:
                strangers += 1
                continue
            strangers = 0
            current = flying.pop(answer.sequence, None)
            offset = self._taken_up_to(answer, flight)
            if offset > best:
                best, silences, losses = offset, 0, 0
                self._progress(offset)
            # A late answer says what once was; that to a request at hand says what is, should it be less than before.
            self._wanted = max(self._wanted, offset) if current is None else offset
            # What went before this one is answered by this answer too: the server takes one after the other.
            flying = {
                sequence: other
                for sequence, other in flying.items()
                if other.end > self._wanted and (current is None or other.sent > current.sent)
            }
            ahead = max(ahead, self._wanted)
            if offset >= flight.end:
                self._size.taken(flight.size)  # though it may be late, and given up
                if current is not None and self._size.is_settled:
                    self._window.taken()
                if current is not None:
                    self._slowest = max(self._loop.time() - current.sent, self._slowest * 0.9)
            elif current is not None:
                rewinding = True
            if rewinding and not flying:
                losses += 1
                self._lose(silences, losses)
                ahead, rewinding = self._wanted, False

    def _taken_up_to(self, answer: Answer, flight: _Flight) -> int:
        """Return the offset that the server wants, as it stands in the answer to a piece."""
        refusal = answer.refusal(_WHAT)
        if refusal is not None:
            if flight.size > self._size.proven > 0:
                return flight.offset  # larger than what the server takes, and it says so
            in_image = refusal.group == GroupId.IMAGE_MANAGEMENT and refusal.number == IMG_MGMT_ERR.INVALID_OFFSET
            if not in_image and not (refusal.group is None and refusal.number in _LOST_SESSION):
                raise refusal
            if flight.offset != self._wanted:  # the one before was lost, or this is a copy of one that was not
                return self._wanted
            raise _Anew(refusal)
        offset = self._offset(answer)
        if offset == 0:
            raise _Anew
        if offset == self._total and answer.body.get("match") is False:
            raise _Anew(
                FlashError(f"{self._image.name}: the board got other bytes than were sent", code="flash.verify")
            )
        return offset

    def _offset(self, answer: Answer) -> int:
        offset = answer.number("off")
        if offset is None or offset > self._total:
            raise FlashError(
                f"{self._image.name}: the board wants offset {answer.body.get('off')!r} of {self._total} bytes",
                code="flash.refused",
            )
        return offset

    def _lose(self, silences: int, losses: int) -> None:
        """Send less at a time; give the board up if this goes on for too long."""
        if silences > self._patience.silences or losses > LOSSES:
            raise FlashError(
                f"{self._peer.wire.name}: no answer to {_WHAT} at offset {self._wanted} that leads on",
                code="flash.no_answer",
            )
        self._window.lost()
        self._size.lost()

    def _deadline(self, flying: Mapping[int, _Flight], silences: int) -> float:
        patience = min(max(self._patience.shortest, 4 * self._slowest), self._patience.longest)
        on_wire = sum(self._peer.wire_time(flight.size) for flight in flying.values())
        return on_wire + min(patience * (1 << silences), self._patience.longest)

    async def _send_first(self, *, after_silence: bool = False) -> int:
        """Send the first piece with what the server has to know of the whole; return its sequence number."""
        image = self._image.address or None
        sequence = self._peer.next_sequence()
        sha = self._image.sha256
        request = ImageUploadWrite(off=0, data=b"", len=self._total, sha=sha, image=image, sequence=sequence)
        if (room := self._room(request)) < FIRST_PIECE:  # an upload that can't be resumed is better than none
            request = ImageUploadWrite(off=0, data=b"", len=self._total, image=image, sequence=sequence)
            room, sha = self._room(request), b""
        whole = ImageUploadWrite(
            off=0,
            data=self._image.content[:room],
            len=self._total,
            sha=sha or None,
            image=image,
            sequence=sequence,
        )
        self._first_end = len(whole.data)
        await self._peer.send(whole, after_silence=after_silence)
        return sequence

    async def _send_piece(self, offset: int, *, after_silence: bool) -> tuple[int, _Flight]:
        sequence = self._peer.next_sequence()
        room = self._room(ImageUploadWrite(off=offset, data=b"", sequence=sequence))
        data = self._image.content[offset : offset + room]
        request = ImageUploadWrite(off=offset, data=data, sequence=sequence)
        await self._peer.send(request, after_silence=after_silence)
        flight = _Flight(offset, offset + len(data), len(request.BYTES), self._loop.time())
        self._known.pop(sequence, None)
        self._known[sequence] = flight
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return sequence, flight

    def _room(self, empty: ImageUploadWrite) -> int:
        """Return how many bytes of data make a request with empty data as large as it may be."""
        left = self._size.size - len(empty.BYTES)
        # RFC 8949 3: the length of a string stands in its first byte, or in one or two bytes behind it.
        if left < 24:  # noqa: PLR2004
            return max(1, left)
        return min(left - 1, 255) if left <= 257 else left - 2  # noqa: PLR2004


def _is_upload(answer: Answer) -> bool:
    return (answer.group, answer.command) == (GroupId.IMAGE_MANAGEMENT, CommandId.ImageManagement.UPLOAD)
