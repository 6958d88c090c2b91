"""A shell as a script, in memory: what is typed into it is answered as a test says."""

import re
from collections.abc import Callable
from typing import TypeAlias

from station.ports.transcript import WireTap
from station.testing.memory_link import MemoryLink

Reply: TypeAlias = str | Callable[[re.Match[str]], str | None]
"""Lines, or what makes them of the command that was typed; None: silence."""


class ScriptedShell:
    r"""A board whose answers a test writes down.

    ::

        shell = ScriptedShell(line_end="\n")
        shell.on("id", "id=0001 model=widget fw=1.0\nok")
        shell.on(r"sign ([0-9a-f]+)", lambda match: f"sig={sign(match[1])}\nok")
        shell.on("id", None, times=1)              # silence, once; the latest rule goes first
        driver = DescribedDriver(shell.plug(), description)
    """

    def __init__(self, *, line_end: str = "\r", echo: bool = False, prompt: str = "") -> None:
        """Make a shell that knows nothing yet.

        Args:
            line_end: ends a command.
            echo: what is typed comes back.
            prompt: said after each answer.
        """
        self.commands: list[str] = []
        """All that was typed."""
        self.unknown: Reply = lambda match: f"{match[0].split(' ')[0]}: command not found"
        """The answer to what no rule knows."""
        self.raw: Callable[[str], str | None] | None = None
        """Takes what is typed, piece by piece, in place of the rules, and returns what is said; as a shell's bypass."""
        self.link: MemoryLink | None = None
        self._line_end, self._echo, self._prompt = line_end, echo, prompt
        self._rules: list[tuple[re.Pattern[str], Reply | None, int | None]] = []
        self._typed = ""

    def plug(self, *, transcript: WireTap | None = None) -> MemoryLink:
        """Put the board into a new port and return its link; needs a running event loop."""
        self._typed = ""
        self.link = MemoryLink("memory of a shell", transcript=transcript)
        self.link.connect(self._hear)
        return self.link

    def on(self, command: str, reply: Reply | None, *, times: int | None = None) -> None:
        r"""Say what a command is answered with.

        Args:
            command: a pattern for the whole of it.
            reply: lines with ``\n`` between them, a function of the match, or None for silence.
            times: for so many times; None: for good.
        """
        self._rules.insert(0, (re.compile(command), reply, times))

    def say(self, text: str) -> None:
        """Say something without being asked; line ends as they are."""
        assert self.link is not None  # noqa: S101  # plugged in before
        self.link.receive(text.encode())

    def _hear(self, data: bytes) -> None:
        for character in data.decode(errors="replace"):
            if self.raw is not None:
                if (said := self.raw(character)) is not None:
                    self.say(said)
            elif character == self._line_end[-1]:
                typed, self._typed = self._typed.removesuffix(self._line_end[:-1]), ""
                self._obey(typed.replace("\x03", ""))
            else:
                self._typed += character

    def _obey(self, typed: str) -> None:
        if self._echo:
            self.say(f"{typed}\r\n")
        if typed:
            self.commands.append(typed)
            reply = self._reply(typed)
            if reply:
                self.say("".join(f"{line}\r\n" for line in reply.split("\n")))
        self.say(self._prompt)

    def _reply(self, typed: str) -> str | None:
        for index, (command, reply, times) in enumerate(self._rules):
            if (match := command.fullmatch(typed)) is not None:
                if times is not None:
                    self._rules[index : index + 1] = [(command, reply, times - 1)] if times > 1 else []
                return reply(match) if callable(reply) else reply
        match = re.fullmatch("(?s:.*)", typed)
        assert match is not None  # noqa: S101  # it matches anything
        return self.unknown(match) if callable(self.unknown) else self.unknown
