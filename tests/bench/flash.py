"""Firmware over SMP on paced wires: how much of what the framing leaves of the wire an upload fills.

A byte takes ten bits on the wire. Base64 makes four characters of three bytes, and a line has 124 of them and three
bytes of delimiters: at 921600 baud that leaves 67,487 bytes a second for messages. Raw framing leaves all 92,160. What
an upload reaches is a share of that: bytes of the image by the seconds from its first piece to the answer to its last;
the headers and the CBOR of the messages, the erase, the check of the digest, and every moment in which the wire is idle
count against it.

One board first, then sixteen at once, in Base64 and raw; and smpclient's own upload over the same wires, by turns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from smpclient import SMPClient
from smpclient.transport.serial import SMPSerialTransport
from smpclient.transport.serial.unencoded import SMPSerialRawTransport

from bench.figures import Effort, Figure
from bench.place import device_program
from bench.processes import Board, board_line
from bench.smp_flash import flasher_on, image, payload_of
from firmware_tools.flashers import Phase
from firmware_tools.smp_framing import Framing
from firmware_tools.virtual_line.wire import BITS_PER_BYTE

BAUD: Final = 921600
AT_ONCE: Final = 16

LEFT: Final = {Framing.BASE64: 3 / 4 * 124 / 127, Framing.RAW: 1.0}
"""What each framing leaves of the wire."""

LONE_LIMIT: Final = {Framing.BASE64: 90, Framing.RAW: 95}
"""Percent of it that one board has to reach."""

CROWD_LIMIT: Final = 85
"""Percent that the slowest of sixteen has to reach."""

RAW_BUFFER: Final = 2044
"""Bytes of a message that smpclient is told to send in raw framing: what it finds by itself in Base64."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    turns = effort.choose(1, 3, 7)
    size = effort.choose(40_000, 200_000, 240_000)
    for framing in Framing:
        options = ["--raw"] if framing is Framing.RAW else []
        ours: list[float] = []
        crowds: list[list[float]] = []
        theirs: list[float] = []
        their_crowds: list[list[float]] = []
        with board_line(device_program(), work / framing.value, AT_ONCE, baud=BAUD, options=options) as boards:
            for turn in range(turns):
                say(f"flash: {framing.value}, turn {turn + 1} of {turns}")
                new = [image((2, turn, number, 0), size) for number in range(4)]
                theirs += _run(_smpclient, boards[:1], framing, new[0])
                ours += _run(_flash, boards[:1], framing, new[1])
                their_crowds.append(_run(_smpclient, boards, framing, new[2]))
                crowds.append(_run(_flash, boards, framing, new[3]))
        name, left = framing.value, f"of the {BAUD / BITS_PER_BYTE * LEFT[framing]:,.0f} bytes/s that it leaves"
        note = f"{left}; median of {turns}, {min(ours):.1f} to {max(ours):.1f}"
        yield Figure(f"{name}: one board", median(ours), "%", at_least=LONE_LIMIT[framing], note=note)
        note = f"median of {turns} crowds; the median board {median(median(crowd) for crowd in crowds):.1f} %"
        slowest = median(min(crowd) for crowd in crowds)
        yield Figure(f"{name}: slowest of {AT_ONCE} at once", slowest, "%", at_least=CROWD_LIMIT, note=note)
        yield Figure(f"{name}: smpclient, one board", median(theirs), "%", note="its own upload, the same wire")
        slowest = median(min(crowd) for crowd in their_crowds)
        yield Figure(f"{name}: smpclient, slowest of {AT_ONCE}", slowest, "%", note="the same")


def _run(
    way: Callable[[Board, Framing, bytes], Awaitable[float]], boards: Sequence[Board], framing: Framing, new: bytes
) -> list[float]:
    """Bring an image onto each board at once; return what share of the wire each got, in percent."""

    async def everywhere() -> list[float]:
        return list(await asyncio.gather(*(way(board, framing, new) for board in boards)))

    return [len(new) / seconds / (BAUD / BITS_PER_BYTE * LEFT[framing]) * 100 for seconds in asyncio.run(everywhere())]


async def _flash(board: Board, framing: Framing, new: bytes) -> float:
    """Return the seconds of our upload."""
    async with flasher_on(board.port, baud=BAUD, framing=framing) as flasher:
        report = await flasher.flash(payload_of(new), lambda _progress: None)
    return report.seconds[Phase.ERASE] + report.seconds[Phase.WRITE]


async def _smpclient(board: Board, framing: Framing, new: bytes) -> float:
    """Return the seconds of smpclient's upload."""
    transport = (
        SMPSerialRawTransport(RAW_BUFFER, baudrate=BAUD)
        if framing is Framing.RAW
        else SMPSerialTransport(baudrate=BAUD)
    )
    async with SMPClient(transport, str(board.port)) as client:
        began = time.monotonic()
        async for _ in client.upload(new):
            pass
        return time.monotonic() - began
