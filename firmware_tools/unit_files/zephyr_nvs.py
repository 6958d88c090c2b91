"""Settings of Zephyr in its NVS: what ``settings_load()`` finds on the first start, with the backend ``settings_nvs``.

The layout (Zephyr 4, ``subsys/fs/nvs``): sectors, of which the last is always free. In a sector data grow from below
and allocation table entries (ATE) from above; the topmost place is for the ATE that closes the sector, the next one for
the mark that garbage collection is done::

    ATE: id u16 · offset u16 · length u16 · part u8 (0xff) · CRC-8 (polynomial 0x07, from 0xff) of the seven before

Settings: id 0x8000 holds the highest id of a name; names have ids from 0x8001 on, the value of a name 0x4000 more.

Options, all as the board was built: ``sector_size`` (bytes; 4096 if left out), ``write_block`` (bytes; 4), ``data_crc``
(``CONFIG_NVS_DATA_CRC``; false).
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from firmware_tools.bundles.manifest import UnitFile
from firmware_tools.errors import UnitFileError
from firmware_tools.unit_files.values import Format, Value, invalid

_NAMES: Final = 0x8000
_VALUE: Final = 0x4000
_MARK: Final = 0xFFFF
"""Id of the ATEs that close a sector, or say that garbage collection is done."""

_ATE: Final = struct.Struct("<HHHB")
_ATE_SIZE: Final = 8
_CRC_SIZE: Final = 4
_MAX_NAME: Final = 64 + 16
"""SETTINGS_MAX_NAME_LEN and SETTINGS_EXTRA_LEN."""

_DEFAULTS: Final = {"sector_size": 4096, "write_block": 4, "data_crc": False}
_BLOCKS: Final = (1, 2, 4, 8, 16, 32)
_LARGEST_SECTOR: Final = 0x10000
_SMALLEST_SECTOR: Final = 512


def check(unit_file: UnitFile) -> None:
    """Refuse a plan that makes no settings."""
    for name in unit_file.options.keys() - _DEFAULTS.keys():
        raise invalid(unit_file, f"option {name!r} is unknown; known: {', '.join(_DEFAULTS)}")
    sector, block = _number(unit_file, "sector_size"), _number(unit_file, "write_block")
    if not _SMALLEST_SECTOR <= sector < _LARGEST_SECTOR or unit_file.size % sector or unit_file.size < 2 * sector:
        raise invalid(unit_file, f"its size is {unit_file.size:#x}; it takes two or more sectors of {sector:#x} bytes")
    if block not in _BLOCKS:
        raise invalid(unit_file, f"write_block is {block}; write one of {', '.join(map(str, _BLOCKS))}")
    if type(unit_file.options.get("data_crc", False)) is not bool:
        raise invalid(unit_file, "data_crc is true or false")
    for entry in unit_file.entries:
        if len(entry.key) > _MAX_NAME or "=" in entry.key:
            raise invalid(unit_file, f"{entry.key!r} is no name of a setting: at most {_MAX_NAME} characters, no '='")


def make(unit_file: UnitFile, values: Sequence[Value]) -> bytes:
    """Make the sectors that hold something; those behind are erased flash.

    Raises:
        UnitFileError: they don't fit; one sector has to stay free.
    """
    sector, block = _number(unit_file, "sector_size"), _number(unit_file, "write_block")
    store = _Store(unit_file, sector, block, has_crc=unit_file.options.get("data_crc") is True)
    for number, content in _records(values):
        if not content:
            raise UnitFileError(f"{unit_file.name}: Zephyr keeps no empty settings", code="unit_file.value")
        store.write(number, content)
    return store.content()


FORMAT: Final = Format(check, make)


def _records(values: Sequence[Value]) -> Iterator[tuple[int, bytes]]:
    for number, value in enumerate(values, start=_NAMES + 1):
        yield number + _VALUE, value.packed
        yield number, value.key.encode()
        yield _NAMES, number.to_bytes(2, "little")


def _number(unit_file: UnitFile, name: str) -> int:
    value = unit_file.options.get(name, _DEFAULTS[name])
    if type(value) is not int:
        raise invalid(unit_file, f"{name} is a number of bytes")
    return value


def crc8(data: bytes) -> int:
    """Return the CRC-8 of an ATE (CCITT: polynomial 0x07, from 0xff)."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


class _Store:
    """An NVS that is written once, from its first sector on."""

    def __init__(self, unit_file: UnitFile, sector: int, block: int, *, has_crc: bool) -> None:
        self._unit_file = unit_file
        self._size = sector
        self._block = block
        self._has_crc = has_crc
        self._ate_size = self._aligned(_ATE_SIZE)
        self._sectors: list[bytearray] = []
        self._data = self._ate = 0
        self._open()

    def write(self, number: int, content: bytes) -> None:
        """Write an entry, in the next sector if it does not fit into this one."""
        stored = content + zlib.crc32(content).to_bytes(_CRC_SIZE, "little") if self._has_crc else content
        needed = self._aligned(len(stored)) + self._ate_size  # room for one ATE that deletes stays
        if len(stored) > self._size - 4 * self._ate_size:
            raise self._too_large()
        if self._ate < self._data + needed:
            self._close()
            self._open()
        sector = self._sectors[-1]
        sector[self._data : self._data + len(stored)] = stored
        self._put(number, self._data, len(stored))
        self._data += self._aligned(len(stored))

    def content(self) -> bytes:
        """Return the sectors that were begun."""
        return b"".join(self._sectors)

    def _open(self) -> None:
        if len(self._sectors) + 1 >= self._unit_file.size // self._size:
            raise self._too_large()
        self._sectors.append(bytearray(b"\xff" * self._size))
        self._data = 0
        self._ate = self._size - 2 * self._ate_size
        self._put(_MARK, 0, 0)

    def _close(self) -> None:
        last = self._ate + self._ate_size
        self._ate = self._size - self._ate_size
        self._put(_MARK, last, 0)

    def _put(self, number: int, offset: int, length: int) -> None:
        said = _ATE.pack(number, offset, length, 0xFF)
        self._sectors[-1][self._ate : self._ate + _ATE_SIZE] = said + bytes((crc8(said),))
        self._ate -= self._ate_size

    def _aligned(self, length: int) -> int:
        return -(-length // self._block) * self._block

    def _too_large(self) -> UnitFileError:
        return UnitFileError(
            f"{self._unit_file.name}: the data do not fit into {self._unit_file.size} bytes in sectors of {self._size}"
            ", of which one stays free; make the partition larger, or leave something out",
            code="unit_file.too_large",
        )
