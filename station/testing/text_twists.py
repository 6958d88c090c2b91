r"""How a hostile console may answer: each twist takes the right answer to a command and returns what is said instead.

The counterpart of ``twists`` for boards that speak in lines. Twists are functions of dice and a ``Said``, so that
millions of seeded ones and a search for the smallest harmful one use the same. What they do, drivers of text were seen
to fall for: an end in the middle of an answer, an answer to an older command, numbers that no integer of C holds,
escape sequences, lines that never end.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from station.devices.console import LINE_LIMIT, TALK_LIMIT
from station.testing.twists import Pieces, changed_bytes


@dataclass(frozen=True, slots=True)
class Said:
    """The right answer to one command, and what was said before it."""

    command: str
    """As it was heard, contents left out."""
    right: bytes
    past: Sequence[tuple[str, bytes]]
    """Recorded exchanges, of other boards, too."""

    @property
    def lines(self) -> list[bytes]:
        """The right answer, line by line, with their ends."""
        return self.right.splitlines(keepends=True)

    def like(self) -> list[bytes]:
        """Return what was answered to this kind of command before."""
        kind = self.command.split(" ", maxsplit=1)[0]
        return [answer for command, answer in self.past if command.split(" ", maxsplit=1)[0] == kind]


TextTwist: TypeAlias = Callable[[Random, Said], Pieces]

ENDS: Final = (b"OK\r\n", b"ok\r\n", b"ERROR\r\n", b"> ", b"uart:~$ ", b"\r\n\r\n")
"""What ends answers, in one language or another."""

REFUSALS: Final = (
    *(b"ERROR", b"+CME ERROR: 519", b"+CME ERROR: 77777", b"+CME ERROR: 99999999999999999999", b"+CME ERROR: phone"),
    *(b"+CME ERROR:", b"+CME ERROR: -1", b"+CMS ERROR: 500", b"error 9", b"error 4294967296"),
    *(b"hwinfo: command not found", b"*** Booting Zephyr OS ***", b"Not enough room in credential buffer"),
)  # fmt: skip

ESCAPES: Final = (
    *(b"\x1b[2J", b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b", b"\x1b[" + b"0" * 300, b"\x1bP", b"\x9b31m", b"\b\b\b"),
    *(b"\0", b"\0" * 500, b"\x07", b"\x0c", b"\r", b"\x03", b"\xe2\x80\xae", b"\xc3\x28"),
)
"""What terminals obey, and bytes that are no text."""

LOGS: Final = (
    b"[00:00:07.115,234] <inf> app: sensor read\r\n",
    b"* temp 23.4 C\r\n",
    b"+CEREG: 5\r\n",
    b"%XSYSTEMMODE: 1,0,1,0\r\n",
)

_NUMBER: Final = re.compile(rb"\d+")
_NUMBERS: Final = (b"0", b"-1", b"00000000000000001", b"4294967296", b"9" * 40, b"9" * 5000, b"1e9", b"0x10")
_SOME: Final = (1, 2, 3, 8)


def _place(dice: Random, text: bytes) -> int:
    return dice.randrange(len(text) + 1)


def _with(dice: Random, text: bytes, more: bytes) -> bytes:
    at = _place(dice, text)
    return text[:at] + more + text[at:]


def damaged(dice: Random, said: Said) -> Pieces:
    """The right answer, with other bytes."""
    return [(0, changed_bytes(dice, said.right))]


def one_bit(dice: Random, said: Said) -> Pieces:
    """The right answer, with one bit turned."""
    text = bytearray(said.right)
    if text:
        text[dice.randrange(len(text))] ^= 1 << dice.randrange(8)
    return [(0, bytes(text))]


def cut(dice: Random, said: Said) -> Pieces:
    """The beginning of it, perhaps with an end."""
    end = dice.choice((b"", b"\r\n", b"\r\n" + dice.choice(ENDS), b'"\r\n' + dice.choice(ENDS)))
    return [(0, said.right[: _place(dice, said.right)] + end)]


def end_inside(dice: Random, said: Said) -> Pieces:
    """An end in the middle of it, with a line of its own or without."""
    return [(0, _with(dice, said.right, dice.choice((b"", b"\r\n")) + dice.choice(ENDS)))]


def escapes(dice: Random, said: Said) -> Pieces:
    """What a terminal would obey, in the middle of it."""
    text = said.right
    for _ in range(dice.choice(_SOME)):
        text = _with(dice, text, dice.choice(ESCAPES))
    return [(0, text)]


def log_inside(dice: Random, said: Said) -> Pieces:
    """A record of a log in the middle of it."""
    return [(0, _with(dice, said.right, dice.choice(LOGS)))]


def numbers(dice: Random, said: Said) -> Pieces:
    """Other numbers."""
    found = list(_NUMBER.finditer(said.right))
    if not found:
        return [(0, said.right + dice.choice(_NUMBERS))]
    one = dice.choice(found)
    return [(0, said.right[: one.start()] + dice.choice(_NUMBERS) + said.right[one.end() :])]


def letters(dice: Random, said: Said) -> Pieces:
    """Other cases, and other characters of the same kind."""
    change = dice.choice((bytes.swapcase, bytes.lower, bytes.upper, lambda text: text.translate(_ROTATED)))
    return [(0, change(said.right))]


_ROTATED: Final = bytes.maketrans(b"0123456789abcdefABCDEF", b"1234567890bcdefaBCDEFA")


def lines_moved(dice: Random, said: Said) -> Pieces:
    """Lines lost, doubled, or in another order."""
    lines = said.lines
    match dice.randrange(3):
        case 0:
            dice.shuffle(lines)
        case 1 if lines:
            del lines[dice.randrange(len(lines))]
        case _ if lines:
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
    return [(0, b"".join(lines))]


def two_boards(dice: Random, said: Said) -> Pieces:
    """What another board would answer, behind it or mixed into it, byte by byte or line by line."""
    others = said.like()
    other = dice.choice(others) if others else said.right
    match dice.randrange(3):
        case 0:
            return [(0, said.right + other)]
        case 1:
            return [(0, other), (0.001, said.right)]
        case _:
            mixed = zip(said.right, other, strict=False)
            return [(0, bytes(byte for pair in mixed for byte in pair))]


def refusal(dice: Random, _said: Said) -> Pieces:
    """No, in one language or another."""
    return [(0, dice.choice(REFUSALS) + dice.choice((b"\r\n", b"\r\nOK\r\n", b"\r\nok\r\n")))]


def reboot(dice: Random, said: Said) -> Pieces:
    """It starts anew in the middle of it."""
    banner = b"\r\n*** Booting nRF Connect SDK v3.0.1 ***\r\n*** Using Zephyr OS v4.0.99 ***\r\n"
    return [(0, said.right[: _place(dice, said.right)]), (dice.choice((0, 0.3)), banner), (0.1, b"uart:~$ ")]


def old(dice: Random, said: Said) -> Pieces:
    """Answers to other commands, with or without the right one behind them."""
    if not said.past:
        return []
    before = [(0.0, dice.choice(said.past)[1]) for _ in range(dice.choice(_SOME))]
    return [*before, (0, said.right)] if dice.randrange(2) else before


def stale(dice: Random, said: Said) -> Pieces:
    """What was answered to this kind of command before, by this board or by another one."""
    same = said.like()
    return [(0, dice.choice(same))] if same else []


def early(dice: Random, said: Said) -> Pieces:
    """The right answer, and answers to what may be asked next."""
    ahead = [(0.0, answer) for _, answer in dice.choices(said.past, k=3)] if said.past else []
    return [(0, said.right), *ahead]


def long_line(dice: Random, said: Said) -> Pieces:
    """A line that is longer than any may be, before the answer or in it."""
    filler = dice.choice((b"A", b"0", b"-", b" ", b'"', b"> ", b"\x1b[1m")) * (LINE_LIMIT * dice.choice((1, 2)))
    return [(0, _with(dice, said.right, filler))]


def flood(dice: Random, said: Said) -> Pieces:
    """More than a board may say."""
    text = dice.choice((b"A", b"\n", b"\r\nlog line\r\n", b"\0", said.right or b"x", *LOGS))
    return [(0, text * (TALK_LIMIT // len(text) + 1))] * dice.choice((1, 3))


def noise(dice: Random, said: Said) -> Pieces:
    """Bytes of any kind, perhaps with the answer behind them."""
    some = dice.randbytes(dice.choice((1, 64, 1500)))
    return [(0, some), *([(0, said.right)] if dice.randrange(2) else [])]


def silence(_dice: Random, _said: Said) -> Pieces:
    """Nothing."""
    return []


def late(dice: Random, said: Said) -> Pieces:
    """The right answer, after the station has begun to wonder."""
    return [(dice.choice((0.3, 0.6, 1.1, 2.5, 5.0, 20.0)), said.right)]


def twice(dice: Random, said: Said) -> Pieces:
    """The right answer, and once more at another moment."""
    return [(0, said.right), (dice.choice((0, 0.01, 1.5)), said.right)]


def drip(dice: Random, said: Said) -> Pieces:
    """The right answer, byte for byte, slower than anything real."""
    pause = dice.choice((0.001, 0.05, 0.5))
    return [(pause, bytes((byte,))) for byte in said.right]


def drip_for_ever(dice: Random, _said: Said) -> Pieces:
    """A byte now and then, so that it never is silent."""
    return [(dice.choice((0.1, 0.4)), dice.choice((b"A", b"\n", b"\0", b"x\r\n")))] * 600


TEXT_TWISTS: Final[tuple[TextTwist, ...]] = (
    *(damaged, one_bit, cut, end_inside, escapes, log_inside, numbers, letters, lines_moved, two_boards, refusal),
    *(reboot, old, stale, early, long_line, flood, noise, silence, late, twice, drip, drip_for_ever),
)
"""All of them."""
