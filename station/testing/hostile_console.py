"""A console that answers in bad faith: any board in memory that speaks in lines, with somebody between it and the wire.

::

    console = HostileConsole(ScriptedModem(), Random(7))
    console.attack()                     # decides what this visit will be like
    end = await UnitRun(shop, NordicAtDriver(console.plug()), "1", watch).run()
    console.behave()                     # from now on what the board says goes through as it is

The board knows nothing of it: it is any that has ``plug``, ``link`` and ``commands``, such as ``ScriptedModem`` and
``ScriptedShell``.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol, TypeAlias

from station.testing.memory_link import MemoryLink
from station.testing.text_twists import TEXT_TWISTS, Said, TextTwist
from station.testing.twists import say

PAST_LIMIT: Final = 300
"""Recorded exchanges that are kept."""

_RATES: Final = (0.1, 0.3, 1.0)


class Listener(Protocol):
    """What takes what a board says."""

    def receive(self, data: bytes) -> None:
        """Take it."""


class TextBoard(Protocol):
    """A board in memory that speaks in lines."""

    commands: list[str]
    """All that it was asked."""
    link: Listener | None

    def plug(self) -> MemoryLink:
        """Put it into a new port."""


Lie: TypeAlias = Callable[[str, bytes], bytes | None]
"""Gets a command and the right answer, and returns a well-formed one that is not true; None: the truth."""


class HostileConsole:
    """Somebody between a board and the wire."""

    def __init__(
        self, board: TextBoard, dice: Random, *, past: list[tuple[str, bytes]] | None = None, kinds: Sequence[str] = ()
    ) -> None:
        """Let everything through until ``attack``, ``twist_with`` or ``lie``.

        Args:
            board: what answers rightly.
            dice: decide everything.
            past: recorded exchanges; this console adds its own. One list for several lets them copy each other.
            kinds: how the commands begin of which ``attack`` may choose one.
        """
        self.board = board
        self.dice = dice
        self.between: Callable[[bytes], bytes] = bytes
        """What the wire makes of bytes, either way."""
        self.twisted = 0
        """Answers that were not the right ones."""
        self._past = [] if past is None else past
        self._kinds = tuple(kinds) or ("",)
        self._kind, self._rate, self._twists = "", 0.0, TEXT_TWISTS
        self._lie: Lie | None = None
        self._link: MemoryLink | None = None

    def plug(self) -> MemoryLink:
        """Put the board into a new port and return its link; needs a running event loop."""
        self._link = self.board.plug()
        self.board.link = self
        self._link.on_write = self.between
        return self._link

    def attack(self, lies: Sequence[Lie] = ()) -> None:
        """Choose what it does from now on: harm to one kind of answer, or to all; and perhaps a lie."""
        dice = self.dice
        self._kind = dice.choice(self._kinds) if dice.randrange(2) else ""
        self._rate = dice.choice(_RATES)
        self._twists = (dice.choice(TEXT_TWISTS),) if dice.randrange(2) else TEXT_TWISTS
        self._lie = dice.choice(lies) if lies and dice.randrange(4) == 0 else None

    def twist_with(self, twist: TextTwist, kind: str = "", *, rate: float = 1.0) -> None:
        """Do one thing to the answers of what begins with ``kind``, and nothing else."""
        self._kind, self._rate, self._twists, self._lie = kind, rate, (twist,), None

    def lie(self, lie: Lie) -> None:
        """Tell one lie, and be honest otherwise."""
        self._rate, self._lie = 0.0, lie

    def behave(self) -> None:
        """Be honest."""
        self._rate, self._lie = 0.0, None

    def receive(self, data: bytes) -> None:
        """Take what the board says, and say it or something else."""
        command = self.board.commands[-1] if self.board.commands else ""
        if self._lie is not None and (told := self._lie(command, data)) is not None:
            data = told
            self.twisted += 1
        self._past.append((command, data))
        del self._past[: len(self._past) - PAST_LIMIT]
        if command.startswith(self._kind) and self.dice.random() < self._rate:
            self.twisted += 1
            say(self._link, self.dice.choice(self._twists)(self.dice, Said(command, data, self._past)))
        elif self._link is not None:
            self._link.receive(self.between(data))
