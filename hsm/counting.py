"""How often a token was asked for a signature: one small file a key, counted before the token is asked.

The count is the signer's own and knows nothing of journals; ``hsm.audit`` compares the two. It must never be too low:

- *The program is killed.* The file is mapped into memory, so the kernel holds the count. A program that is killed
  between counting and asking leaves it one too high. What is asked for in one go is counted in one go, and what of it
  the token was not asked for after all is taken back: so a kill leaves the rest of it too high. The tries in the
  journal are so too then, since they are written before: the audit sees no difference.
- *The power fails.* Writing each count to disk would cost more than the signature. So the disk holds a ceiling,
  ``BLOCK`` ahead of the count and synced before the count gets there. When the file is opened after a start of the
  machine that the last program did not live to see, up to ``BLOCK`` signatures, or those that were counted in one go,
  may not have been counted; they are kept apart as ``lost_at_most``.

Two programs may count in one file: each count is taken under a lock.

File: ``<SHA-256 of SubjectPublicKeyInfo, hex>.count``, 128 bytes, numbers of 8 bytes in the machine's order::

    0 magic   8 SPKI SHA-256   40 signatures   48 probes   56 ceiling   64 lost at most   72 programs   80 boot id (36)
"""

import fcntl
import mmap
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hsm.errors import AuditError
from hsm.files import sync
from hsm.request import Purpose

BLOCK: Final = 64
"""Counts between two syncs: what a power cut can hide at most, where signatures are counted one by one."""

_SIZE: Final = 128
_MAGIC: Final = b"HSMCNT1\n"
_FIELDS: Final = struct.Struct("=5Q")
_FIELDS_AT: Final = 40
_BOOT_AT: Final = 80
_BOOT_SIZE: Final = 36
_NUMBER: Final = struct.Struct("=Q")
_AT: Final = {Purpose.SIGNATURE: 40, Purpose.PROBE: 48}
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAME: Final = re.compile(r"[0-9a-f]{64}\.count")


@dataclass(frozen=True, slots=True)
class SignatureCount:
    """How often a key was asked for."""

    spki_sha256: bytes
    signatures: int
    """What may have left: certificates, CRLs, answers. Each was counted before the token was asked."""
    probes: int
    """Signatures that only show that the key works."""
    lost_at_most: int
    """Signatures and probes that power cuts may have hidden."""


class SignatureCounts:
    """The counts in one folder, to be added to; safe from any thread and process."""

    def __init__(self, folder: Path, *, boot_id: str | None = None) -> None:
        """Open the folder; it is made if it is missing.

        Args:
            folder: beside the CA's journal.
            boot_id: which start of the machine this is; the kernel's own when left out.

        Raises:
            AuditError: it can't be made.
        """
        self.folder = folder
        self._boot_id = _boot_bytes(boot_id)
        self._files: dict[bytes, _CountFile] = {}
        self._lock = threading.Lock()
        with _translated(folder):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)

    def count(self, spki_sha256: bytes, purpose: Purpose, number: int = 1) -> None:
        """Count one or some, before the token is asked; a negative number takes back what it was not asked for.

        Raises:
            AuditError: it can't be counted, so it must not be signed.
        """
        file = self._files.get(spki_sha256) or self._open(spki_sha256)
        try:  # no ``with`` on the way of each signature: it would cost as much as counting
            file.add(_AT[purpose], number)
        except OSError as error:
            raise _refused(self.folder, error) from error

    def _open(self, spki_sha256: bytes) -> "_CountFile":
        with self._lock, _translated(self.folder):
            file = self._files.get(spki_sha256)
            if file is None:
                path = self.folder / f"{spki_sha256.hex()}.count"
                file = self._files[spki_sha256] = _CountFile(path, spki_sha256, self._boot_id)
            return file

    def close(self) -> None:
        """Write everything to disk; idempotent."""
        with self._lock:
            files, self._files = self._files, {}
            for file in files.values():
                file.close()

    def __enter__(self) -> Self:
        """Return the counts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()


class _CountFile:
    """The count of one key."""

    def __init__(self, path: Path, spki_sha256: bytes, boot_id: bytes) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._turn = threading.Lock()  # flock is the process's, not the thread's
        try:
            with self._locked():
                if os.fstat(self._descriptor).st_size == 0:
                    # Whole in one write: a program that is killed here leaves an empty file, and never a half one.
                    os.pwrite(self._descriptor, (_MAGIC + spki_sha256).ljust(_SIZE, b"\0"), 0)
                    os.posix_fallocate(self._descriptor, 0, _SIZE)  # a full disk is met here, and never while counting
                _check(os.pread(self._descriptor, _SIZE, 0), path, spki_sha256)
                self._map = mmap.mmap(self._descriptor, _SIZE)
                self._begin(boot_id)
                sync(path.parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _begin(self, boot_id: bytes) -> None:
        """Note that this program counts here; find out whether the machine lost power since the last one did."""
        signatures, probes, ceiling, lost, programs = _FIELDS.unpack_from(self._map, _FIELDS_AT)
        if self._map[_BOOT_AT : _BOOT_AT + _BOOT_SIZE] != boot_id:
            if programs:
                lost += ceiling - signatures - probes
                ceiling = signatures + probes
            programs = 0
            self._map[_BOOT_AT : _BOOT_AT + _BOOT_SIZE] = boot_id
        _FIELDS.pack_into(self._map, _FIELDS_AT, signatures, probes, ceiling, lost, programs + 1)
        self._map.flush()

    def add(self, at: int, number: int) -> None:
        with self._turn:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                signatures, probes, ceiling, _, _ = _FIELDS.unpack_from(self._map, _FIELDS_AT)
                if signatures + probes + number > ceiling:
                    _NUMBER.pack_into(self._map, 56, signatures + probes + max(number, BLOCK))
                    os.fdatasync(self._descriptor)  # mmap.flush does the same, and all threads wait for it
                (count,) = _NUMBER.unpack_from(self._map, at)
                _NUMBER.pack_into(self._map, at, count + number)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        with self._locked():
            (programs,) = _NUMBER.unpack_from(self._map, 72)
            self._map.flush()  # the counts first: only then may the file say that nothing is lost
            _NUMBER.pack_into(self._map, 72, max(programs - 1, 0))
            self._map.flush()
        self._map.close()
        os.close(self._descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._turn:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def read_counts(folder: Path, *, boot_id: str | None = None) -> dict[bytes, SignatureCount]:
    """Read the counts in a folder, also while somebody counts; a folder that is not there has none.

    Args:
        folder: beside the CA's journal.
        boot_id: which start of the machine this is; the kernel's own when left out.

    Raises:
        AuditError: a file is damaged, or can't be read.
    """
    found = {}
    with _translated(folder):
        for path in sorted(folder.glob("*.count")) if folder.is_dir() else ():
            if not _NAME.fullmatch(path.name):
                continue
            spki_sha256 = bytes.fromhex(path.stem)
            content = path.read_bytes()
            if not content:  # whoever made the file was killed before it counted anything
                continue
            _check(content, path, spki_sha256)
            signatures, probes, ceiling, lost, programs = _FIELDS.unpack_from(content, _FIELDS_AT)
            if programs and content[_BOOT_AT : _BOOT_AT + _BOOT_SIZE] != _boot_bytes(boot_id):
                lost += ceiling - signatures - probes  # nobody opened it since the power cut
            found[spki_sha256] = SignatureCount(spki_sha256, signatures, probes, lost)
    return found


def _check(content: bytes, path: Path, spki_sha256: bytes) -> None:
    if len(content) != _SIZE or content[:8] != _MAGIC or content[8:40] != spki_sha256:
        raise AuditError(
            f"{path} is not a count of signatures, or damaged; keep it for the audit, move it away, and note why",
            code="audit.count_damaged",
        )


def _boot_bytes(boot_id: str | None) -> bytes:
    return (boot_id or _BOOT_ID.read_text(encoding="ascii").strip()).encode().ljust(_BOOT_SIZE)[:_BOOT_SIZE]


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: OSError) -> AuditError:
    return AuditError(
        f"signatures can't be counted in {folder}: {error.strerror}; nothing is signed that is not counted",
        code="audit.count_io",
        operator="The station can't write its count of signatures, so it signs nothing. See to the disk.",
    )
