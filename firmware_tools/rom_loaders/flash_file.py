"""A flash memory in a file: erased bytes are 0xFF, and a write only turns ones into zeros.

What was written stays when the process is killed; a power cut stops a write at an exact byte.
"""

import mmap
import os
from pathlib import Path
from typing import Final

from firmware_tools.rom_loaders import PowerCut

__all__ = ["ERASED", "FlashFile"]

ERASED: Final = b"\xff"


class FlashFile:
    """One flash memory; addresses start at 0."""

    def __init__(self, path: Path, size: int) -> None:
        """Open it; a file that is not there, or too short, is filled up with erased bytes.

        Raises:
            OSError: the file can't be used.
            ValueError: it is longer than ``size``: it belongs to another chip.
        """
        self.size: Final = size
        self.writes_left: int | None = None
        """Bytes that may be written before the power is cut; None: no cut."""
        self.written = 0
        """Bytes, since it was opened."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if (have := os.fstat(fd).st_size) > size:
                raise ValueError(f"{path} has {have} bytes, the chip's flash {size}: give another file or chip")
            os.pwrite(fd, ERASED * (size - have), have)
            self._memory: Final = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes; beyond the end they read as erased."""
        return self._memory[address : address + size].ljust(size, ERASED)

    def erase(self, address: int, size: int) -> None:
        """Set bytes to 0xFF; the caller keeps to its sectors."""
        end = min(address + size, self.size)
        self._memory[address:end] = ERASED * max(0, end - address)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes within the memory.

        Raises:
            PowerCut: it came before the last of them.
        """
        allowed = len(data) if self.writes_left is None else min(len(data), self.writes_left)
        if allowed:
            before = int.from_bytes(self._memory[address : address + allowed])
            after = before & int.from_bytes(data[:allowed])
            self._memory[address : address + allowed] = after.to_bytes(allowed)
        self.written += allowed
        if self.writes_left is not None:
            self.writes_left -= allowed
            if allowed < len(data):
                raise PowerCut

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()
