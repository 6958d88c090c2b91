r"""Commands to a Zephyr shell: one command, its lines, its end.

A prompt tells that an answer ended; but it can be configured, coloured, and logged into. What each build has is an
answer to a word that it does not know. So each command is followed by such a word, a fresh one each time, and
its answer ends where the shell says that it does not know it::

    nrf_cloud_cred pubkey 42\r                 what is sent
    q5d0c1f27\r
    PUBKEY: BBx4...                            what comes back, without echo, prompts, colours and logs
    Public key export complete
    q5d0c1f27: command not found

This also brings a wire into step: whatever stands before that word is the answer to what was sent before it, however
late it comes. Lines end with CR alone, since a LF after it would be the first byte of what ``cred buf load`` takes.

The shell forgets what it holds when it starts again; its banner in the middle of an answer is an error, and the step
that it cut begins anew.
"""

import asyncio
import re
import secrets
from collections.abc import Sequence
from typing import Final

from station.devices.console import Console, Shape
from station.errors import Garbled, LinkError, NoAnswer
from station.ports.link import Link

PROMPT: Final = re.compile(r"^(?:[0-9A-Za-z_.-]{1,20}:[~/][^ ]{0,20}[$#] ?|\$ |> )")
"""``uart:~$`` and what people make of it."""

CTRL_C: Final = b"\x03"
"""Ends a line that was begun, and what ``cred buf load`` takes."""

_BANNER: Final = re.compile(r"\*\*\* Booting ")
_SHOWN: Final = 60
"""Characters of a line in an error message."""


class Unknown(Garbled):
    """The shell does not know the command."""

    code = "device.unknown_command"
    operator = "This board lacks a command. Call the line engineer."


class ShellWire:
    """The commands and answers on one link."""

    def __init__(self, link: Link, deadlines: Sequence[float]) -> None:
        """Speak over an open link.

        Args:
            link: the caller closes it.
            deadlines: seconds that each try of a query waits, beside the time on the wire; as many tries as numbers.
        """
        self._console = Console(link, Shape(prompt=PROMPT))
        self._name = link.name
        self._deadlines = tuple(deadlines)
        self._in_step = False
        self.disturbances = 0
        """How often an answer did not come, or not whole."""

    async def query(
        self, command: str, pattern: re.Pattern[str], *, count: int | None = 1, seconds: float = 0.0
    ) -> list[re.Match[str]]:
        """Ask something that may be asked again, and return the lines that match.

        Args:
            command: without an end.
            pattern: what a whole line of the answer looks like.
            count: how many there have to be; None: any number.
            seconds: that the board may need for it, beside the deadlines.

        Raises:
            Unknown: the shell does not know it.
            NoAnswer: silence. Garbled: talk, and no such answer.
        """
        failure: LinkError = NoAnswer("no byte came", port=self._name)
        for deadline in self._deadlines:
            try:
                lines = await self.lines(command, deadline + seconds)
            except Unknown as error:
                if failure.code == Unknown.code:  # twice: it is no harmed letter
                    raise
                failure = error
                continue
            except (NoAnswer, Garbled) as error:
                failure = error
                continue
            found = [match for line in lines if (match := pattern.fullmatch(line)) is not None]
            if count is None or len(found) == count:
                return found
            self.disturbances += 1
            failure = Garbled(
                f"'{command}' was answered with {shown(lines)}", port=self._name, got=" / ".join(lines) or "nothing"
            )
        raise failure

    async def lines(self, command: str, deadline: float) -> list[str]:
        """Send a command, once, and return the lines of its answer.

        Args:
            command: without an end.
            deadline: seconds, beside the time on the wire.

        Raises:
            Unknown, NoAnswer, Garbled: as ``query``.
        """
        try:
            return await self._once(command, deadline)
        except (NoAnswer, Garbled):
            self.disturbances += 1
            raise

    async def _once(self, command: str, deadline: float) -> list[str]:
        step, mark = _fresh_word(), _fresh_word()
        encoded = f"{command}\r{mark}\r".encode()
        if not self._in_step:  # what was asked before may still be answered
            encoded = CTRL_C + f"\r{step}\r".encode() + encoded
        self._console.begin()
        try:
            async with asyncio.timeout(deadline + self._console.seconds(len(encoded))):
                await self._console.link.write(encoded)
                if not self._in_step:
                    while await self._console.line() != _not_found(step):
                        pass
                self._in_step = False
                lines = await self._up_to(_not_found(mark))
        except TimeoutError:
            self._in_step = False
            raise self._console.silence(deadline) from None
        self._in_step = True
        if _not_found(command.split(" ", maxsplit=1)[0]) in lines:
            raise Unknown(f"the shell does not know '{shown([command])}'", port=self._name)
        return [line for line in lines if line not in {command, mark}]

    async def _up_to(self, end: str) -> list[str]:
        lines = []
        while (line := await self._console.line()) != end:
            lines.append(self._checked(line))
        return lines

    async def say(self, data: bytes, until: re.Pattern[str], deadline: float) -> str:
        """Send bytes as they are, and return the first line that matches; the wire is out of step after that.

        Args:
            data: with their end.
            until: a whole line.
            deadline: seconds, beside the time on the wire.
        """
        self._console.begin()
        self._in_step = False
        try:
            async with asyncio.timeout(deadline + self._console.seconds(len(data))):
                await self._console.link.write(data)
                while True:
                    line = self._checked(await self._console.line())
                    if until.fullmatch(line):
                        return line
        except TimeoutError:
            self.disturbances += 1
            raise self._console.silence(deadline) from None
        except Garbled:
            self.disturbances += 1
            raise

    def _checked(self, line: str) -> str:
        if _BANNER.match(line):
            raise Garbled("the board started again in the middle of an answer", code="link.rebooted", port=self._name)
        return line


def shown(lines: Sequence[str]) -> str:
    """Return what was said, short enough for an error message."""
    text = " / ".join(lines) or "nothing"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _not_found(word: str) -> str:
    return f"{word}: command not found"


def _fresh_word() -> str:
    """Return a word that no shell knows and no log holds."""
    return f"q{secrets.token_hex(4)}"
