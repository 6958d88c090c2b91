"""What an MCUboot image says of itself: header and trailer of TLVs (MCUboot, ``docs/design.md``, "Image format").

::

    header (32 bytes: magic, size of header, of protected TLVs and of the image, flags, version) · image ·
    [protected TLVs, part of what is hashed] · TLVs: the hash, and signatures over what was hashed

Knows nothing of: keys, boards. ``firmware_tools.signing`` makes such images, with imgtool.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from firmware_tools.version import Version

MAGIC: Final = 0x96F3B83D
_HEADER: Final = struct.Struct("<IIHHIIBBHII")
_INFO: Final = struct.Struct("<HH")
_PROTECTED_MAGIC: Final = 0x6908
_MAGIC: Final = 0x6907
_SHA256: Final = 0x10
_ENCRYPTED: Final = 0x04 | 0x08
"""Flags of an image whose hash is that of its plain text."""


class NotMcuboot(ValueError):
    """These bytes are no MCUboot image, or a damaged one."""


@dataclass(frozen=True, slots=True)
class McubootImage:
    """An image whose hash was checked."""

    version: Version
    sha256: bytes | None
    """Its hash, as a board that runs it reports it; None for an image that is hashed another way."""
    tlvs: tuple[tuple[int, bytes], ...]
    """Types and values of the TLVs that are not protected."""


def is_mcuboot(content: bytes) -> bool:
    """Whether it begins as an MCUboot image does."""
    return content[:4] == MAGIC.to_bytes(4, "little")


def read_mcuboot(content: bytes) -> McubootImage:
    """Read an image; padding behind it (a whole slot) is passed over.

    Raises:
        NotMcuboot: it is none, is cut off, or its hash is wrong.
    """
    if len(content) < _HEADER.size or not is_mcuboot(content):
        raise NotMcuboot("it does not begin with the header of an MCUboot image")
    _, _, header, protected, size, flags, major, minor, patch, build, _ = _HEADER.unpack_from(content)
    at = header + size
    hashed = at + protected
    if protected:
        _tlvs(content, at, _PROTECTED_MAGIC, protected)
    tlvs = _tlvs(content, hashed, _MAGIC, None)
    digest = next((value for kind, value in tlvs if kind == _SHA256), None)
    is_plain = digest is not None and not flags & _ENCRYPTED
    if is_plain and hashlib.sha256(memoryview(content)[:hashed]).digest() != digest:
        raise NotMcuboot("its hash is not that of its content: it is damaged")
    return McubootImage(Version(major, minor, patch, (), build), digest, tuple(tlvs))


def _tlvs(content: bytes, at: int, magic: int, length: int | None) -> list[tuple[int, bytes]]:
    if at + _INFO.size > len(content):
        raise NotMcuboot("it is cut off")
    found, total = _INFO.unpack_from(content, at)
    end = at + total
    if found != magic or end > len(content) or total < _INFO.size or length not in (None, total):
        raise NotMcuboot("it has no hash behind it: sign it with 'station firmware sign-image', or it is cut off")
    tlvs, at = [], at + _INFO.size
    while at < end:
        if at + _INFO.size > end:
            raise NotMcuboot("its trailer is damaged")
        kind, size = _INFO.unpack_from(content, at)
        at += _INFO.size
        if at + size > end:
            raise NotMcuboot("its trailer is damaged")
        tlvs.append((kind, content[at : at + size]))
        at += size
    return tlvs
