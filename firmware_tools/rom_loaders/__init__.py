"""The loaders in the ROM of two families of chips, as virtual devices at the wire.

A chip here is what its vendor's protocol lets a host see: a loader that answers, a flash that is a file, fuses, a boot
pin and a reset pin. No instruction is executed; once a chip was told to run what it holds, it is silent.

- ``esp.py``: Espressif's serial protocol, of the loader in ROM and of the *stub* that esptool loads into RAM.
- ``stm32.py``: ST's USART bootloader (AN3155).
- ``flash_file.py``: a flash memory in a file. ``slip.py``: frames. ``esp_chips.py``: what differs between chips.
  ``esp_transfers.py``: a write, a read.
- ``ports.py``: puts a chip on a pseudo-terminal, or behind an RFC 2217 server that passes its reset lines on.
- ``__main__.py``: the same as a program: ``python -m firmware_tools.rom_loaders --help``.

Made from the vendors' documents and from what esptool and stm32loader send; it holds no code of theirs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

__all__ = ["Chip", "Faults", "Mode", "PowerCut"]


class Mode(Enum):
    """What a chip does."""

    OFF = "off"
    """It has no power, or is held in reset."""
    LOADER = "loader"
    """The loader in ROM waits for a host."""
    STUB = "stub"
    """A program that a host loaded into RAM answers (Espressif)."""
    RUNNING = "running"
    """It runs what is in its flash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong with one chip."""

    power_cut_after: int | None = None
    """Bytes that are written to the flash; with the next one the chip loses its power, once, until ``power_on``."""
    silent_from: int | None = None
    """Number of the command, counted from 1, from which on the chip takes bytes and answers nothing."""
    wrong_hash: bool = False
    """It says another hash than its flash has; a chip that has none to say reads one byte wrong."""


class PowerCut(Exception):
    """The chip has lost its power in the middle of a write."""


class Chip(Protocol):
    """A chip as a port sees it. Not safe for use by several threads."""

    faults: Faults

    @property
    def mode(self) -> Mode:
        """What it does at the moment."""

    @property
    def baud(self) -> int | None:
        """Bits a second that it speaks; None: it takes the host's (it measures it at the first byte)."""

    def power_on(self, *, boot: bool) -> None:
        """Give it power, or reset it.

        Args:
            boot: the pin for the loader is held.
        """

    def pins(self, *, dtr: bool, rts: bool) -> None:
        """Set the host's two modem lines, as the usual circuit of this family passes them on to reset and boot pin."""

    def receive(self, data: bytes, baud: int) -> Iterator[bytes]:
        """Take bytes that arrived at this baud, yield its answers.

        Raises:
            PowerCut: it lost its power.
        """
