"""Espressif's serial protocol, seen from the chip: loader in ROM and stub.

Source: esptool documentation, *Serial Protocol* (docs.espressif.com/projects/esptool, "Advanced topics"); the numbers
of commands and errors are its.

Every message is a frame (``slip.py``). Numbers are little-endian::

    request   00  command  size:u16  checksum:u32  body[size]
    answer    01  command  size:u16  value:u32     body[size - 2 or - 4]  status  error [00 00]

The status is 0 if all is well. The loader in ROM sends two more bytes after the error, the stub doesn't. The checksum
is the XOR of the payload's bytes and 0xEF, and only counts for the three commands that carry data.

How a host comes in: it holds the boot pin, resets the chip and sends ``SYNC``; the loader measures the baud at its
first bytes and answers eight times. The host asks which chip it is (``GET_SECURITY_INFO``, or a word in ROM), loads the
stub into RAM (``MEM_BEGIN``, ``MEM_DATA``, ``MEM_END`` with the address to jump to), and the stub says ``OHAI``, in a
frame that is no answer. From then on blocks are 16 kB instead of 1 kB. ``CHANGE_BAUDRATE`` is answered at the old baud.

Writing: ``FLASH_BEGIN`` tells how much is erased, how many blocks come, how large they are, and where; the body of
``FLASH_DATA`` is ``size, number, 0, 0`` (four words) and the block. ``FLASH_DEFL_*`` is the same for a zlib stream. A
fifth word of BEGIN tells that the chip has to encrypt. ``SPI_FLASH_MD5`` answers 32 hexadecimal digits (ROM) or 16
bytes (stub). Reading: the stub's ``READ_FLASH`` answers, then sends frames of a block each, and the host answers each
with the count of bytes that it has; the last frame is the MD5. The ROM's ``READ_FLASH_SLOW`` gives 64 bytes a command.
"""

import hashlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final

from firmware_tools.rom_loaders import Faults, Mode, PowerCut
from firmware_tools.rom_loaders.esp_chips import SECURE_DOWNLOAD, EspChip, Fuses, Registers
from firmware_tools.rom_loaders.esp_transfers import Reading, Writing
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.slip import Deframer, frame

__all__ = ["Command", "EspLoader"]

SECTOR: Final = 0x1000
_CHECKSUM_START: Final = 0xEF
_SYNC_ANSWERS: Final = 8
_SLOW_READ: Final = 64
_SETTLING: Final = 0.2
"""Seconds after a reset within which the boot pin still counts: a capacitor lets the reset pin rise slowly, because a
host that sets one line after the other releases the reset first."""


class Command(IntEnum):
    """What a host may ask."""

    FLASH_BEGIN = 0x02
    FLASH_DATA = 0x03
    FLASH_END = 0x04
    MEM_BEGIN = 0x05
    MEM_END = 0x06
    MEM_DATA = 0x07
    SYNC = 0x08
    WRITE_REG = 0x09
    READ_REG = 0x0A
    SPI_SET_PARAMS = 0x0B
    SPI_ATTACH = 0x0D
    READ_FLASH_SLOW = 0x0E
    CHANGE_BAUDRATE = 0x0F
    FLASH_DEFL_BEGIN = 0x10
    FLASH_DEFL_DATA = 0x11
    FLASH_DEFL_END = 0x12
    SPI_FLASH_MD5 = 0x13
    GET_SECURITY_INFO = 0x14
    ERASE_FLASH = 0xD0
    ERASE_REGION = 0xD1
    READ_FLASH = 0xD2


_CHECKED: Final = frozenset({Command.FLASH_DATA, Command.FLASH_DEFL_DATA, Command.MEM_DATA})
_STUB_ONLY: Final = frozenset({Command.ERASE_FLASH, Command.ERASE_REGION, Command.READ_FLASH})
_ROM_ONLY: Final = frozenset({Command.READ_FLASH_SLOW, Command.GET_SECURITY_INFO})
_SECURE: Final = frozenset(
    {
        Command.SYNC,
        Command.FLASH_BEGIN,
        Command.FLASH_DATA,
        Command.FLASH_END,
        Command.FLASH_DEFL_BEGIN,
        Command.FLASH_DEFL_DATA,
        Command.FLASH_DEFL_END,
        Command.SPI_ATTACH,
        Command.SPI_SET_PARAMS,
        Command.CHANGE_BAUDRATE,
        Command.GET_SECURITY_INFO,
    }
)
"""What a chip in secure download mode does."""


class _Error(Exception):
    """An answer that is an error; the number is the protocol's."""

    INVALID, FAILED, CHECKSUM, DEFLATE = 0x05, 0x06, 0x07, 0x0B

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code: Final = code


_Answer = tuple[int, bytes]
"""Value and body of an answer."""


class EspLoader:
    """One chip; see the module docstring and the protocol ``Chip``."""

    def __init__(
        self, chip: EspChip, flash: FlashFile, *, fuses: Fuses | None = None, faults: Faults | None = None
    ) -> None:
        self.chip: Final = chip
        self.flash: Final = flash
        self.fuses: Final = fuses or Fuses()
        self.faults = faults or Faults()
        self.mode = Mode.OFF
        self.baud: int | None = None
        self.commands = 0
        """That came since the chip was made."""
        self._registers = Registers(chip, self.fuses, flash.size)
        self._deframer = Deframer()
        self._writing: Writing | None = None
        self._reading: Reading | None = None
        self._released = -_SETTLING
        self._in_reset = False
        self._dead = False
        flash.writes_left = self.faults.power_cut_after
        self._answers: dict[Command, Callable[[bytes], _Answer]] = {
            Command.FLASH_BEGIN: self._begin,
            Command.FLASH_DATA: lambda body: self._data(body, inflate=False),
            Command.FLASH_END: self._end,
            Command.FLASH_DEFL_BEGIN: self._begin,
            Command.FLASH_DEFL_DATA: lambda body: self._data(body, inflate=True),
            Command.FLASH_DEFL_END: self._end,
            Command.MEM_BEGIN: _accept,
            Command.MEM_DATA: _accept,
            Command.MEM_END: _accept,
            Command.SPI_ATTACH: _accept,
            Command.SPI_SET_PARAMS: _accept,
            Command.CHANGE_BAUDRATE: _accept,
            Command.READ_REG: lambda body: (self._registers.read(*struct.unpack_from("<I", body)), b""),
            Command.WRITE_REG: self._write_registers,
            Command.SPI_FLASH_MD5: self._md5,
            Command.GET_SECURITY_INFO: self._security,
            Command.READ_FLASH_SLOW: self._read_slow,
            Command.ERASE_FLASH: lambda _: self._erase(0, flash.size),
            Command.ERASE_REGION: lambda body: self._erase(*struct.unpack_from("<II", body)),
            Command.READ_FLASH: self._read,
        }

    def power_on(self, *, boot: bool) -> None:
        """See ``Chip``."""
        if self._dead:  # the cut has come, and does not come again
            self.flash.writes_left = None
        self._dead = False
        self._restart(Mode.LOADER if boot else Mode.RUNNING)

    def pins(self, *, dtr: bool, rts: bool) -> None:
        """See ``Chip``: RTS alone resets, DTR alone holds the boot pin; both together do nothing."""
        reset, boot = rts and not dtr, dtr and not rts
        if self._dead:
            return
        if reset:
            self.mode = Mode.OFF
        elif self._in_reset:
            self._restart(Mode.RUNNING)
            self._released = time.monotonic()
        if boot and self.mode is Mode.RUNNING and time.monotonic() - self._released < _SETTLING:
            self._restart(Mode.LOADER)
        self._in_reset = reset

    def receive(self, data: bytes, baud: int) -> Iterator[bytes]:
        """See ``Chip``."""
        if self.mode not in (Mode.LOADER, Mode.STUB) or self.baud not in (None, baud):
            return
        for message in self._deframer.feed(data):
            if self._reading is not None:
                yield from self._reading.acknowledge(message)
                if self._reading.done:
                    self._reading = None
            elif len(message) >= 8 and message[0] == 0:  # noqa: PLR2004 - the head of a request
                self.commands += 1
                if self.faults.silent_from is None or self.commands < self.faults.silent_from:
                    try:
                        yield from self._answer(message, baud)
                    except PowerCut:
                        self.mode, self._dead = Mode.OFF, True
                        raise

    def _answer(self, message: bytes, baud: int) -> Iterator[bytes]:
        _, command, size, checksum = struct.unpack_from("<BBHI", message)
        body = message[8 : 8 + size]
        try:
            value, answer = self._do(command, body, checksum)
            status = b"\0\0"
        except _Error as error:
            value, answer, status = 0, b"", bytes([1, error.code])
        if self.mode is not Mode.STUB:
            status += b"\0\0"
        message = frame(struct.pack("<BBHI", 1, command, len(answer + status), value) + answer + status)
        yield message
        if status[0]:
            return
        match command:
            case Command.SYNC:
                self.baud = baud
                for _ in range(_SYNC_ANSWERS - 1):
                    yield message
            case Command.CHANGE_BAUDRATE:
                (self.baud,) = struct.unpack_from("<I", body)
            case Command.MEM_END if not struct.unpack_from("<I", body)[0]:
                self.mode = Mode.STUB
                yield frame(b"OHAI")
            case Command.FLASH_END | Command.FLASH_DEFL_END if not struct.unpack_from("<I", body)[0]:
                self._restart(Mode.LOADER if self.mode is Mode.STUB else Mode.RUNNING)
            case Command.READ_FLASH if self._reading is not None:
                yield from self._reading.more()

    def _do(self, number: int, body: bytes, checksum: int) -> _Answer:
        try:
            command = Command(number)
        except ValueError:
            raise _Error(_Error.INVALID) from None
        is_stub = self.mode is Mode.STUB
        if (command in _STUB_ONLY and not is_stub) or (command in _ROM_ONLY and is_stub and not self._knows_security):
            raise _Error(_Error.INVALID)
        if self.fuses.flags & SECURE_DOWNLOAD and command not in _SECURE:
            raise _Error(_Error.INVALID)
        if command is Command.SYNC:
            return (0 if is_stub else 0x20120707), b""
        if command in _CHECKED and _checksum(body[16:]) != checksum:
            raise _Error(_Error.CHECKSUM)
        try:
            return self._answers[command](body)
        except (struct.error, ValueError):  # shorter than the command says, or beyond the flash
            raise _Error(_Error.INVALID) from None

    @property
    def _knows_security(self) -> bool:
        return self.chip.chip_id is not None

    def _restart(self, mode: Mode) -> None:
        self.mode = mode
        self.baud = None
        self._deframer.reset()
        self._writing = self._reading = None

    def _begin(self, body: bytes) -> _Answer:
        size, blocks, block, address = struct.unpack_from("<4I", body)
        encrypt = len(body) >= 20 and struct.unpack_from("<I", body, 16)[0]  # noqa: PLR2004 - a fifth word
        if address + size > self.flash.size:
            raise _Error(_Error.FAILED)
        key = self.fuses.encryption_key if encrypt else None
        if encrypt and key is None:
            raise _Error(_Error.FAILED)
        del blocks, block
        first = address // SECTOR * SECTOR
        self.flash.erase(first, -(-(address + size - first) // SECTOR) * SECTOR)
        self._writing = Writing(address, self.flash.write, key)
        return 0, b""

    def _data(self, body: bytes, *, inflate: bool) -> _Answer:
        size, _number = struct.unpack_from("<II", body)
        if self._writing is None or len(body) < 16 + size:
            raise _Error(_Error.FAILED)
        data = body[16 : 16 + size]
        if inflate:
            try:
                data = self._writing.inflate.decompress(data)
            except zlib.error:
                raise _Error(_Error.DEFLATE) from None
        self._writing.take(data)
        if inflate and self._writing.inflate.eof:
            self._writing.end()
        return 0, b""

    def _end(self, _body: bytes) -> _Answer:
        if self._writing is not None:
            self._writing.end()
            self._writing = None
        return 0, b""

    def _erase(self, address: int, size: int) -> _Answer:
        if address % SECTOR or size % SECTOR:
            raise _Error(_Error.FAILED)
        self.flash.erase(address, size)
        return 0, b""

    def _write_registers(self, body: bytes) -> _Answer:
        for address, value, mask, _delay in struct.iter_unpack("<4I", body):
            self._registers.write(address, value, mask)
        return 0, b""

    def _security(self, _body: bytes) -> _Answer:
        if not self._knows_security:
            raise _Error(_Error.INVALID)
        return 0, self.fuses.security(self.chip)

    def _md5(self, body: bytes) -> _Answer:
        address, size = struct.unpack_from("<II", body)
        digest = hashlib.md5(self.flash.read(address, size), usedforsecurity=False).digest()
        if self.faults.wrong_hash:
            digest = digest[::-1]
        return 0, digest if self.mode is Mode.STUB else digest.hex().encode()

    def _read_slow(self, body: bytes) -> _Answer:
        address, _size = struct.unpack_from("<II", body)
        return 0, self.flash.read(address, _SLOW_READ)

    def _read(self, body: bytes) -> _Answer:
        address, size, block, ahead = struct.unpack_from("<4I", body)
        if not block or not ahead or address + size > self.flash.size:
            raise _Error(_Error.FAILED)
        self._reading = Reading(self.flash.read(address, size), block, ahead)
        return 0, b""


def _accept(_body: bytes) -> _Answer:
    """Do nothing: what is loaded into RAM is not executed, pins and sizes of the flash are as they are."""
    return 0, b""


def _checksum(data: bytes) -> int:
    """XOR of all bytes; folded in halves, because a block has 16 thousand."""
    size = 1 << max(0, len(data) - 1).bit_length()
    value = int.from_bytes(data)
    while size > 1:
        size //= 2
        value = value >> size * 8 ^ value & (1 << size * 8) - 1
    return value ^ _CHECKSUM_START
