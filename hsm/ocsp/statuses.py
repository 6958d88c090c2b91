"""What the journal says about a certificate right now."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509

from hsm.errors import JournalError
from hsm.journal import JournalReader, certificate_sha256
from hsm.ocsp.response import Good, Status, Unknown
from hsm.revocation.acts import revoker_of, standing
from hsm.revocation.crl import Revoked
from hsm.serials import MAX_SERIAL_BITS, serial_text

_RECORDED: Final = """
SELECT issuer.sha256 FROM issuance JOIN certificate ON certificate.issuance_id = issuance.id
JOIN issuer ON issuer.id = issuance.issuer_id WHERE issuance.serial = ?
"""


class Statuses(Protocol):
    """Says what the status of a certificate is."""

    def status(self, serial: int) -> Status:
        """Return the status now."""


class JournalStatuses:
    """Statuses as a journal has them, while others write to it.

    Every question is asked of the file, so that a revocation counts from the next answer on.
    """

    def __init__(
        self,
        journal: Path,
        issuer: x509.Certificate,
        *,
        also_issued: Callable[[int], bool] = lambda _: False,
        same_key: Collection[x509.Certificate] = (),
        check: Callable[[JournalReader], None] = lambda _: None,
    ) -> None:
        """Open the journal.

        Args:
            journal: the file.
            issuer: whose certificates are asked about.
            also_issued: knows certificates that stand somewhere else, like a station's manifest.
            same_key: earlier certificates of the issuer, for the same key.
            check: called each time that the file is opened; raises if it is not to be answered from, as an older copy.

        Raises:
            JournalError: it can't be read.
            HsmError: from ``check``.
        """
        self._path = journal
        self._check = check
        self._revoker = revoker_of(issuer)
        self._issuers = frozenset(certificate_sha256(one) for one in (issuer, *same_key))
        self._also_issued = also_issued
        self._reader: JournalReader | None = None
        self._inode = 0
        self._open()

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def status(self, serial: int) -> Status:
        """Return the status of a certificate of the issuer.

        Raises:
            JournalError: the journal can't be read.
        """
        if not 0 < serial < 1 << MAX_SERIAL_BITS:
            return Unknown()
        try:
            return self._status(serial)
        except JournalError as error:
            if error.code != "journal.busy":
                raise
            self._open()  # somebody began to write to what we read as it lay
            return self._status(serial)

    def _status(self, serial: int) -> Status:
        if self._reader is None or self._path.stat().st_ino != self._inode:  # a backup was put in its place
            self._open()
        reader = self._reader
        assert reader is not None  # noqa: S101 - for mypy: it was opened right above
        found = standing(reader, self._revoker, serial)
        if found is not None and found.is_revoked:
            return Revoked(serial, found.revoked_at, found.reason, found.invalid_since)
        issuers = {issuer for (issuer,) in reader.rows(_RECORDED, serial_text(serial))}
        return Good() if issuers & self._issuers or self._also_issued(serial) else Unknown()

    def _open(self) -> None:
        self.close()
        inode = self._path.stat().st_ino if self._path.exists() else 0  # first: it may be replaced once more
        reader = JournalReader(self._path)
        try:
            self._check(reader)
        except BaseException:
            reader.close()
            raise
        self._reader, self._inode = reader, inode
