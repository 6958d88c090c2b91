"""Lines of a console that people read: prompts, colours, echoes and logs taken away.

What a shell answers stands between things that it says to a human, and a log may begin in the middle of a line::

    uart:~$ nrf_cloud_cred csr 42
    CSR: MIHMMIG[00:00:07.115,234] <inf> app: sensor read
    PAgEAMA==

``ConsoleText`` makes ``CSR: MIHMMIGPAgEAMA==`` of this: escape sequences go, a log record goes from where it begins to
the end of its line, *with* that end, so that what it cut in two is one line again, and a prompt goes from the beginning
of a line. ``Console`` is that over a link. Neither knows what any shell says; ``zephyr_shell`` and ``described`` do.
"""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from station.errors import Garbled, LinkError, NoAnswer
from station.ports.link import Link

TALK_LIMIT: Final = 65536
"""Bytes that a board may say before its answer ends."""

TURN: Final = 2048
"""Bytes that are looked at before other boards have their turn: a thousand lines in them cost milliseconds."""

LINE_LIMIT: Final = 8192
"""Characters of a line that we accept."""

BITS_PER_BYTE: Final = 10
"""On the wire: a start bit, eight data bits, a stop bit."""

ANSWER_SIZE: Final = 2048
"""Bytes that an answer, its echo and the logs in it may need on the wire within a deadline."""

ZEPHYR_LOG: Final = re.compile(r"\[[0-9:.,]{8,20}\] <(?:inf|wrn|err|dbg)> ")
"""How a record of Zephyr's log begins."""

_ANSI: Final = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][0-9A-Za-z]|[=>78])")


class Found(Protocol):
    """Where a pattern was found."""

    def start(self) -> int:
        """Return the index of its first character."""

    def end(self) -> int:
        """Return the index after its last character."""


class Searchable(Protocol):
    """A pattern of ``re`` or of ``re2``."""

    def search(self, text: str, /) -> Found | None:
        """Look for it anywhere in a text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a console puts between its answers."""

    prompt: Searchable | None = None
    """Taken away where a line begins with it, as often as it does."""
    logs: tuple[Searchable, ...] = (ZEPHYR_LOG,)
    """How records of logs begin; from there to the end of the line is no answer."""


class ConsoleText:
    """Makes clean lines out of bytes as they come."""

    def __init__(self, shape: Shape) -> None:
        """Begin with nothing."""
        self._shape = shape
        self._rest = ""
        """Of the last line, whose end has not come."""
        self._cut = ""
        """What stood before a log in the middle of a line."""

    def take(self, data: bytes) -> list[str]:
        """Return the lines that are whole now; empty ones and harmful characters are left out."""
        *raw, rest = (self._rest + data.decode("ascii", "replace")).split("\n")
        self._rest = rest[-LINE_LIMIT:]
        lines = []
        for text in raw:
            line = self._cut + _ANSI.sub("", text[:LINE_LIMIT]).replace("\0", "").rstrip("\r")
            self._cut = ""
            if not line or line.isspace():
                continue
            begins = [found.start() for log in self._shape.logs if (found := log.search(line)) is not None]
            if begins:
                self._cut = line[: min(begins)][-LINE_LIMIT:]
            elif clean := self._without_prompt(line).strip():
                lines.append(clean)
        return lines

    def forget(self) -> None:
        """Drop what is not whole."""
        self._rest = self._cut = ""

    def _without_prompt(self, line: str) -> str:
        prompt = self._shape.prompt
        while prompt is not None:
            found = prompt.search(line)
            if found is None or found.start() or not found.end():
                break
            line = line[found.end() :]
        return line


class Console:
    """Clean lines over a link."""

    def __init__(self, link: Link, shape: Shape) -> None:
        """Listen to an open link; the caller closes it."""
        self.link = link
        self._text = ConsoleText(shape)
        self._lines: deque[str] = deque()
        self.heard = 0
        """Bytes since ``begin``."""

    def begin(self) -> None:
        """Begin to count what the board says."""
        self.heard = 0

    def seconds(self, size: int) -> float:
        """Return how long ``size`` bytes, their echo and an answer are on the wire."""
        return (2 * size + ANSWER_SIZE) * BITS_PER_BYTE / self.link.baud

    async def line(self) -> str:
        """Return the next line that says something.

        Raises:
            Garbled: the board talks without end.
        """
        while not self._lines:
            await self._read()
        return self._lines.popleft()

    async def _read(self, until: bytes = b"\n") -> None:
        data = await self.link.read(until)
        self.heard += len(data)
        if self.heard > TALK_LIMIT:
            self.forget()
            raise Garbled(f"the board sent {self.heard} bytes and no answer", port=self.link.name)
        for at in range(0, len(data), TURN):
            if at:
                await asyncio.sleep(0)
            self._lines += self._text.take(data[at : at + TURN])

    async def old_lines(self) -> list[str]:
        """Return what has come and was not looked at: it is nobody's answer."""
        while self.link.waiting:  # a prompt, too, which no line end follows
            await self._read(b"")
        lines, self._lines = list(self._lines), deque()
        return lines

    def forget(self) -> None:
        """Drop what was read and not looked at."""
        self._lines.clear()
        self._text.forget()

    def silence(self, deadline: float) -> LinkError:
        """Return the error of an answer that did not end in time."""
        if heard := self.heard + self.link.waiting:
            return Garbled(f"{heard} bytes came in {deadline:g} s, and no answer", port=self.link.name)
        return NoAnswer(f"no byte came in {deadline:g} s", port=self.link.name)
