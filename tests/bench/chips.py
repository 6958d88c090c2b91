"""Virtual chips with a loader in ROM, on a pseudo-terminal: what a flasher's tests put into a fixture and take out."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_tools.flashers import Placed
from firmware_tools.rom_loaders import Chip
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort


def placed(name: str, content: bytes, address: int, *, is_secret: bool = False) -> Placed:
    """Return an image with its digest."""
    return Placed(name, content, address, hashlib.sha256(content).digest(), is_secret=is_secret)


class Fixture:
    """A place for one chip, whose flash stays when it is plugged in again."""

    def __init__(self, folder: Path, *, start: int = 0) -> None:
        """Prepare; ``start`` is the address of the flash's first byte."""
        self.path = folder / "flash.bin"
        self.link = folder / "tty"
        self._start = start
        self._port: PtyPort | None = None

    def put_in(self, size: int, chip: Callable[[FlashFile], Chip], **port: Any) -> None:
        """Plug a chip in, with a flash of so many bytes, behind a port that may have options."""
        self.unplug()
        self.flash = FlashFile(self.path, size)
        self._port = PtyPort(chip(self.flash), self.link, **port)

    def unplug(self) -> None:
        """Take it out."""
        if self._port is not None:
            self._port.close()
            self._port = None
            self.flash.close()

    def holds(self, image: Placed) -> bool:
        """Tell whether the flash has an image where it belongs."""
        return self.path.read_bytes()[image.address - self._start :].startswith(image.content)
