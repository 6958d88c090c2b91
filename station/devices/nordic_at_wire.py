r"""AT commands over a console: one command, its lines, its end.

A modem takes a line and answers with lines of its own; the last one is ``OK``, ``ERROR`` or ``+CME ERROR: number``,
each a *whole* line: the letters ``OK`` inside a CSR end nothing. There are two ways in:

=======  ===========================  ==================================================================================
form     what is sent                 where it is met
=======  ===========================  ==================================================================================
plain    ``AT%CMNG=1\r\n``            AT host, Serial Modem: the console is the modem's
shell    ``at 'AT%CMNG=1'\r\n``       a Zephyr shell with its ``at`` command; line ends inside a PEM are sent as ``\n``
=======  ===========================  ==================================================================================

Which one it is shows the first answer: a shell does not know the command ``AT+CMEE=1``. Prompts, colours, echoes, logs
and unsolicited results (``+CEREG: 1``) stand between the lines of an answer; each command says what its lines look
like, and the others are passed over.

AT has neither sequence numbers nor checksums. So an answer that was given up may still come, and would be taken for the
next one's. ``AT%ATTESTTOKEN`` with a fresh challenge brings the wire into step, at the beginning and after each
silence: no other answer holds that challenge, and whatever comes before it is old. It tells at the same time, signed,
who is at the other end. A quotation mark that the wire ate or made lets a modem take all that follows as content; a
later try ends that with a quotation mark. And an end of an answer that nobody asked for means that two boards hear us.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from station.devices.console import ANSWER_SIZE, BITS_PER_BYTE, Console, Shape
from station.devices.nordic_at_errors import CmeError
from station.devices.nordic_at_statement import NONCE_SIZE, TEXT, IdentityStatement, Statement, StatementRefused
from station.errors import DeviceError, Garbled, LinkError, NoAnswer
from station.ports.link import Link

_PROMPT: Final = re.compile(r"^(?:[0-9A-Za-z_.-]{1,20}:~\$ ?)+")
_FINAL: Final = re.compile(r"OK|ERROR|\+CM[ES] ERROR:? ?(?:(\d{1,5})|[ -~]*)")
_UNKNOWN: Final = re.compile(r"\S{1,32}: (?:command|wrong|unknown).*", re.IGNORECASE)
_TOKEN: Final = re.compile(rf'%ATTESTTOKEN: "({TEXT})"')
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]{12}")
"""What no log line has, and a line of a list keeps when it is harmed."""
_NOTHING: Final = re.compile(r"(?!)")


class AtWire:
    """The commands and answers on one link."""

    def __init__(self, link: Link, deadlines: Sequence[float], greet: Callable[[Statement], None]) -> None:
        """Speak over an open link.

        Args:
            link: the caller closes it.
            deadlines: seconds that each try of a query waits, beside the time on the wire; as many tries as numbers.
            greet: told who is at the other end whenever the wire was brought into step; may raise.
        """
        self._link = link
        self._console = Console(link, Shape(prompt=_PROMPT, logs=()))  # no line of a log is one of an answer
        self._greet = greet
        self._deadlines = tuple(deadlines)
        self.disturbances = 0
        """How often the wire had to be brought into step."""
        self._is_shell = False
        self._in_step = False

    def forget(self) -> None:
        """Bring the wire into step, and ask who is there, before the next command."""
        self._in_step = False

    async def query(self, command: str, answer: re.Pattern[str], *, count: int | None = 1) -> list[re.Match[str]]:
        """Ask something that may be asked again, and return the lines that match ``answer``.

        A refusal counts when it came twice: a command that was harmed on its way is refused as well.

        Args:
            command: such as ``AT+CGSN``.
            answer: what a whole line of the answer looks like.
            count: how many there have to be; None: any number, and no line may look like one that was harmed.

        Raises:
            CmeError: the modem refuses.
            NoAnswer: silence. Garbled: talk, and no such answer.
            DeviceError: ``device.two_boards``.
        """
        failure: LinkError | StatementRefused | CmeError = NoAnswer("no byte came", port=self._link.name)
        for number, deadline in enumerate(self._deadlines):
            try:
                if not self._in_step:
                    await self._find_step(deadline, number)
                return await self._exchange(command, answer, count, deadline)
            except CmeError as error:
                if isinstance(failure, CmeError):
                    raise
                failure = error
            except (NoAnswer, Garbled, StatementRefused) as error:
                failure = error
        raise failure

    async def do(self, command: str, answer: re.Pattern[str] | None = None, *, seconds: float) -> list[re.Match[str]]:
        """Let something be done, once: no second try, since the first may have been heard, unless it was refused.

        Args:
            command: with its content, if any.
            answer: what the one line of the answer looks like; None: there is none but the end.
            seconds: how long it may take, beside the time on the wire.

        Raises:
            CmeError, NoAnswer, Garbled, DeviceError: as ``query``.
        """
        if not self._in_step:
            await self.query("AT", _NOTHING, count=0)
        for is_last in (False, True):
            try:
                return await self._exchange(command, answer or _NOTHING, 0 if answer is None else 1, seconds)
            except CmeError:  # of a command that was harmed on its way, perhaps
                if is_last:
                    raise
        raise AssertionError(command)  # pragma: no cover - the loop returns or raises

    async def _exchange(
        self, command: str, answer: re.Pattern[str], count: int | None, deadline: float
    ) -> list[re.Match[str]]:
        await self._refuse_more()
        encoded = self._encoded(command)
        on_wire = (len(encoded) + ANSWER_SIZE) * BITS_PER_BYTE / self._link.baud
        self._console.begin()
        self._in_step = False
        try:
            async with asyncio.timeout(deadline + on_wire):
                await self._link.write(encoded)
                found = await self._answer(command, answer, harmed=_DIGITS if count is None else _NOTHING)
        except TimeoutError:
            raise self._console.silence(deadline) from None
        self._in_step = True
        if count is not None and len(found) != count:
            raise Garbled(f"{_shown(command)} has {len(found)} lines of answer, not {count}", port=self._link.name)
        return found

    async def _answer(self, command: str, answer: re.Pattern[str], *, harmed: re.Pattern[str]) -> list[re.Match[str]]:
        found = []
        while True:
            line = await self._console.line()
            if (match := answer.fullmatch(line)) is not None:
                found.append(match)
            elif (end := _FINAL.fullmatch(line)) is not None:
                if line == "OK":
                    return found
                self._in_step = True
                raise CmeError(_shown(command), int(end[1]) if end[1] else None)
            elif harmed.search(line):
                raise Garbled(f"a line of the answer to {_shown(command)} was harmed", port=self._link.name, got=line)

    async def _find_step(self, deadline: float, number: int) -> None:
        """Bring the wire into step, find out which form it takes, and who is at the other end.

        Args:
            deadline: seconds to wait.
            number: which try this is. Odd ones assume a plain wire, even ones after the first an open quotation.
        """
        self.disturbances += 1
        self._console.forget()
        self._is_shell = self._is_shell and number % 2 == 0
        quote = b'"' if number and number % 2 == 0 and not self._is_shell else b""
        self._console.begin()
        nonce = secrets.token_bytes(NONCE_SIZE)
        try:
            async with asyncio.timeout(deadline + 2 * ANSWER_SIZE * BITS_PER_BYTE / self._link.baud):
                await self._link.write(quote + b"\r\n" + self._hello(nonce))
                token = await self._step(nonce)
        except TimeoutError:
            raise self._console.silence(deadline) from None
        self._in_step = True
        self._greet(token)

    def _hello(self, nonce: bytes) -> bytes:
        return self._encoded("AT+CMEE=1") + self._encoded(f'AT%ATTESTTOKEN="{nonce.hex()}"')

    async def _step(self, nonce: bytes) -> Statement:
        """Read on to the end of the token with our challenge; a shell is spoken to as one from then on."""
        token = None
        while True:
            line = await self._console.line()
            if (match := _TOKEN.fullmatch(line)) is not None:
                with suppress(Garbled):  # a harmed one, or an old one: the next try has another challenge
                    statement = Statement.parse(match[1])
                    token = statement if IdentityStatement.of(statement).nonce == nonce else token
            elif token is not None and line == "OK":
                return token
            elif not self._is_shell and _UNKNOWN.fullmatch(line) and line.upper().startswith("AT+CMEE"):
                self._is_shell = True
                await self._link.write(self._hello(nonce))

    async def _refuse_more(self) -> None:
        """Refuse to go on where more came than one board says."""
        self._console.begin()
        ends = [line for line in await self._console.old_lines() if _FINAL.fullmatch(line)]
        if ends:
            self._in_step = False
            raise DeviceError(
                "one command got two answers: two boards are on this wire, or something repeats what the board says",
                code="device.two_boards",
                operator="Two boards answer in this slot. Take one out.",
                got=ends[0],
            )

    def _encoded(self, command: str) -> bytes:
        if self._is_shell:
            command = "at '" + command.replace("\r\n", "\\n") + "'"
        return command.encode() + b"\r\n"


def _shown(command: str) -> str:
    """Return a command without what it carries."""
    return command.partition('"')[0].rstrip(",=")
