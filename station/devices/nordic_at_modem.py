"""Who is at the other end of an AT wire, and how it says so.

A modem says of itself what anybody could say (``AT%DEVICEUUID``, ``AT+CGSN``), and signs tokens over a fresh challenge
(``AT%ATTESTTOKEN``) with a key that is learned from the first two of them. One that answers in the middle of a unit has
to be the one that was introduced.

Knows nothing of: keys and certificates that a unit gets.
"""

import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from station.devices.nordic_at_credentials import SAME
from station.devices.nordic_at_statement import (
    NONCE_SIZE,
    TEXT,
    IdentityKey,
    IdentityStatement,
    Statement,
    StatementRefused,
)
from station.devices.nordic_at_wire import AtWire
from station.errors import DeviceError, Garbled
from station.ports.link import Link

INTRODUCTIONS: Final = 3
"""How often a modem may say who it is until it has said the same thing twice."""

_UUID: Final = re.compile(r"%DEVICEUUID: ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_MODEL: Final = re.compile(r"(nRF[0-9A-Za-z][ -~]{0,28})")
_FIRMWARE: Final = re.compile(r"(mfw[ -~]{1,29})")
_SHORT: Final = re.compile(r"%SHORTSWVER: [ -~]{0,20}?(\d{1,3}\.\d{1,3}\.\d{1,3})[ -~]{0,20}")
_IMEI: Final = re.compile(r"(\d{15})")
_TOKEN: Final = re.compile(rf'%ATTESTTOKEN: "({TEXT})"')


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """What a modem says of itself; it is asked once."""

    uuid: bytes
    model: str
    firmware: str
    build: bytes
    """UUID of the firmware; 16 bytes, signed."""
    imei: str


class Modem:
    """The modem at the other end of a link."""

    def __init__(self, link: Link, deadlines: Sequence[float], on_new: Callable[[], None]) -> None:
        """Meet whoever answers.

        Args:
            link: the caller closes it.
            deadlines: as ``AtWire`` takes them.
            on_new: told when a modem is met that is another one than before, or may be one.
        """
        self.wire = AtWire(link, deadlines, self._meet)
        self.identity_key = IdentityKey()
        """Which the modem signs with; learned from its tokens."""
        self._on_new = on_new
        self._met: IdentityStatement | None = None
        self._self: SelfDescription | None = None
        self._may_change = False

    @property
    def uuid(self) -> bytes:
        """Of the modem that was met; 16 bytes."""
        return self._expected.uuid

    async def introduced(self) -> SelfDescription:
        """Return what the modem says of itself; one that was asked before is only asked whether it is still there.

        Meanwhile another modem may come into its place.

        Raises:
            DeviceError: ``device.identity_differs``: the token and the commands name different modems.
        """
        self._may_change = True
        try:
            return await self._named()
        finally:
            self._may_change = False

    async def token(self, nonce: bytes) -> Statement:
        """Return a token over a nonce, by the modem that is expected.

        Raises:
            StatementRefused: it is about another one, over another nonce, or by another key than the tokens before.
        """
        (match,) = await self.wire.query(f'AT%ATTESTTOKEN="{nonce.hex()}"', _TOKEN)
        statement = Statement.parse(match[1])
        self.identity_key.check(statement)
        stated = IdentityStatement.of(statement)
        if stated.nonce != nonce or stated != replace(self._expected, nonce=nonce):
            raise StatementRefused(
                statement, "is over another challenge, or about another modem", code="device.statement_content"
            )
        return statement

    def _meet(self, statement: Statement) -> None:
        """Take a token that brought the wire into step."""
        met = IdentityStatement.of(statement)
        is_new = self._met is None or (met.uuid != self._met.uuid and self._may_change)
        if is_new or not self.identity_key.is_learned:  # of two that disagree before that, either may be the harmed one
            self._met, self.identity_key, self._self = met, IdentityKey(), None
            self._on_new()
        self.identity_key.check(statement)
        if met.uuid != self._expected.uuid:
            raise DeviceError(
                "another modem answers than the one that was asked before",
                code="device.swapped",
                operator="The board was changed too early. Put both boards in again, one after the other.",
                expected=self._expected.uuid,
                got=met.uuid,
            )

    @property
    def _expected(self) -> IdentityStatement:
        assert self._met is not None  # noqa: S101  # every exchange begins with a token
        return self._met

    async def _named(self) -> SelfDescription:
        (match,) = await self.wire.query("AT%DEVICEUUID", _UUID)
        for _ in range(INTRODUCTIONS):
            said = uuid.UUID(match[1]).bytes
            if self._self is not None and self._self.uuid == said:
                return self._self
            try:
                if said == self._expected.uuid:
                    self._self = await self._ask_all()
                    return self._self
            except StatementRefused:
                pass  # the first token or the second one was harmed
            self.wire.forget()  # another board, or a harmed answer: it has to introduce itself
            (match,) = await self.wire.query("AT%DEVICEUUID", _UUID)
        raise DeviceError(
            "the modem names another UUID than its signed tokens, or signs each of them with another key",
            code="device.identity_differs",
            expected=self._expected.uuid,
            got=said,
        )

    async def _ask_all(self) -> SelfDescription:
        await self.token(secrets.token_bytes(NONCE_SIZE))  # the second one: it confirms all that the first one says
        model = await self._same_model()
        (firmware,) = await self.wire.query("AT+CGMR", _FIRMWARE)
        (short,) = await self.wire.query("AT%SHORTSWVER", _SHORT)
        if short[1] not in firmware[1]:  # nothing else tells a harmed letter in it
            raise Garbled(f"firmware {firmware[1]!r} by one command, {short[1]!r} by the other")
        (imei,) = await self.wire.query("AT+CGSN", _IMEI)
        if not _is_imei(imei[1]):
            raise Garbled(f"{imei[1]} is no IMEI: its check digit is wrong")
        return SelfDescription(self._expected.uuid, model, firmware[1], self._expected.firmware, imei[1])

    async def _same_model(self) -> str:
        seen: set[str] = set()
        for _ in range(SAME):
            (match,) = await self.wire.query("AT+CGMM", _MODEL)
            if match[1] in seen:
                return match[1]
            seen.add(match[1])
        raise Garbled("the modem names its model in another way each time", got=" / ".join(sorted(seen)))


def _is_imei(digits: str) -> bool:
    """Check the last digit (3GPP TS 23.003 6.2.1, Luhn)."""
    doubled = (int(digit) * (1 + index % 2) for index, digit in enumerate(digits))
    return sum(number // 10 + number % 10 for number in doubled) % 10 == 0
