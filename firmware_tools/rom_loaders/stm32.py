"""ST's USART bootloader, seen from the chip.

Source: ST application note AN3155, *USART protocol used in the STM32 bootloader*; addresses by AN2606 and the reference
manuals of the families.

The line is 8E1. After a reset with BOOT0 high the host sends ``7F``; the loader measures the baud by it and answers
``79`` (ACK). ``1F`` is NACK. Each command is a byte and its complement, answered by ACK or NACK; then come its parts,
each with a checksum (the XOR of its bytes; for a single byte its complement) and an ACK of its own::

    00 GET            -> ACK  count - 1  version  commands...  ACK
    01 GET VERSION    -> ACK  version  00  00  ACK
    02 GET ID         -> ACK  count - 1  id (big-endian)  ACK
    11 READ MEMORY    -> ACK   address:4 checksum -> ACK   count - 1, complement -> ACK  bytes
    21 GO             -> ACK   address:4 checksum -> ACK, and jumps
    31 WRITE MEMORY   -> ACK   address:4 checksum -> ACK   count - 1  bytes  checksum -> ACK
    43 ERASE          -> ACK   count - 1  pages  checksum -> ACK      (FF 00: all)
    44 EXTENDED ERASE -> ACK   count - 1:2  pages:2 each  checksum -> ACK   (FFFF 00: all)
    82 READOUT PROTECT   -> ACK  ACK, and resets
    92 READOUT UNPROTECT -> ACK  ACK, erases everything and resets

A chip knows one of the two commands that erase. With read-out protection it answers NACK to READ, GO, WRITE and both
erases. A ``7F`` after the first is no command: the loader waits for its complement, which never comes.
"""

import operator
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Final

from firmware_tools.rom_loaders import Faults, Mode, PowerCut
from firmware_tools.rom_loaders.flash_file import ERASED, FlashFile

__all__ = ["CHIPS", "FLASH_START", "Stm32Chip", "Stm32Loader"]

FLASH_START: Final = 0x0800_0000
_ACK, _NACK = b"\x79", b"\x1f"
_SYNC: Final = 0x7F
_VERSION: Final = 0x31
_ALL, _ALL_EXTENDED = 0xFF, 0xFFFF
_SPECIAL: Final = 0xFFF0
"""From here on the count of an extended erase names a kind of mass erase."""


@dataclass(frozen=True, slots=True)
class Stm32Chip:
    """One kind of chip."""

    name: str
    device_id: int
    size: int
    """Of its flash, in bytes."""
    page: int
    """Bytes that are erased together; where sectors differ, the smallest."""
    extended: bool
    """It knows EXTENDED ERASE instead of ERASE."""
    uid: int
    flash_size: int
    """Addresses of its unique id (12 bytes) and of the size of its flash in KiB (2 bytes)."""


CHIPS: Final = {
    chip.name: chip
    for chip in (
        Stm32Chip("F1", 0x410, 128 << 10, 1024, False, 0x1FFFF7E8, 0x1FFFF7E0),
        Stm32Chip("F4", 0x413, 1 << 20, 16 << 10, True, 0x1FFF7A10, 0x1FFF7A22),
        Stm32Chip("L4", 0x435, 256 << 10, 2048, True, 0x1FFF7590, 0x1FFF75E0),
    )
}
"""By the names that stm32loader has for families."""

_Talk = Generator[bytes, bytes, None]
"""Yields what it has to say, then ``b""`` until it was sent enough; is sent a byte at a time."""


class Stm32Loader:
    """One chip; see the module docstring and the protocol ``Chip``."""

    def __init__(
        self,
        chip: Stm32Chip,
        flash: FlashFile,
        *,
        uid: bytes = bytes(range(1, 13)),
        protected: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self.chip: Final = chip
        self.flash: Final = flash
        self.protected = protected
        """Against reading out (level 1)."""
        self.faults = faults or Faults()
        self.mode = Mode.OFF
        self.baud: int | None = None
        self.commands = 0
        self._uid = uid
        self._in_reset = False
        self._dead = False
        self._talk: _Talk | None = None
        flash.writes_left = self.faults.power_cut_after

    def power_on(self, *, boot: bool) -> None:
        """See ``Chip``."""
        if self._dead:  # the cut has come, and does not come again
            self.flash.writes_left = None
        self._dead = False
        self._restart(boot=boot)

    def pins(self, *, dtr: bool, rts: bool) -> None:
        """See ``Chip``: DTR is reset, RTS low is BOOT0 high, as stm32loader has them."""
        if self._dead:
            return
        if dtr:
            self.mode = Mode.OFF
        elif self._in_reset:
            self._restart(boot=not rts)
        self._in_reset = dtr

    def receive(self, data: bytes, baud: int) -> Iterator[bytes]:
        """See ``Chip``."""
        for byte in data:
            if self.mode is not Mode.LOADER or self.baud not in (None, baud):
                return
            if self.baud is None:
                if byte != _SYNC:
                    continue
                self.baud = baud
            answer = self._feed(byte)
            if answer:
                yield answer

    def _restart(self, *, boot: bool) -> None:
        self.mode = Mode.LOADER if boot else Mode.RUNNING
        self.baud = None
        self._talk = self._serve()
        next(self._talk)

    def _feed(self, byte: int) -> bytes:
        assert self._talk is not None  # noqa: S101 - for the type checker: there is power
        answer = b""
        try:
            part = self._talk.send(bytes([byte]))
            while part:
                answer += part
                part = next(self._talk)
        except PowerCut:
            self.mode, self._dead = Mode.OFF, True
            raise
        except StopIteration:  # it jumped, or reset itself
            pass
        return answer

    def _serve(self) -> _Talk:
        yield from _take(1)
        yield _ACK
        while True:
            command, complement = yield from _take(2)
            self.commands += 1
            if self.faults.silent_from is not None and self.commands >= self.faults.silent_from:
                while True:
                    yield b""
            if command ^ complement != 0xFF:  # noqa: PLR2004 - all ones
                yield _NACK
                continue
            if (yield from self._command(command)):
                return

    def _command(self, command: int) -> Generator[bytes, bytes, bool]:
        """Carry one out; return whether the loader is left."""
        erase = 0x44 if self.chip.extended else 0x43
        match command:
            case 0x00:
                known = bytes([0x00, 0x01, 0x02, 0x11, 0x21, 0x31, erase, 0x82, 0x92])
                yield _ACK + bytes([len(known), _VERSION]) + known + _ACK
            case 0x01:
                yield _ACK + bytes([_VERSION, 0, 0]) + _ACK
            case 0x02:
                yield _ACK + b"\x01" + struct.pack(">H", self.chip.device_id) + _ACK
            case 0x11 | 0x21 | 0x31 | 0x43 | 0x44 if self.protected:
                yield _NACK
            case 0x11:
                yield from self._read()
            case 0x21:
                return (yield from self._go())
            case 0x31:
                yield from self._write()
            case 0x43 | 0x44 if command == erase:
                yield from self._erase(2 if self.chip.extended else 1)
            case 0x82:
                self.protected = True
                yield _ACK + _ACK
                self._restart(boot=True)
                return True
            case 0x92:
                self.flash.erase(0, self.flash.size)
                self.protected = False
                yield _ACK + _ACK
                self._restart(boot=True)
                return True
            case _:
                yield _NACK
        return False

    def _address(self) -> Generator[bytes, bytes, int | None]:
        yield _ACK
        part = yield from _take(5)
        if reduce(operator.xor, part):
            yield _NACK
            return None
        return int.from_bytes(part[:4])

    def _read(self) -> _Talk:
        address = yield from self._address()
        if address is None:
            return
        yield _ACK
        count, complement = yield from _take(2)
        if count ^ complement != 0xFF:  # noqa: PLR2004 - all ones
            yield _NACK
            return
        data = self._memory(address, count + 1)
        if self.faults.wrong_hash:
            data = bytes([data[0] ^ 1]) + data[1:]
        yield _ACK + data

    def _memory(self, address: int, size: int) -> bytes:
        """Read the flash, or the system memory with the chip's numbers in it."""
        if FLASH_START <= address < FLASH_START + self.flash.size:
            return self.flash.read(address - FLASH_START, size)
        numbers = {self.chip.uid: self._uid, self.chip.flash_size: struct.pack("<H", self.flash.size >> 10)}
        memory = bytearray(ERASED * size)
        for start, value in numbers.items():
            for offset, byte in enumerate(value, start - address):
                if 0 <= offset < size:
                    memory[offset] = byte
        return bytes(memory)

    def _write(self) -> _Talk:
        address = yield from self._address()
        if address is None:
            return
        if not FLASH_START <= address < FLASH_START + self.flash.size:
            yield _NACK
            return
        yield _ACK
        (count,) = yield from _take(1)
        rest = yield from _take(count + 2)
        if reduce(operator.xor, rest, count) or address + count + 1 > FLASH_START + self.flash.size:
            yield _NACK
            return
        self.flash.write(address - FLASH_START, rest[:-1])
        yield _ACK

    def _erase(self, width: int) -> _Talk:
        yield _ACK
        head = yield from _take(width)
        count = int.from_bytes(head)
        if count == (_ALL if width == 1 else _ALL_EXTENDED):
            (checksum,) = yield from _take(1)
            if width == 1 or checksum == 0:
                self.flash.erase(0, self.flash.size)
                yield _ACK
            else:
                yield _NACK
            return
        if count >= _SPECIAL:
            yield _NACK
            return
        rest = yield from _take((count + 1) * width + 1)
        if reduce(operator.xor, head + rest):
            yield _NACK
            return
        for at in range(0, len(rest) - 1, width):
            self.flash.erase(int.from_bytes(rest[at : at + width]) * self.chip.page, self.chip.page)
        yield _ACK

    def _go(self) -> Generator[bytes, bytes, bool]:
        address = yield from self._address()
        if address is None:
            return False
        if not FLASH_START <= address < FLASH_START + self.flash.size:
            yield _NACK
            return False
        yield _ACK
        self.mode = Mode.RUNNING
        return True


def _take(count: int) -> Generator[bytes, bytes, bytes]:
    """Wait for so many bytes."""
    taken = b""
    while len(taken) < count:
        taken += yield b""
    return taken
