"""What a wire does to bytes: it takes its time, and it may harm them.

A wire has two directions, and each is a ``Lane``. A lane is pure: bytes and the time go in, bytes that have arrived by
a given time come out; it neither sleeps nor reads a clock. ``relay.py`` puts lanes between file descriptors.

Time. A byte is 10 bits long (8N1: start, eight data bits, stop), so n bytes that find the lane idle have arrived
n x 10 / baud seconds later, and bytes that find it busy queue behind. All is reckoned from the moment at which the
lane became busy, so a late wake-up delays that one delivery and never adds up. Deliveries are gathered into slices of a
millisecond, the end of a burst excepted, which is delivered when it is due: a receiver that waits for a whole frame
sees the right moment, and sixteen busy wires wake a processor a thousand times a second, not a million.

Harm. Each byte may lose its life, arrive twice, or have one of its bits turned, and the board may say a line of log in
the middle of whatever it was saying. The dice are seeded, and they are thrown by position in the stream: a run with the
same seed and the same bytes harms the same bytes, however the operating system cuts the stream into pieces. Each time
the cable is put in there are other dice: whoever tries again does not meet the same misfortune at the same byte.

Cut. After so many bytes in one direction the cable is pulled, the board loses its power, or another board takes its
place; once.
"""

import math
import random
from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Final

__all__ = ["BITS_PER_BYTE", "Cut", "CutKind", "Direction", "Lane", "Traffic", "Wire"]

BITS_PER_BYTE: Final = 10
"""8N1: one start bit, eight data bits, one stop bit."""

SLICE: Final = 0.001
"""Seconds of a wire's time that are delivered together."""

_SEED_BITS: Final = 32
"""Seeds that people give are smaller."""

BACKLOG: Final = 4096
"""Bytes that wait at the near end of a lane before the sender has to: the transmit buffer of a Linux serial port is
one page (``UART_XMIT_SIZE``)."""


@unique
class Direction(Enum):
    """Which way a byte goes."""

    TO_DEVICE = "to_device"
    TO_STATION = "to_station"


@unique
class CutKind(Enum):
    """How a wire ends."""

    UNPLUG = "unplug"
    """The cable is pulled: the port is gone, and the board, which lives on it, has no power."""
    POWER = "power"
    """The board alone loses its power: the port stays, and is silent."""
    SWAP = "swap"
    """A hand was too early: another, blank board is in the fixture; the port stays."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An end at an exact byte: ``after`` bytes in ``direction`` arrive, the next one does not."""

    direction: Direction
    after: int
    """Bytes since the cable was plugged in, 1 or more."""
    kind: CutKind = CutKind.UNPLUG


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What one wire is like. The rates are probabilities per byte, 0 to 1; both directions are alike."""

    baud: int | None = None
    """Bits a second, 8N1, each direction; None takes no time."""
    flip_rate: float = 0.0
    """One bit of the byte is turned."""
    lose_rate: float = 0.0
    """The byte takes its time and does not arrive."""
    double_rate: float = 0.0
    """The byte arrives twice."""
    echo: bool = False
    """What the station sends comes back to it too, as from a half-duplex adapter or a console that echoes."""
    log_rate: float = 0.0
    """Before the byte, on its way to the station, the board says ``log_line``, also in the middle of a frame."""
    log_line: bytes = b"\r\n[00:00:07.312,000] <wrn> adc: reading late\r\n"
    """It takes no time on the wire."""
    answer_delay: float = 0.0
    """Seconds that the board thinks before it says anything: each time it breaks its silence."""
    byte_delay: float = 0.0
    """Seconds that the board takes for each byte it sends, beside the time on the wire."""
    boot_noise: bytes = b""
    """What the board's boot loader says on this wire each time the board gets power."""
    cut: Cut | None = None
    seed: int = 0
    """Of the dice; each slot and direction has its own, derived from it."""

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: a value is out of its range.
        """
        if self.baud is not None and self.baud <= 0:
            raise ValueError(f"baud is {self.baud}: give bits a second, or None for a wire that takes no time")
        for name in ("flip_rate", "lose_rate", "double_rate", "log_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a probability per byte, from 0 to 1")
        for name in ("answer_delay", "byte_delay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give seconds, 0 or more")
        if self.cut is not None and self.cut.after < 1:
            raise ValueError(f"cut after {self.cut.after} bytes: give 1 or more")

    def without_cut(self) -> "Wire":
        """Return the same wire, whole."""
        return replace(self, cut=None)

    def at_plug(self, number: int) -> "Wire":
        """Return the same wire with the dice of the time that the cable is put in, 1 for the first."""
        return replace(self, seed=self.seed + (number - 1 << _SEED_BITS))


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has gone over one lane."""

    sent: int
    """Bytes that crossed the wire, those that were harmed on it included."""
    delivered: int
    """Bytes that the receiver took."""
    overrun: int
    """Bytes that the receiver had no room for, or that arrived while nobody had the port open: a UART drops them."""
    busy: float
    """Seconds the lane was busy: ``sent`` x 10 / baud."""


class _Dice:
    """Positions at which one kind of harm happens; costs nothing between them."""

    def __init__(self, rate: float, seed: str) -> None:
        self._rate = rate
        self.random: Final = random.Random(seed)  # noqa: S311 - it has to be repeatable; nothing is kept secret by it
        self.position: float = -1
        self.advance()

    def advance(self) -> None:
        """Throw for the next position; the gaps between independent events of one rate are geometric."""
        if self._rate == 0:
            self.position = math.inf
        elif self._rate == 1:
            self.position += 1
        else:
            gap = math.log(1 - self.random.random()) / math.log1p(-self._rate)
            self.position += 1 + math.floor(gap)


class Lane:
    """One direction of a wire. Times are seconds of one clock that never runs backwards."""

    def __init__(self, wire: Wire, direction: Direction, name: str) -> None:
        """Make an idle lane.

        Args:
            wire: what it is like.
            direction: which of the two it is.
            name: tells its dice from those of other wires, such as the slot's name.
        """
        to_station = direction is Direction.TO_STATION
        self._byte_time = 0.0 if wire.baud is None else BITS_PER_BYTE / wire.baud
        self._byte_time += wire.byte_delay if to_station else 0.0
        self._pending = bytearray()
        self._free_at = 0.0
        """When the last pending byte has arrived."""
        self._cut_at = wire.cut.after if wire.cut is not None and wire.cut.direction is direction else math.inf
        seed = f"{wire.seed}/{name}/{direction.value}"
        self._flip = _Dice(wire.flip_rate, f"{seed}/flip")
        self._lose = _Dice(wire.lose_rate, f"{seed}/lose")
        self._double = _Dice(wire.double_rate, f"{seed}/double")
        self._log = _Dice(wire.log_rate if to_station else 0.0, f"{seed}/log")
        self._log_line = wire.log_line
        self._dice = (self._flip, self._lose, self._double, self._log)
        self._next_harm = min(die.position for die in self._dice)
        self._sent = self._delivered = self._overrun = 0
        self.next_due: float | None = None
        """When ``due`` will have bytes; None while the lane is idle."""

    @property
    def room(self) -> int:
        """Bytes that may be accepted before the sender has to wait."""
        return max(0, BACKLOG - len(self._pending))

    @property
    def is_cut(self) -> bool:
        """Whether the wire's cut has come; the lane carries nothing from then on."""
        return self._sent >= self._cut_at

    @property
    def traffic(self) -> Traffic:
        """What has gone over the lane up to now."""
        return Traffic(self._sent, self._delivered, self._overrun, self._sent * self._byte_time)

    def accept(self, data: bytes, now: float, *, delay: float = 0.0) -> None:
        """Take bytes in at the near end; they go after those that are still on their way.

        Args:
            data: the bytes.
            now: the time.
            delay: seconds that they wait first if they find the lane idle.
        """
        if self.is_cut:
            return
        start = now if self._pending else now + delay
        self._free_at = max(self._free_at, start) + len(data) * self._byte_time
        self._pending += data
        self._plan(now)

    def due(self, now: float) -> bytes:
        """Return what has arrived at the far end since the last call, harmed as the wire harms it."""
        if now >= self._free_at:
            behind = 0
        elif self._byte_time:
            behind = math.ceil((self._free_at - now) / self._byte_time)
        else:  # all of it waits for a board that thinks
            behind = len(self._pending)
        count = max(0, len(self._pending) - behind)
        arrived = bytes(self._pending[: int(min(self._cut_at - self._sent, count))])
        del self._pending[:count]
        harmed = self._harm(arrived)
        self._sent += len(arrived)
        if self.is_cut:
            self._pending.clear()
        self._plan(now)
        return harmed

    def report(self, *, delivered: int, overrun: int) -> None:
        """Count what became of the bytes that ``due`` returned."""
        self._delivered += delivered
        self._overrun += overrun

    def discard(self) -> None:
        """Drop what is on its way: its sender has died, or its receiver."""
        self._pending.clear()
        self._free_at = 0.0
        self.next_due = None

    def mend(self) -> None:
        """Carry bytes again after the cut, which does not come a second time."""
        self._cut_at = math.inf

    def _plan(self, now: float) -> None:
        if not self._pending:
            self.next_due = None
            return
        first = self._free_at - (len(self._pending) - 1) * self._byte_time
        next_slice = max((math.floor(now / SLICE) + 1) * SLICE, math.ceil(first / SLICE) * SLICE)
        self.next_due = min(self._free_at, next_slice)

    def _harm(self, data: bytes) -> bytes:
        if self._next_harm >= self._sent + len(data):
            return data
        harmed = bytearray()
        for position, byte in enumerate(data, self._sent):
            flip, lose, double, log = (die.position == position for die in self._dice)
            harmed += self._log_line if log else b""
            value = byte ^ (1 << self._flip.random.randrange(8)) if flip else byte
            harmed += bytes([value]) * (0 if lose else 2 if double else 1)
            for die in self._dice:
                if die.position == position:
                    die.advance()
        self._next_harm = min(die.position for die in self._dice)
        return bytes(harmed)
