"""How a hostile board may answer: each twist takes the right answer and returns what goes onto the wire instead.

A twist is a function of dice and a ``Reply``. The dice are a ``random.Random``: a seeded one for millions of answers,
``hypothesis.strategies.randoms()`` for answers that shrink to the smallest one that does harm. It returns pieces of
bytes with the seconds to wait before each; no piece is silence. The lengths and bombs below
are those that decoders of CBOR, Base64 and length-prefixed frames were seen to fall for.
"""

import asyncio
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias

import cbor2
from smp import packet

from firmware_tools.smp_framing import LINE_LENGTH, MESSAGE_LIMIT
from station.devices.smp_wire import TALK_LIMIT
from station.testing.memory_link import MemoryLink
from station.testing.scripted_board import frame

Pieces: TypeAlias = Sequence[tuple[float, bytes]]
"""Seconds to wait, and what is said then."""


def say(link: MemoryLink | None, pieces: Pieces) -> None:
    """Put pieces on the wire, each in its time, while this visit lasts."""
    when = 0.0
    for wait, piece in pieces:
        when += wait
        if link is not None and when == 0:
            link.receive(piece)
        elif link is not None:
            asyncio.get_running_loop().call_later(when, link.receive, piece)


RequestHeader: TypeAlias = tuple[int, int, int, int]
"""Operation, group, sequence and command."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The right answer to one request, and what was said before it."""

    request: RequestHeader
    answer: Mapping[str, Any]
    past: Sequence[tuple[RequestHeader, bytes]]
    """Recorded exchanges: requests' headers, and the maps (CBOR) that answered them; of other boards, too."""

    @property
    def body(self) -> bytes:
        """The right map."""
        return cbor2.dumps(self.answer)

    @property
    def right(self) -> bytes:
        """The right answer as it goes over the wire."""
        return frame(self.request, self.body)

    def saying(self, answer: object) -> "Pieces":
        """Say something else, in a sound frame and sound CBOR."""
        return self.framing(cbor2.dumps(answer))

    def framing(self, body: bytes) -> "Pieces":
        """Say something else, in a sound frame."""
        return [(0, frame(self.request, body))]


Twist: TypeAlias = Callable[[Random, Reply], Pieces]

FIELDS: Final = (
    *("v", "hw", "model", "fw", "img", "st", "buf", "leaf", "len", "off", "data", "sha", "sig", "locks"),
    *("rc", "err", "group", "header", "version", "sequence"),
)
"""Names that mean something in an answer, or in the classes that it is parsed into."""

_LENGTHS: Final = (0, 1, 31, 33, 64, 65, 144, 145, 2049, 3000)
_INTEGERS: Final = (0, 1, -1, 2, 3, 4, 23, 24, 127, 255, 256, 4096, 4097, 1 << 31, 1 << 63, (1 << 64) - 1, -(1 << 63))
_TEXTS: Final = ("", "0", "A" * 65, "\x1b[2J", "../../etc/passwd", "B\n", "\u202e1.0", "\uff22", "%s%n", "{0}", "'--")

BOMBS: Final = (
    b"",
    b"\x80",
    b"\x01",
    b"\xa1\x62hw",
    b"\x81" * 3000 + b"\x01",
    b"\xa1\x61a" * 1000 + b"\xa0",
    b"\xa1\x62hw\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xa1\x62hw\x7b\x00\x00\x00\xff\xff\xff\xff\xff",
    b"\xa1\x62hw\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xbf\x62hw",
    b"\xbf" * 2000,
    b"\xa1\x62hw\x7f\x61a\x61b",
    b"\xa2\x61v\x01\x61v\x01",
    b"\xa1\x80\x01",
    b"\xa1\x61v\xc5\x82\x1b\x00\x00\x00\x10\x00\x00\x00\x00\x03",
    b"\xa1\x61v\xc4\x82\x1b\x00\x00\x00\x10\x00\x00\x00\x00\x03",
    b"\xa1\x61v\xc2\x59\x0b\xb8" + b"\xff" * 3000,
    b"\xa1\x61v\xd8\x23\x66(a+)+b",
    b"\xd8\x1c\x81\xd8\x1d\x00",
    b"\xa1\x61v\xc1\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xa1\x61v\x62\xff\xfe",
    b"\xa1\x61v\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
)
"""Maps that are none, that never end, that say they are larger than memory, or that are costly to understand."""


_VALUES: Final[tuple[Callable[[Random], object], ...]] = (
    lambda dice: dice.choice(_INTEGERS),
    lambda dice: dice.choice(_TEXTS),
    lambda dice: dice.randbytes(dice.choice(_LENGTHS)),
    lambda dice: dice.choice((None, True, False, 1.0, float("inf"))),
    lambda dice: [dice.choice(_INTEGERS)] * dice.randrange(5),
    lambda dice: {dice.choice(FIELDS): dice.choice(_INTEGERS)},
    lambda dice: "x" * dice.choice(_LENGTHS),
)


def _value(dice: Random) -> object:
    return dice.choice(_VALUES)(dice)


def changed_bytes(dice: Random, data: bytes) -> bytes:
    """Flip, lose, double or insert a few bytes."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0:
                changed[at : at + 1] = dice.randbytes(1)
            case 1:
                del changed[at : at + dice.choice((1, 1, 2, 16))]
            case 2:
                changed[at:at] = dice.randbytes(dice.choice((1, 2, 16)))
            case 3:
                changed[at:at] = changed[at : at + 16]
            case _ if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
    return bytes(changed)


# The map.


def wrong_field(dice: Random, reply: Reply) -> Pieces:
    """One field with another value."""
    return reply.saying({**reply.answer, dice.choice(list(reply.answer) or FIELDS): _value(dice)})


def lost_field(dice: Random, reply: Reply) -> Pieces:
    """One field less."""
    lost = dice.choice(list(reply.answer) or FIELDS)
    return reply.saying({name: value for name, value in reply.answer.items() if name != lost})


def swapped_fields(dice: Random, reply: Reply) -> Pieces:
    """The right values under each other's names."""
    values = list(reply.answer.values())
    dice.shuffle(values)
    return reply.saying(dict(zip(reply.answer, values, strict=True)))


def any_map(dice: Random, reply: Reply) -> Pieces:
    """A map of names that mean something here, with any values."""
    return reply.saying({dice.choice(FIELDS): _value(dice) for _ in range(dice.randrange(6))})


def refusal(dice: Random, reply: Reply) -> Pieces:
    """A return code, of any group."""
    code, group = dice.choice(_INTEGERS), dice.choice((0, 64, 80, 81, -1))
    return reply.saying(dice.choice(({"rc": code}, {"err": {"group": group, "rc": code}}, {"err": _value(dice)})))


def bomb(dice: Random, reply: Reply) -> Pieces:
    """See ``BOMBS``."""
    return reply.framing(dice.choice(BOMBS))


def damaged_map(dice: Random, reply: Reply) -> Pieces:
    """The right map with other bytes, in a sound frame."""
    return reply.framing(changed_bytes(dice, reply.body))


# The message and its frame.

_HEADER: Final = struct.Struct("!BBHHBB")
_SIZES: Final = (0, 1, 7, 8, 9, 255, 4096, 4097, 65535)


def wrong_header(dice: Random, reply: Reply) -> Pieces:
    """The header of another answer, or of none."""
    op, group, sequence, command = reply.request
    fields = [op + 1 + 8, 0, len(reply.body), group, sequence, command]
    which = dice.randrange(len(fields))
    fields[which] = dice.choice(_SIZES) & (0xFFFF if which in {2, 3} else 0xFF)
    return [(0, b"".join(packet.encode(_HEADER.pack(*fields) + reply.body, LINE_LENGTH)))]


def wrong_length(dice: Random, reply: Reply) -> Pieces:
    """A frame that is not as long as it says."""
    line = struct.pack("!H", dice.choice(_SIZES)) + dice.randbytes(dice.choice((0, 1, 4, 30, 700)))
    return [(0, packet.START_DELIMITER + b64encode(line) + b"\n"), *_sometimes(dice, reply)]


def wrong_line(dice: Random, reply: Reply) -> Pieces:
    """Lines without a beginning, without an end, too long, or in the wrong order."""
    lines = reply.right.splitlines(keepends=True)
    match dice.randrange(5):
        case 0:
            lines = lines[1:] or [packet.CONTINUE_DELIMITER + b"AAAA\n"]
        case 1:
            lines = [line.rstrip(b"\n") for line in lines]
        case 2:
            lines = [packet.START_DELIMITER + b"A" * dice.choice((1023, 1025, 5000)) + b"\n"]
        case 3:
            lines = [packet.START_DELIMITER + b"\n"] * dice.randrange(1, 40)
        case _:
            dice.shuffle(lines)
    return [(0, b"".join(lines))]


def damaged_wire(dice: Random, reply: Reply) -> Pieces:
    """The right answer, with other bytes on the wire."""
    return [(0, changed_bytes(dice, reply.right))]


def huge(dice: Random, reply: Reply) -> Pieces:
    """A sound frame that is larger than any message may be."""
    size = dice.choice((MESSAGE_LIMIT - 8, MESSAGE_LIMIT + 1, 20_000, 60_000))
    return [(0, frame(reply.request, cbor2.dumps({**reply.answer, "x": bytes(size)})))]


def noise(dice: Random, reply: Reply) -> Pieces:
    """Bytes of any kind, perhaps with the answer behind them."""
    return [(0, dice.randbytes(dice.choice((1, 64, 1500)))), *_sometimes(dice, reply)]


def flood(dice: Random, reply: Reply) -> Pieces:
    """More than a board may say, without an answer in it."""
    op, group, sequence, command = reply.request
    other = frame((op, group, sequence ^ 1, command), reply.body)
    text = dice.choice((b"\x06\x09" + b"QUJD" * 30 + b"\n", b"boot: 1234567890\n", b"\n", b"\x00", other))
    return [(0, text * (TALK_LIMIT // 4 // len(text) + 1))] * dice.choice((1, 5))


def _sometimes(dice: Random, reply: Reply) -> Pieces:
    return [(0, reply.right)] if dice.randrange(2) else []


# The order of things, and the time.


def silence(_dice: Random, _reply: Reply) -> Pieces:
    """Nothing."""
    return []


def late(dice: Random, reply: Reply) -> Pieces:
    """The right answer, after the station has begun to wonder."""
    return [(dice.choice((0.3, 0.6, 1.1, 2.5, 5.0, 20.0)), reply.right)]


def twice(dice: Random, reply: Reply) -> Pieces:
    """The right answer, and once more at another moment."""
    return [(0, reply.right), (dice.choice((0, 0.01, 1.5)), reply.right)]


def early(dice: Random, reply: Reply) -> Pieces:
    """The right answer, and answers to what may be asked next."""
    op, group, sequence, _ = reply.request
    other = op ^ dice.choice((0, 2))
    ahead = [(other, group, (sequence + step) & 0xFF, command) for step in (1, 2) for command in range(5)]
    said = [(0.0, frame(header, dice.choice((reply.body, cbor2.dumps({"locks": 3}))))) for header in ahead]
    return [(0, reply.right), *said] if dice.randrange(2) else [*said, (0, reply.right)]


def old(dice: Random, reply: Reply) -> Pieces:
    """Answers to requests of the past, with or without the right one."""
    if not reply.past:
        return []
    said = [(0.0, frame(*dice.choice(reply.past))) for _ in range(3)]
    return [*said, *_sometimes(dice, reply)]


def stale(dice: Random, reply: Reply) -> Pieces:
    """What was answered to this kind of request before, by this board or another one, as if it were the answer now."""
    op, group, _, command = reply.request
    same = [body for header, body in reply.past if (header[0], header[1], header[3]) == (op, group, command)]
    return reply.framing(dice.choice(same)) if same else []


def other_verb(dice: Random, reply: Reply) -> Pieces:
    """An answer to another kind of request, under this one's header."""
    return reply.framing(dice.choice(reply.past)[1]) if reply.past else []


def echo(_dice: Random, reply: Reply) -> Pieces:
    """The request, as a console echoes it."""
    op, group, sequence, command = reply.request
    return [(0, frame((op - 1, group, sequence, command), b"\xa0")), (0, reply.right)]


def drip(dice: Random, reply: Reply) -> Pieces:
    """The right answer, byte for byte, slower than anything real."""
    pause = dice.choice((0.001, 0.05, 0.5))
    return [(pause, bytes((byte,))) for byte in reply.right]


def drip_for_ever(dice: Random, _reply: Reply) -> Pieces:
    """A byte now and then, so that it never is silent."""
    text = dice.choice((b"A", b"\n", b"\x06\x09"))
    return [(0.4, text)] * 400


TWISTS: Final[tuple[Twist, ...]] = (
    wrong_field,
    lost_field,
    swapped_fields,
    any_map,
    refusal,
    bomb,
    damaged_map,
    wrong_header,
    wrong_length,
    wrong_line,
    damaged_wire,
    huge,
    noise,
    flood,
    silence,
    late,
    twice,
    early,
    old,
    stale,
    other_verb,
    echo,
    drip,
    drip_for_ever,
)
"""All of them."""
