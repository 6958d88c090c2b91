"""What a reference device holds, read out of its flash by somebody who does not ask it.

The layout is that of ``reference_device/core/store.h``; the names of the records' types are there too. This is a second
reader of it, made for judges: nothing of the device's code runs here.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asn1crypto import parser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HALF: Final = 16384
_HEAD: Final = struct.Struct("<4sII4x")
_RECORD: Final = struct.Struct("<2sBBII4x")
_KEY, _CHAIN, _LOCKS = 1, 2, 3
_SCALAR: Final = 32
_CHECKED: Final = 8
"""Bytes of a head that its CRC covers."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one board holds."""

    spki: bytes | None
    """SubjectPublicKeyInfo of its key (DER); None: it has no key."""
    chain: tuple[bytes, ...]
    """Certificates in DER, its own first; empty if it has none."""
    locks: int

    @property
    def leaf(self) -> bytes | None:
        """Its own certificate."""
        return self.chain[0] if self.chain else None


def read_flash(path: Path) -> Held:
    """Read a board's flash; a board that never had power holds nothing.

    Args:
        path: ``flash.bin``.
    """
    content = path.read_bytes() if path.exists() else b""
    records = _records(content)
    key = records.get(_KEY)
    return Held(
        spki=None if key is None else _spki(key[_SCALAR:]),
        chain=tuple(_certificates(records.get(_CHAIN, b""))),
        locks=records.get(_LOCKS, b"\0")[0],
    )


def _records(content: bytes) -> dict[int, bytes]:
    """Return the last whole record of each type in the half that counts."""
    halves = []
    for start in (0, HALF):
        half = content[start : start + HALF].ljust(HALF, b"\xff")
        magic, generation, crc = _HEAD.unpack_from(half)
        if magic == b"PRV1" and zlib.crc32(half[:_CHECKED]) == crc:
            halves.append((generation, half))
    if not halves:
        return {}
    _, half = max(halves)
    found, at = {}, _HEAD.size
    while at + _RECORD.size <= HALF:
        magic, kind, _, size, crc = _RECORD.unpack_from(half, at)
        payload = half[at + _RECORD.size : at + _RECORD.size + size]
        if magic != b"PR" or len(payload) != size or zlib.crc32(half[at : at + _CHECKED] + payload) != crc:
            break
        found[kind] = payload
        at += _RECORD.size + -(-size // 8) * 8
    return found


def _spki(point: bytes) -> bytes:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificates(chain: bytes) -> Iterator[bytes]:
    while chain:
        size = parser.peek(chain)
        yield chain[:size]
        chain = chain[size:]
