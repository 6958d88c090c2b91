"""The zip that a firmware bundle is: read in memory, bounded before memory is taken; no name from it touches a disk.

Taken are members that are stored or deflated, each name once. Refused are encrypted members, links, names that lead
elsewhere, ZIP64, comments, and anything that claims to be larger than a bundle may be.
"""

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from firmware_tools.errors import BundleError

MAX_MEMBERS: Final = 64
MAX_TOTAL: Final = 64 * 1024 * 1024
"""Bytes of all members together, unpacked; a bundle takes about as much memory while it is read."""

MAX_FILE: Final = MAX_TOTAL + 1024 * 1024

_MEMBER: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*(?:/[0-9A-Za-z_][0-9A-Za-z_.-]*){0,3}/?")
_MAX_NAME: Final = 128
_END: Final = struct.Struct("<4s4H2LH")
"""End of central directory (APPNOTE 4.3.16): it is the last thing in the file, since comments are refused."""
_END_64_LOCATOR: Final = struct.Struct("<4sLQL")
_MAX_DIRECTORY: Final = 64 * 1024
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_IS_ENCRYPTED: Final = 0x1
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SHOWN: Final = 60
_CHUNK: Final = 1024 * 1024


def read_members(path: Path) -> dict[str, bytes]:
    """Read all members of a bundle, folders aside.

    Raises:
        BundleError: ``bundle.unreadable``, ``bundle.not_zip``, ``bundle.member``, ``bundle.too_large``.
    """
    try:
        with path.open("rb") as file:
            is_file, size = stat.S_ISREG(os.fstat(file.fileno()).st_mode), os.fstat(file.fileno()).st_size
            content = file.read(min(size, MAX_FILE) + 1) if is_file else b""
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; name the bundle's file", code="bundle.unreadable") from None
    return unzipped(content, str(path))


def unzipped(content: bytes, name: str) -> dict[str, bytes]:
    """Do as ``read_members`` with the bytes of a bundle.

    Args:
        content: the file.
        name: how it is named in complaints.
    """
    if len(content) > MAX_FILE:
        raise BundleError(f"{name}: it is larger than {MAX_FILE} bytes, and no bundle is", code="bundle.too_large")
    _check_end(content, name)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check_infos(infos, name)
            return {info.filename: _read(archive, info, name) for info in infos if not info.is_dir()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError) as error:
        raise BundleError(
            f"{name}: the zip is damaged ({str(error)[:80] or type(error).__name__}); copy it again",
            code="bundle.not_zip",
        ) from None


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Write a zip; the same members give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return out.getvalue()


def _check_end(content: bytes, name: str) -> None:
    """Bound the directory before ``zipfile`` makes an object of each of its entries."""
    if len(content) < _END.size or not content.startswith(b"PK"):
        raise BundleError(f"{name}: this is no firmware bundle (no zip, or cut off)", code="bundle.not_zip")
    end = len(content) - _END.size
    mark, _, _, _, count, size, _, comment = _END.unpack_from(content, end)
    locator = content[max(0, end - _END_64_LOCATOR.size) : end]
    if mark != b"PK\5\6" or comment:
        raise BundleError(f"{name}: the zip is cut off, or has a comment; copy it again", code="bundle.not_zip")
    if locator.startswith(b"PK\6\7") or count > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise BundleError(
            f"{name}: the zip has more than {MAX_MEMBERS} members, or is a ZIP64; no bundle is", code="bundle.too_large"
        )


def _check_infos(infos: list[zipfile.ZipInfo], name: str) -> None:
    seen: set[str] = set()
    for info in infos:
        shown = ascii(info.orig_filename[:_SHOWN])
        if len(info.filename) > _MAX_NAME or not _MEMBER.fullmatch(info.orig_filename):
            raise _member(name, f"has a member with the name {shown}, which may lead out of a folder")
        if info.filename.lower() in seen:  # A.bin and a.bin: one file to some zip tools
            raise _member(name, f"has {shown} twice")
        seen.add(info.filename.lower())
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _member(name, f"has {shown}, which is a link or a device and no file")
        if info.flag_bits & _IS_ENCRYPTED:
            raise _member(name, f"has {shown}, which is encrypted")
        if info.compress_type not in _METHODS:
            raise _member(name, f"has {shown}, which is packed in a way that is not taken; pack it with deflate")
    if (total := sum(info.file_size for info in infos)) > MAX_TOTAL:
        raise BundleError(
            f"{name}: unpacked it would be {total} bytes, and a bundle is at most {MAX_TOTAL}", code="bundle.too_large"
        )


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bytes:
    """Read a member; more than it claims is never taken."""
    with archive.open(info) as member:
        content = bytearray()
        while chunk := member.read(min(_CHUNK, info.file_size + 1 - len(content))):
            content += chunk
            if len(content) > info.file_size:
                break
    if len(content) != info.file_size:
        raise _member(name, f"has {info.filename!a}, which is not as long as it says")
    return bytes(content)


def _member(name: str, what: str) -> BundleError:
    return BundleError(f"{name}: it {what}; this is no bundle to trust, ask for it again", code="bundle.member")
