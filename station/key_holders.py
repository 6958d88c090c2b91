"""Who holds a certificate for a public key, in the record that a program does not write itself.

A unit's certificate stands in the manifest, every other one in the CA's journal, and no schema can see into both files.
So whoever is about to certify a key looks into the other record too (invariant I2): the line into the CA's journal,
``station ca issue`` and ``sign-batch`` into the manifest. Knows nothing of: who may overrule what was found.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from hsm import HsmError
from hsm.durable import FileKind, Reader
from hsm.journal.schema import JOURNAL
from station.errors import ManifestError
from station.manifest.schema import MANIFEST

_UNIT: Final = """
SELECT 'unit ' || coalesce(unit.product_serial, unit.hardware_id) FROM public_key
JOIN unit ON unit.id = public_key.unit_id WHERE public_key.spki_sha256 = ?
"""

_CERTIFIED: Final = """
SELECT subject || ', serial ' || ltrim(serial, '0') FROM issuance WHERE spki_sha256 = ?
AND NOT EXISTS (SELECT 1 FROM void WHERE void.issuance_id = issuance.id) ORDER BY id DESC LIMIT 1
"""


class KeyHolders:
    """One record, asked for one key after the other, while another program may write to it; used by one thread."""

    def __init__(self, kind: FileKind, path: Path, sql: str) -> None:
        """Use ``units`` or ``of_the_ca``."""
        self._kind = kind
        self._path = path
        self._sql = sql
        self._reader: Reader | None = None
        self._inode = 0

    @classmethod
    def units(cls, manifest: Path) -> Self:
        """Look for units, in a manifest; where there is none, no unit holds a key."""
        return cls(MANIFEST, manifest, _UNIT)

    @classmethod
    def of_the_ca(cls, journal: Path) -> Self:
        """Look for certificates that were not given up, in a CA's journal."""
        return cls(JOURNAL, journal, _CERTIFIED)

    def __call__(self, spki_sha256: bytes) -> str | None:
        """Return who holds a key (SHA-256 of its SubjectPublicKeyInfo), in words; None if nobody does.

        Raises:
            ManifestError, JournalError: the record can't be read.
        """
        with suppress(HsmError, ManifestError):  # most likely somebody began to write to what was read as it lay
            return self._look(spki_sha256)
        self.close()
        return self._look(spki_sha256)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _look(self, spki_sha256: bytes) -> str | None:
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            self.close()
            return None
        if self._reader is None or inode != self._inode:
            self.close()
            self._reader, self._inode = Reader(self._kind, self._path), inode
        rows = [*self._reader.rows(self._sql, spki_sha256)]  # to its end, where the reader sees what is stale
        return f"{rows[0][0]} ({self._path.name})" if rows else None
