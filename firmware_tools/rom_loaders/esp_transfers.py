"""Transfers of Espressif's loaders that take several messages: a write, and a read by the stub.

An encrypted flash is AES-XTS with a unit of 128 bytes whose tweak is its address; the unit is turned end to end before
and after (ESP32-C3 Technical Reference Manual, *External Memory Encryption and Decryption*).
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from firmware_tools.rom_loaders.slip import frame

__all__ = ["Reading", "Writing"]

_UNIT: Final = 0x80


class Writing:
    """Where the next block of a write goes."""

    def __init__(self, address: int, write: Callable[[int, bytes], None], key: bytes | None) -> None:
        self.inflate = zlib.decompressobj()
        self._address = address
        self._write = write
        self._key = key
        self._waiting = b""

    def take(self, data: bytes) -> None:
        """Write what a block holds, or keep it until a whole unit is there."""
        if self._key is None:
            self._write(self._address, data)
            self._address += len(data)
            return
        self._waiting += data
        whole = len(self._waiting) - (self._address + len(self._waiting)) % _UNIT
        self._encrypt(max(0, whole))

    def end(self) -> None:
        """Write what waits for a whole unit."""
        if self._key is not None and self._waiting:
            self._encrypt(len(self._waiting))

    def _encrypt(self, size: int) -> None:
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        while data:
            before = self._address % _UNIT
            part, data = data[: _UNIT - before], data[_UNIT - before :]
            unit = (bytes(before) + part).ljust(_UNIT, b"\0")
            self._write(self._address, _encrypted(unit, self._address - before, self._key)[before : before + len(part)])
            self._address += len(part)


class Reading:
    """A read of the stub: frames that go out, and the host's counts that come back."""

    def __init__(self, data: bytes, block: int, ahead: int) -> None:
        self._data = data
        self._block = block
        self._ahead = ahead
        self._sent = 0
        self._acknowledged = 0
        self.done = False

    def more(self) -> Iterator[bytes]:
        """Yield as many blocks as may be on their way."""
        while self._sent < len(self._data) and self._sent - self._acknowledged < self._ahead * self._block:
            part = self._data[self._sent : self._sent + self._block]
            self._sent += len(part)
            yield frame(part)

    def acknowledge(self, message: bytes) -> Iterator[bytes]:
        """Take the host's count of bytes, yield what follows; the hash at the end."""
        self._acknowledged = int.from_bytes(message[:4], "little")
        yield from self.more()
        if self._acknowledged >= len(self._data):
            self.done = True
            yield frame(hashlib.md5(self._data, usedforsecurity=False).digest())


def _encrypted(unit: bytes, address: int, key: bytes | None) -> bytes:
    assert key is not None  # noqa: S101 - for the type checker: only called with one
    tweak = address.to_bytes(16, "little")
    return Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor().update(unit[::-1])[::-1]
