"""What differs between Espressif's chips, as far as their loader shows it.

Addresses are those of each chip's technical reference manual (chapters *SPI controller* and *eFuse controller*).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["CHIPS", "SECURE_DOWNLOAD", "XTS_AES_128_KEY", "EspChip", "Fuses", "Registers"]

SECURE_DOWNLOAD: Final = 1 << 2
"""In ``Fuses.flags``: only commands that write may be given (``GET_SECURITY_INFO`` in the esptool documentation)."""

XTS_AES_128_KEY: Final = 4
"""Purpose of a key block: it encrypts the flash."""

_MAGIC_REGISTER: Final = 0x40001000
_EXECUTE: Final = 1 << 18
"""``SPI_USR`` in ``SPI_CMD_REG``: do what the other registers say."""

_EFUSE_CONFIGURATION, _EFUSE_COMMAND = 0x1CC, 0x1D4
_MAY_PROGRAM: Final = 0x5A5A
_PROGRAM: Final = 0x2
_BLOCK_STARTS: Final = (0x2C, 0x44, 0x5C, *range(0x7C, 0x15D, 0x20))
_BLOCK_WORDS: Final = (6, 6, 8)
"""Of the eFuse controller since the ESP32-S2: offsets of its registers, and of the words of blocks 0 to 10."""

_READ_ID, _READ_PARAMETERS = 0x9F, 0x5A
_MAKER: Final = 0xC8
_KIND: Final = 0x40
"""JEDEC numbers of GigaDevice and its GD25Q."""


@dataclass(frozen=True, slots=True)
class EspChip:
    """One kind of chip."""

    name: str
    chip_id: int | None
    """That ``GET_SECURITY_INFO`` tells; None where the loader doesn't know that command."""
    magic: int
    """At 0x40001000 in ROM; how the older chips are told apart."""
    spi: int
    spi_user2: int
    spi_word0: int
    """Base of the flash's SPI controller, and offsets of two of its registers."""
    efuse: int
    """Base of the eFuse block."""
    efuse_words: int
    """Offset of the first word that can be read."""
    mac: int
    """Offset of the MAC."""
    fixed: tuple[tuple[int, int], ...] = ()
    """Other registers that a host asks for."""


CHIPS: Final = {
    chip.name: chip
    for chip in (
        EspChip("esp32", None, 0x00F01D83, 0x3FF42000, 0x24, 0x80, 0x3FF5A000, 0, 4, ((0x3FF40014, 347),)),
        EspChip("esp32s3", 9, 9, 0x60002000, 0x20, 0x58, 0x60007000, 0x30, 0x44),
        EspChip("esp32c3", 5, 0x1B31506F, 0x60002000, 0x20, 0x58, 0x60008800, 0x30, 0x44),
        EspChip("esp32c6", 13, 0x2CE0806F, 0x60003000, 0x20, 0x58, 0x600B0800, 0x30, 0x44),
    )
}


@dataclass(frozen=True, slots=True)
class Fuses:
    """Bits that can only be set."""

    mac: bytes = bytes.fromhex("7cdfa1000001")
    flags: int = 0
    crypt_count: int = 0
    """Of ``SPI_BOOT_CRYPT_CNT``: the flash is encrypted where the number of its ones is odd."""
    key_purposes: tuple[int, ...] = (0,) * 7
    encryption_key: bytes | None = None
    """32 bytes, where a block has the purpose ``XTS_AES_128_KEY``."""

    def security(self, chip: EspChip) -> bytes:
        """Return what ``GET_SECURITY_INFO`` answers: flags, count, purposes, chip, version of the interface."""
        return struct.pack("<IB7BII", self.flags, self.crypt_count, *self.key_purposes, chip.chip_id or 0, 0)


class Registers:
    """What can be read and written through ``READ_REG`` and ``WRITE_REG``."""

    def __init__(self, chip: EspChip, fuses: Fuses, flash_size: int) -> None:
        self._chip = chip
        self._flash_id = _MAKER | _KIND << 8 | (flash_size.bit_length() - 1) << 16
        self._values = {_MAGIC_REGISTER: chip.magic, **dict(chip.fixed)}
        low, high = int.from_bytes(fuses.mac[2:]), int.from_bytes(fuses.mac[:2])
        if chip.name == "esp32":  # its MAC has a checksum beside it
            high |= _crc8(fuses.mac) << 16
        self._values[chip.efuse + chip.mac] = low
        self._values[chip.efuse + chip.mac + 4] = high
        if chip.chip_id is not None:
            self._lay_out_block_0(fuses)
        self._actions: dict[int, Callable[[int], None]] = {chip.spi: self._ask_flash}
        if chip.chip_id is not None:
            self._actions[chip.efuse + _EFUSE_COMMAND] = self._burn

    def read(self, address: int) -> int:
        """Return a word; what nobody wrote is 0."""
        return self._values.get(address, 0)

    def write(self, address: int, value: int, mask: int = 0xFFFFFFFF) -> None:
        """Set the bits of ``mask`` in a word."""
        value = (self.read(address) & ~mask) | (value & mask)
        self._values[address] = value
        if address in self._actions:
            self._actions[address](value)

    def _lay_out_block_0(self, fuses: Fuses) -> None:
        """Words 1 and 2 of block 0: count of encryptions from bit 18, purposes of keys in four bits each from 24."""
        first = self._chip.efuse + self._chip.efuse_words
        purposes = sum(purpose << 4 * number for number, purpose in enumerate(fuses.key_purposes[:6]))
        self._values[first + 4] = (fuses.crypt_count & 7) << 18 | (purposes & 0xFF) << 24
        self._values[first + 8] = purposes >> 8 | (fuses.flags & 1) << 20

    def _burn(self, command: int) -> None:
        """Set the bits that stand in the programming registers, in the block that the command names; for good."""
        if command & _PROGRAM and self.read(self._chip.efuse + _EFUSE_CONFIGURATION) == _MAY_PROGRAM:
            block = command >> 2 & 0xF
            start = self._chip.efuse + (_BLOCK_STARTS[block] if block < len(_BLOCK_STARTS) else _BLOCK_STARTS[-1])
            for word in range(_BLOCK_WORDS[min(block, 2)]):
                address = start + 4 * word
                self._values[address] = self.read(address) | self.read(self._chip.efuse + 4 * word)
        self._values[self._chip.efuse + _EFUSE_COMMAND] = 0  # done

    def _ask_flash(self, command: int) -> None:
        if not command & _EXECUTE:
            return
        opcode = self.read(self._chip.spi + self._chip.spi_user2) & 0xFFFF
        answer = {_READ_ID: self._flash_id, _READ_PARAMETERS: int.from_bytes(b"SFDP", "little")}.get(opcode, 0)
        self._values[self._chip.spi + self._chip.spi_word0] = answer
        self._values[self._chip.spi] = 0  # done


def _crc8(data: bytes) -> int:
    """CRC-8 of a MAC in eFuses (polynomial 0x8C, reflected), by which espefuse finds a bad one."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8C if value & 1 else 0)
    return value
