"""How firmware gets onto a board, whatever its loader speaks.

A *flasher* is one class for one kind of loader: ``smp`` (Zephyr and Mynewt applications, MCUboot's serial recovery),
``esp`` and ``stm32`` (the loaders in ROM, through esptool and stm32loader as child processes) and ``probe`` (SWD
through pyOCD). It offers the two verbs of ``Flasher``. What is flashed is a ``Payload``: images that were read and
checked once, for all slots; ``firmware_tools.bundles.bundle`` makes it of a signed bundle.

A flasher that is cancelled, at any moment, leaves a board that the next try can flash again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

__all__ = ["FlashReport", "FlasherKind", "Payload", "Phase", "Placed", "Progress", "Target", "Watch"]


class FlasherKind(Enum):
    """Kinds of loaders, by the names that stand in a bundle."""

    SMP = "smp"
    ESP = "esp"
    STM32 = "stm32"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Placed:
    """One image and where it goes."""

    name: str
    """For people: the image's name in its bundle, or ``factory-data`` for what is made for one unit."""
    content: bytes = field(repr=False)
    address: int
    """Byte address in the chip's flash; for ``smp`` the number of the image (0 where a board has one)."""
    sha256: bytes
    """Of ``content``; 32 bytes."""
    is_secret: bool = False
    """It holds secrets of one unit: never written to a disk, never in a log."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a board has to hold after it was flashed."""

    kind: FlasherKind
    chip: str
    """As the kind's tool names it: ``esp32c3``, ``F4``, ``nrf52840``; for ``smp`` the product's model, or empty."""
    version: str
    """Of the firmware, as the bundle says."""
    images: tuple[Placed, ...]
    running: bytes | None = None
    """What a board that runs this firmware says of itself (``smp``: the hash in the image's MCUboot TLV; 32 bytes);
    None where only a comparison with the flash tells."""
    minimum_bootloader: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    """Of the kind: ``docs/firmware.md`` lists them."""


class Phase(Enum):
    """What a flasher does at the moment."""

    CONNECT = "connect"
    ERASE = "erase"
    WRITE = "write"
    VERIFY = "verify"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a board is."""

    phase: Phase
    done: int
    """Bytes, of all images together."""
    total: int


Watch: TypeAlias = Callable[[Progress], None]
"""Told often (not at every byte) and from the event loop; must not block."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a loader says of the board."""

    chip: str
    """As it names itself; empty where it doesn't."""
    running: bytes | None = None
    """As in ``Payload.running``; None: nothing runs, or it can't say."""
    version: str | None = None
    """Of what runs."""
    is_loader: bool = False
    """No application answers, only the loader."""
    bootloader: str | None = None
    """Version of the bootloader, where it tells it."""
    hardware: str = ""
    """A number the chip has (MAC, unique id), where the loader tells it: for logs, never for identity."""
    fuses: Mapping[str, str] = field(default_factory=dict)
    """State of irreversible bits as read, by their names at the vendor (eFuses, option bytes)."""


@dataclass(frozen=True, slots=True)
class FlashReport:
    """What was done to a board."""

    skipped: bool
    """It held the payload already; nothing was written."""
    before: Target
    after: Target
    written: int
    """Bytes."""
    verified: str
    """How it was checked after writing: ``hash of the board``, ``md5 of the loader``, ``read back``."""
    seconds: Mapping[Phase, float]


class Flasher(Protocol):
    """One board, through one loader."""

    async def look(self) -> Target:
        """Ask what is there, and change nothing.

        Raises:
            FlashError: nobody answers, or not as a loader of this kind does.
        """

    async def flash(self, payload: Payload, watch: Watch) -> FlashReport:
        """Bring the board to hold ``payload`` and to run it; a board that does already is not written.

        Raises:
            FlashError: ``flash.wrong_chip``, ``flash.too_large``, ``flash.refused``, ``flash.verify``,
                ``flash.no_answer``, ``flash.tool_missing``, ``flash.tool_failed``, ``flash.tool_hangs``,
                ``flash.reverted``, ``flash.downgrade``, ``flash.bootloader_too_old``.
            asyncio.CancelledError: stopped; the board can be flashed again.
        """
