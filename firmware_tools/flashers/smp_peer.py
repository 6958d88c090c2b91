"""Requests to an SMP server, and what it answers, whoever wrote the server.

An answer belongs to a request if group, command and sequence are the same; so late ones, doubled ones and the echo of
our own bytes are told apart. Its map is read without the classes of ``smp``, which refuse a field that they don't know:
a newer server may say more, an older one less. Numbers of errors come in three ways:

- ``{"err": {"group": g, "rc": n}}``: SMP version 2, a code of group ``g``; ``ret`` in its first drafts;
- ``{"rc": n}``: a code of SMP itself (``MGMT_ERR``), in version 1 for everything;
- ``{"rc": 0, ...}``: success, as MCUboot and Mynewt say it in every answer.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from smp.error import MGMT_ERR
from smp.header import GroupId
from smp.image_management import IMG_MGMT_ERR
from smp.message import Request

from firmware_tools import strict_cbor
from firmware_tools.errors import FlashError
from firmware_tools.flashers.smp_wire import SmpWire
from firmware_tools.smp_framing import BITS_PER_BYTE, HEADER_SIZE, Header

__all__ = ["CBOR_DEPTH", "Answer", "Refusal", "SmpPeer"]

CBOR_DEPTH: Final = 8
"""Containers within containers; an image list needs three."""

ANSWER_SIZE: Final = 1024
"""Bytes that an answer may need on the wire within a deadline, beside a line of log or two."""

_REASON_LIMIT: Final = 80

_IMAGE_CODES: Final[Mapping[int, str]] = {
    IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER: "flash.downgrade",
    IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE: "flash.too_large",
    IMG_MGMT_ERR.INVALID_IMAGE_DATA_OVERRUN: "flash.too_large",
}


class Refusal(FlashError):
    """The board understood, and says no."""

    code = "flash.refused"

    def __init__(self, what: str, number: int, group: int | None, reason: str = "") -> None:
        """Name the request and the code.

        Args:
            what: the request, for people.
            number: the code.
            group: whose code it is; None: of SMP itself.
            reason: what the board says beside it.
        """
        of_image = group == GroupId.IMAGE_MANAGEMENT
        names: type[IMG_MGMT_ERR | MGMT_ERR] = IMG_MGMT_ERR if of_image else MGMT_ERR
        known = group is None or of_image
        try:
            name = names(number).name if known else f"code {number} of group {group}"
        except ValueError:
            name = f"code {number}"
        said = f" ({reason})" if reason else ""
        code = _IMAGE_CODES.get(number, "flash.refused") if of_image else "flash.refused"
        super().__init__(f"the board refuses {what}: {name}{said}", code=code, rc=number, group=group)
        self.number = number
        self.group = group

    @property
    def is_unknown_command(self) -> bool:
        """Whether the server has no such command."""
        return self.group is None and self.number in (MGMT_ERR.ENOTSUP, MGMT_ERR.ENOENT)


@dataclass(frozen=True, slots=True)
class Answer:
    """A message that can be an answer."""

    group: int
    command: int
    sequence: int
    body: Mapping[str, Any]

    def number(self, name: str) -> int | None:
        """Return a field that is a number of bytes; None if there is none, or it is something else."""
        value = self.body.get(name)
        return value if type(value) is int and value >= 0 else None

    def refusal(self, what: str) -> Refusal | None:
        """Return the error in it, if it is one."""
        error = self.body.get("err", self.body.get("ret"))
        if isinstance(error, dict):
            number, group = error.get("rc"), error.get("group")
            if type(number) is int and number:
                return Refusal(what, number, group if type(group) is int else None)
        number = self.body.get("rc")
        if type(number) is int and number:
            return Refusal(what, number, None, _text(self.body.get("rsn", "")))
        return None


class SmpPeer:
    """One SMP server at the other end of a wire."""

    def __init__(self, wire: SmpWire) -> None:
        """Talk over an open wire; the caller closes it."""
        self.wire = wire
        # Not from 0: the board may still answer the last request of a station that was started again.
        self._sequence = secrets.randbelow(256)

    def next_sequence(self) -> int:
        """Return a sequence number; 256 later it comes again."""
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence

    def wire_time(self, size: int) -> float:
        """Return the seconds that a message of ``size`` bytes needs on the wire."""
        return self.wire.wire_size(size) * BITS_PER_BYTE / self.wire.baud

    async def send(self, request: Request, *, after_silence: bool = False) -> None:
        """Send a request and wait for nothing."""
        await self.wire.send(request.BYTES, after_silence=after_silence)

    async def answer(self, within: float) -> Answer | None:
        """Return the next message that can be an answer to something; None: none came.

        Args:
            within: seconds, beside the time that an answer needs on the wire.
        """
        try:
            async with asyncio.timeout(within + self.wire_time(ANSWER_SIZE)):
                while True:
                    if (answer := _parse(await self.wire.receive())) is not None:
                        return answer
        except TimeoutError:
            return None

    async def ask(self, request: Request, deadlines: Sequence[float], what: str) -> Answer:
        """Send a request until it is answered.

        Args:
            request: with a sequence number of ``next_sequence``; may be carried out twice.
            deadlines: seconds that each try waits, beside the time on the wire.
            what: the request, for people.

        Raises:
            Refusal: the board says no.
            FlashError: ``flash.no_answer``.
        """
        header = request.header
        key = (int(header.group_id), int(header.command_id), header.sequence)
        loop = asyncio.get_running_loop()
        for number, deadline in enumerate(deadlines):
            await self.send(request, after_silence=number > 0)
            end = loop.time() + deadline + self.wire_time(len(request.BYTES))
            while (left := end - loop.time()) > 0:
                answer = await self.answer(left)
                if answer is not None and (answer.group, answer.command, answer.sequence) == key:
                    if (refusal := answer.refusal(what)) is not None:
                        raise refusal
                    return answer
        raise FlashError(
            f"{self.wire.name}: no answer to {what} in {len(deadlines)} tries", code="flash.no_answer", what=what
        )


def _parse(message: bytes) -> Answer | None:
    header = Header.of(message)
    if header is None or header.op & 1 == 0:  # even: a request, so the echo of our own
        return None
    try:
        body = strict_cbor.decode(message[HEADER_SIZE:], depth=CBOR_DEPTH)
    except ValueError:  # damaged where no CRC watches
        return None
    return Answer(header.group, header.command, header.sequence, body) if isinstance(body, dict) else None


def _text(value: object) -> str:
    """Make what a board says fit for a terminal."""
    return "".join(c for c in str(value)[:_REASON_LIMIT] if c.isprintable())
