"""What a board suffers by itself, as values: its power goes at a moment of its own life, and it may lie about its name.

A wire harms bytes (``wire.py``) and a hand pulls plugs (``board.py``). The deaths here are aimed at what
happens inside the board: in the middle of a flash operation, or between reaching a state and saying so. They are
carried out by the reference device itself, so they hit the same byte each time.
"""

import random
from dataclasses import dataclass
from typing import Final, Self

from firmware_tools.provisioning import DeviceState

__all__ = ["SOUND", "Faults", "FlashDeath", "StateDeath"]


@dataclass(frozen=True, slots=True)
class FlashDeath:
    """The power goes in the middle of a flash operation."""

    operation: int
    """Which one since the board got power, 1 or more: each program and each erase counts."""
    torn: int | None = None
    """How many of its bytes come to pass; None: half of them."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value is out of its range.
        """
        if self.operation < 1 or (self.torn is not None and self.torn < 0):
            raise ValueError(f"{self}: operations count from 1, torn bytes from 0")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the device program is told."""
        torn = () if self.torn is None else ("--torn", str(self.torn))
        return ("--die-after-writes", str(self.operation), *torn)


@dataclass(frozen=True, slots=True)
class StateDeath:
    """The power goes once the board has come to a state, before it says so."""

    state: DeviceState
    """Not ``BLANK``: a board is blank from the beginning. A board that starts in it or beyond it lives."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: no board comes to this state.
        """
        if self.state is DeviceState.BLANK:
            raise ValueError("no board comes to BLANK: give a state that it reaches")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the device program is told."""
        return ("--die-in-state", str(int(self.state)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What one board suffers."""

    deaths: tuple[FlashDeath | StateDeath, ...] = ()
    """One each time it gets power, in this order; after the last one it lives."""
    restart: float | None = None
    """Seconds from such a death until it has power again by itself: a supply that browns out. None: it stays off until
    somebody gives it power."""
    hardware_id: str | None = None
    """What it says its id is, as a cloned image does; None: its own."""

    @classmethod
    def brown_outs(cls, dice: random.Random, times: int, *, restart: float = 0.02, operations: int = 12) -> Self:
        """Let the supply fail ``times`` in a row, each time in a random flash operation, after a random byte of it.

        Args:
            dice: seeded, so that a run can be repeated.
            times: how often.
            restart: see ``Faults.restart``.
            operations: flash operations among which one is chosen; a whole provisioning has a dozen.
        """
        deaths = (FlashDeath(dice.randint(1, operations), dice.choice(TORN)) for _ in range(times))
        return cls(deaths=tuple(deaths), restart=restart)


TORN: Final = (0, 1, 5, 8, 15, 16, 17, 200, 1000)
"""Byte counts worth tearing at: around the 8 that are programmed at once, the 16 of a record's head, and far in."""

SOUND: Final = Faults()
"""A board that suffers nothing."""
