"""Commands and answers as a driver file describes them: one command, its lines, its end.

- An answer counts when it ends as the file says *and* holds each line that the file wants, once. Otherwise it is asked
  for again, where the file allows that.
- After an answer that did not come, the wire is brought into step: by the file's ``[sync]``, whose answer nobody could
  have given before, or by waiting until the board is quiet.

Patterns are those of RE2 (``patterns``), so no line of a board can hold the station up.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from station.devices.console import Console, Shape
from station.devices.description import Description, Exchange
from station.devices.patterns import Pattern
from station.errors import DeviceError, Garbled, LinkError, NoAnswer
from station.ports.link import Link

TRIES: Final = 3
"""How often a command is sent at the most."""

QUIET: Final = 0.25
"""Seconds of silence after which nothing more of an old answer comes."""

MAX_FIELD: Final = 65536
"""Characters of what a board tells in rows."""

SHOWN: Final = 40
"""Characters of a command in an error message."""

_PEM_BEGIN: Final = "-----BEGIN "
_PEM_END: Final = "-----END "

Told: TypeAlias = dict[str, str]
"""What a board told, by name."""


class NoCertificate(DeviceError):
    """The board says that it holds none."""

    code = "device.no_certificate"


class DescribedWire:
    """The commands and answers on one link."""

    def __init__(self, link: Link, description: Description) -> None:
        """Speak over an open link; the caller closes it."""
        self._description = description
        self._console = Console(link, Shape(prompt=description.prompt, logs=description.logs))
        self.disturbances = 0
        """How often an answer did not come, or not whole."""
        self._in_step = True
        """An open port has nothing old on it but what the board says while it boots."""

    async def ask(self, exchange: Exchange, values: Mapping[str, object]) -> Told:
        """Send a command and return what its answer tells, asking again where that is allowed.

        There a refusal counts when it came twice: a command that was harmed on its way is refused as well.
        """
        command = exchange.command(values)
        failure: LinkError | DeviceError = NoAnswer("no byte came", port=self._console.link.name)
        for _ in range(TRIES if exchange.again else 1):
            try:
                return self._told(exchange, command, await self._lines(exchange, command))
            except DeviceError as error:
                if isinstance(failure, DeviceError):
                    raise
                failure = error
            except (NoAnswer, Garbled) as error:
                self.disturbances += 1
                failure = error
        raise failure

    async def _lines(self, exchange: Exchange, command: str) -> list[str]:
        if len(command) > self._description.limit:
            raise DeviceError(
                f"a command of {len(command)} characters; the board takes {self._description.limit}",
                code="device.command_too_long",
            )
        if not self._in_step:
            await self._find_step(exchange.seconds)
        await self._console.old_lines()  # nobody asked for them
        return await self._exchange(command, exchange.seconds, exchange.done)

    async def _exchange(self, command: str, seconds: float, done: Pattern, *, is_sync: bool = False) -> list[str]:
        encoded = command.encode() + self._description.line_end
        self._console.begin()
        self._in_step = False
        lines: list[str] = []
        try:
            async with asyncio.timeout(seconds + self._console.seconds(len(encoded))):
                await self._console.link.write(encoded)
                while not lines or done.whole(lines[-1]) is None:
                    line = await self._console.line()
                    if line != command:  # its echo
                        if not is_sync:  # whatever comes before the end of that is old
                            self._refuse(line, command)
                        lines.append(line)
        except TimeoutError:
            raise self._console.silence(seconds) from None
        self._in_step = True
        return lines

    def _refuse(self, line: str, command: str) -> None:
        """Raise what the file says that a line means, if it says so."""
        for refusal in self._description.errors:
            if refusal.line.whole(line) is not None:
                self._in_step = True
                kind = NoCertificate if refusal.code == NoCertificate.code else DeviceError
                raise kind(
                    f"'{_shown(command)}': {refusal.about}", code=refusal.code, operator=refusal.operator, got=line
                )

    async def _find_step(self, seconds: float) -> None:
        """Bring the wire into step."""
        sync = self._description.sync
        self._console.begin()
        await self._console.link.write(self._description.line_end)  # of a command that was begun
        if sync is not None:
            nonce = secrets.token_hex(8)
            await self._exchange(sync.command(nonce), seconds, sync.ending(nonce), is_sync=True)
            return
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(QUIET):
                    await self._console.line()
        self._console.forget()
        self._in_step = True

    def _told(self, exchange: Exchange, command: str, lines: Sequence[str]) -> Told:
        """Take what the file wants out of the lines of an answer.

        Raises:
            Garbled: something is missing, or there twice.
        """
        told: Told = {}
        for pattern in exchange.answer:
            found = [groups for line in lines if (groups := pattern.whole(line)) is not None]
            if len(found) != 1:
                raise Garbled(
                    f"'{_shown(command)}' was answered with {len(found)} lines like '{pattern.text}', not one",
                    got=" / ".join(lines),
                )
            told |= found[0]
        for name, pattern in exchange.rows:
            told[name] = "".join(line for line in lines if pattern.whole(line) is not None)[:MAX_FIELD]
        if exchange.pem:
            told[exchange.pem] = _pem_block(lines)
        return told


def _pem_block(lines: Sequence[str]) -> str:
    """Return the PEM block in an answer, or several of them, from the first BEGIN to the last END."""
    begins = [index for index, line in enumerate(lines) if line.startswith(_PEM_BEGIN)]
    ends = [index for index, line in enumerate(lines) if line.startswith(_PEM_END)]
    if not begins or not ends or len(begins) != len(ends) or ends[-1] < begins[0]:
        raise Garbled("the answer holds no whole PEM block", got=" / ".join(lines))
    return "\n".join(lines[begins[0] : ends[-1] + 1]) + "\n"


def _shown(command: str) -> str:
    return command if len(command) <= SHOWN else f"{command[:SHOWN]}…"
