"""Many esptool flashes at once beside one alone, over wires that take their time.

The chips are virtual (``firmware_tools.rom_loaders``) and live in a process of their own, which has the same two cores;
esptool is the one that was installed, run as our flasher runs it: three children a board. What one flash alone needs is
measured in the same run.
"""

import asyncio
import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.figures import BenchError, Effort, Figure
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, Payload, Placed
from firmware_tools.flashers.esp import EspFlasher

MAX_RATIO: Final = 1.3
BAUD: Final = 460_800
BITS_PER_BYTE: Final = 10
CHIP: Final = "esp32c3"


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    boards = effort.choose(2, 16, 16)
    kilobytes = effort.choose(64, 1536, 1536)
    image = _firmware(kilobytes << 10)
    payload = Payload(
        FlasherKind.ESP, CHIP, "1.0.0", (Placed("application", image, 0x1_0000, hashlib.sha256(image).digest()),)
    )
    command = [sys.executable, "-m", "firmware_tools.rom_loaders", CHIP, str(work / "chips"), "--paced"]
    with subprocess.Popen([*command, "--count", str(boards + 1)], stdout=subprocess.PIPE, text=True) as chips:
        try:
            assert chips.stdout is not None
            ports = [chips.stdout.readline().strip() for _ in range(boards + 1)]
            say(f"rom_loaders: one board, {kilobytes} kB")
            (alone,) = asyncio.run(_flash(ports[:1], payload))
            say(f"rom_loaders: {boards} boards at once")
            began = time.monotonic()
            each = asyncio.run(_flash(ports[1:], payload))
            together = time.monotonic() - began
        except FlashError as error:
            raise BenchError(str(error)) from error
        finally:
            chips.terminate()
    note = f"{kilobytes} kB at {BAUD}, esptool in three runs a board"
    yield Figure("one esptool flash alone", alone, "s", note=note)
    yield Figure("many at once", together, "s", note=f"{boards} boards, each {min(each):.1f} to {max(each):.1f} s")
    yield Figure("many at once, times one alone", together / alone, at_most=MAX_RATIO)
    yield Figure("boards that hold the image and were not skipped", len(each), at_least=boards, timed=False)


async def _flash(ports: list[str], payload: Payload) -> list[float]:
    """Flash all at once; return the seconds of each."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(port, payload)) for port in ports]
    return [task.result() for task in tasks]


async def _one(port: str, payload: Payload) -> float:
    began = time.monotonic()
    report = await EspFlasher(port, baud=BAUD).flash(payload, lambda _progress: None)
    if report.skipped or report.written < len(payload.images[0].content):
        raise BenchError(f"{port}: {report.written} bytes were written")
    return time.monotonic() - began


def _firmware(size: int) -> bytes:
    """Return bytes that zlib packs to about six tenths, as it does with firmware."""
    dice = random.Random(size)  # noqa: S311 - it has to be repeatable; nothing is kept secret by it
    pages = bytearray()
    while len(pages) < size:
        pages += dice.randbytes(1200) + bytes(dice.choices(range(16), k=400)) + bytes(448)
    return bytes(pages[:size])
