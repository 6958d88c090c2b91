"""Reading the journal: beside its writer, or on a copy."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hsm.durable import Reader, Row
from hsm.journal.rows import BatchRecord, IssuanceRecord
from hsm.journal.schema import JOURNAL
from hsm.serials import serial_text

_ISSUANCE: Final = """
SELECT i.id, issuer.sha256, i.profile, i.subject, i.spki_sha256, batch.name, i.request, i.serial, i.not_after, i.tbs,
       i.tbs_sha256, i.renews, (SELECT count(*) FROM signature WHERE signature.issuance_id = i.id), i.at,
       certificate.der, certificate.at, void.reason, void.at
FROM issuance AS i JOIN issuer ON issuer.id = i.issuer_id LEFT JOIN batch ON batch.id = i.batch_id
LEFT JOIN certificate ON certificate.issuance_id = i.id LEFT JOIN void ON void.issuance_id = i.id
"""

_BATCHES: Final = """
SELECT batch.name, issuer.sha256, batch.at, count(i.id), count(certificate.issuance_id), count(void.issuance_id)
FROM batch JOIN issuer ON issuer.id = batch.issuer_id LEFT JOIN issuance AS i ON i.batch_id = batch.id
LEFT JOIN certificate ON certificate.issuance_id = i.id LEFT JOIN void ON void.issuance_id = i.id
GROUP BY batch.id ORDER BY batch.id
"""


def _issuance(row: Row) -> IssuanceRecord:
    values = [*row[:7], int(row[7], 16), dt.datetime.fromisoformat(row[8]), *row[9:]]
    return IssuanceRecord(*values)


class JournalReader(Reader):
    """A journal, to be read. Iterators read as they go, so that memory stays flat; finish or drop them soon."""

    def __init__(self, path: Path) -> None:
        """Open the journal.

        Args:
            path: the file, in use or not; a copy in a read-only folder will do.

        Raises:
            JournalError: no such file, newer, older, foreign, or damaged.
        """
        super().__init__(JOURNAL, path)

    def by_serial(self, serial: int) -> IssuanceRecord | None:
        """Return the issuance with this serial number."""
        return next(self._issuances("WHERE i.serial = ?", serial_text(serial)), None)

    def by_key(self, spki_sha256: bytes) -> tuple[IssuanceRecord, ...]:
        """Return the issuances for a public key, oldest first: the last one that is not void is the live one."""
        return tuple(self._issuances("WHERE i.spki_sha256 = ? ORDER BY i.id", spki_sha256))

    def by_subject(self, subject: str) -> Iterator[IssuanceRecord]:
        """Iterate over the issuances with this subject (RFC 4514), oldest first."""
        return self._issuances("WHERE i.subject = ? ORDER BY i.id", subject)

    def by_batch(self, batch: str) -> Iterator[IssuanceRecord]:
        """Iterate over the issuances of a batch, oldest first."""
        return self._issuances("WHERE i.batch_id = (SELECT id FROM batch WHERE name = ?) ORDER BY i.id", batch)

    def by_request(self, batch: str, request: str) -> tuple[IssuanceRecord, ...]:
        """Return the issuances for one request of a batch, oldest first."""
        where = "WHERE i.batch_id = (SELECT id FROM batch WHERE name = ?) AND i.request = ? ORDER BY i.id"
        return tuple(self._issuances(where, batch, request))

    def issuances(self, *, issuer: bytes | None = None, after: int = 0) -> Iterator[IssuanceRecord]:
        """Iterate over issuances, oldest first.

        Args:
            issuer: only those of the issuer whose certificate has this SHA-256.
            after: only those whose ``id`` is larger.
        """
        if issuer is None:
            return self._issuances("WHERE i.id > ? ORDER BY i.id", after)
        return self._issuances("WHERE i.id > ? AND issuer.sha256 = ? ORDER BY i.id", after, issuer)

    def open_intents(self, batch: str | None = None) -> Iterator[IssuanceRecord]:
        """Iterate over what was intended and neither signed nor given up: the work of a program that died."""
        where = "WHERE certificate.issuance_id IS NULL AND void.issuance_id IS NULL"
        if batch is None:
            return self._issuances(f"{where} ORDER BY i.id")
        return self._issuances(f"{where} AND batch.name = ? ORDER BY i.id", batch)

    def batches(self) -> tuple[BatchRecord, ...]:
        """Return the batches, oldest first."""
        return tuple(BatchRecord(*row) for row in self.rows(_BATCHES))

    def signatures(self, issuer: bytes | None = None) -> dict[str, int]:
        """Return how often a token was asked, by the kind of what was signed.

        Args:
            issuer: only for the issuer whose certificate has this SHA-256.
        """
        rows = self.rows(
            "SELECT kind, sum(tries) FROM (SELECT kind, issuer_id, 1 AS tries FROM signature "
            "UNION ALL SELECT kind, issuer_id, tries FROM signature_tally) AS s JOIN issuer ON issuer.id = s.issuer_id "
            "WHERE ?1 IS NULL OR issuer.sha256 = ?1 GROUP BY kind ORDER BY kind",
            issuer,
        )
        return dict(list(rows))

    def issuers(self) -> tuple[bytes, ...]:
        """Return the SHA-256 of the certificates of the issuers that signed, oldest first."""
        return tuple(sha256 for (sha256,) in self.rows("SELECT sha256 FROM issuer ORDER BY id"))

    def _issuances(self, where: str, *parameters: object) -> Iterator[IssuanceRecord]:
        return map(_issuance, self.rows(f"{_ISSUANCE} {where}", *parameters))
