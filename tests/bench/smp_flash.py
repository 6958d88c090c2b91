"""What tests and benchmarks of the SMP flasher share: a payload, and a flasher on a port."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

from firmware_tools.flashers import FlasherKind, Payload, Placed
from firmware_tools.flashers.smp import Patience, SmpFlasher, SmpWire
from firmware_tools.flashers.smp_upload import UploadPatience
from firmware_tools.smp_framing import Framing
from firmware_tools.testing import unsigned_image
from station.devices.smp_wire import SmpTransport
from station.ports.link import open_link

QUICK: Final = Patience(
    first=(0.2,) * 6,
    ask=(0.1, 0.2),
    command=(0.5,) * 6,
    boot=5.0,
    settle=0.02,
    stay=0.3,
    upload=UploadPatience(erase=2.0, first_silence=0.2, shortest=0.05, longest=0.4, silences=8),
)
"""For boards in the same machine."""


def payload_of(content: bytes, version: str = "2.0.0", *, running: bytes | None = None, **options: int) -> Payload:
    """Make a payload of one image."""
    placed = Placed("application", content, 0, sha256(content).digest())
    return Payload(FlasherKind.SMP, "", version, (placed,), running=running, options=options)


def image(version: tuple[int, int, int, int] = (2, 0, 0, 0), size: int = 20_000) -> bytes:
    """Make an image that MCUboot would take if it wanted no signature; its bytes do not repeat."""
    return unsigned_image(version, Random(size).randbytes(size))  # noqa: S311 - the same bytes each time


@asynccontextmanager
async def flasher_on(
    port: Path | str,
    *,
    baud: int = 921600,
    framing: Framing = Framing.BASE64,
    patience: Patience | None = None,
    reopen: Callable[[], Awaitable[SmpWire]] | None = None,
) -> AsyncIterator[SmpFlasher]:
    """Open a port and give a flasher on it."""
    link = await open_link(str(port), baud)
    try:
        yield SmpFlasher(SmpTransport(link, framing), reopen=reopen, patience=patience)
    finally:
        link.close()
