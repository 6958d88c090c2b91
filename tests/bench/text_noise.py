"""Honest boards behind wires in memory that turn and lose bits: the line of ``assault.py``, in virtual time.

Languages of lines have no checksums, so what counts beside the boards that pass is that none is lost for good: a board
that failed is put in again, and in the end visits over a sound wire.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.assault import Assault
from station.events import SlotState

VISITS: Final = 3
"""How often a person puts a board in that fails."""

_GOOD: Final = frozenset({SlotState.PASSED, SlotState.DONE_BEFORE})


@dataclass
class Passed:
    """How many boards passed."""

    boards: int = 0
    at_once: int = 0
    """At their first visit."""
    in_the_end: int = 0
    """Within ``VISITS``."""


def noisy_visits(assault: Assault, boards: int, *, flips: float, losses: float, dice: Random) -> Passed:
    """Let so many new boards visit over a noisy wire, and judge each over a sound one afterwards.

    Args:
        assault: opened.
        boards: how many.
        flips: probability for each byte, either way, that one of its bits is turned.
        losses: that it does not arrive.
        dice: decide.
    """
    passed = Passed(boards)

    def harmed(data: bytes) -> bytes:
        arrived = bytearray()
        for byte in data:
            if dice.random() >= losses:
                arrived.append(byte ^ 1 << dice.randrange(8) if dice.random() < flips else byte)
        return bytes(arrived)

    for _ in range(boards):
        board = assault.board()
        board.between = harmed
        for visit in range(VISITS):
            end = assault.visit(board)
            if end is not None and end.state in _GOOD:
                passed.at_once += visit == 0
                passed.in_the_end += 1
                break
        board.between = _sound
        assault.judge(board)
    return passed


_sound: Callable[[bytes], bytes] = bytes
