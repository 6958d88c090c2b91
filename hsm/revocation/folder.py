"""The folder that CRLs are published in.

Whoever serves it, or copies it to where it is served, sees whole files only: each is written beside its place, made
durable, and renamed. What is published is also the last word on the journal: if a file has a higher number than the
journal knows, or is not on its record, the journal is an old copy, and going on would take back what was revoked.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from hsm import der
from hsm.algorithms import verify
from hsm.errors import CrlError
from hsm.files import replace_file
from hsm.revocation.crl import without_entries
from hsm.revocation.scopes import DELTA_FILE, FULL_FILE, SHARD_FOLDER, Scope


@dataclass(frozen=True, slots=True)
class Published:
    """A CRL in the folder."""

    path: Path
    number: int
    sha256: bytes


class CrlFolder:
    """A folder with the CRLs of one issuer."""

    def __init__(self, path: Path, issuer: x509.Certificate) -> None:
        """Name the folder; it is made when something is published."""
        self.path = path
        self._issuer = issuer

    def where(self, scope: Scope) -> Path:
        """Return the file of a scope."""
        return self.path / scope.file

    def files(self) -> Iterator[Path]:
        """Iterate over the CRLs that are there."""
        yield from (path for name in (FULL_FILE, DELTA_FILE) if (path := self.path / name).exists())
        yield from sorted((self.path / SHARD_FOLDER).glob("[!.]*.crl"))

    def published(self) -> list[Published]:
        """Return what is there. However long a list is, this is quick.

        Raises:
            CrlError: a file can't be read (``crl.unreadable``), or another issuer signed it (``crl.foreign``).
        """
        return [self._published(path) for path in self.files()]

    def sha256(self, scope: Scope) -> bytes | None:
        """Return the digest of the CRL of a scope, whoever signed it; None if there is none that can be read."""
        try:
            return hashlib.sha256(self.where(scope).read_bytes()).digest()
        except OSError:
            return None

    def _published(self, path: Path) -> Published:
        try:
            content = path.read_bytes()
            signed = der.split_signed(content)
            head = x509.load_der_x509_crl(der.join_signed(without_entries(signed.tbs), *signed[1:]))
            key = self._issuer.public_key()
            pss = head.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
            verify(key, head.signature, signed.tbs, head.signature_hash_algorithm, pss=pss)  # type: ignore[arg-type]
        except OSError as error:
            raise CrlError(f"{path} can't be read: {error.strerror}", code="crl.unreadable") from error
        except InvalidSignature as error:
            raise self._foreign(path) from error
        except ValueError as error:
            raise CrlError(f"{path}: not a CRL in DER; move it away", code="crl.unreadable") from error
        return Published(path, number_of(head), hashlib.sha256(content).digest())

    def read(self, path: Path) -> x509.CertificateRevocationList:
        """Read a CRL and see that this issuer signed it.

        Raises:
            CrlError: ``crl.unreadable`` or ``crl.foreign``.
        """
        crl = read_crl(path)
        try:
            ours = crl.is_signature_valid(self._issuer.public_key())  # type: ignore[arg-type]  # a CA's key signs
        except (InvalidSignature, TypeError, ValueError):
            ours = False
        if not ours:
            raise self._foreign(path)
        return crl

    def _foreign(self, path: Path) -> CrlError:
        name = self._issuer.subject.rfc4514_string()
        return CrlError(f"{path} was not signed by {name}; give each issuer its own folder", code="crl.foreign")

    def check(self, highest_number: Callable[[], int], knows: Callable[[bytes], bool]) -> None:
        """Refuse to go on with a journal that is not the one that these files come from.

        Args:
            highest_number: the highest number that the journal knows; asked after the files were read, since whoever
                publishes writes the journal first.
            knows: whether a CRL with this SHA-256 is on record.

        Raises:
            CrlError: ``crl.number_behind``, or ``crl.not_on_record``; nothing was written.
        """
        published = self.published()
        highest = max(published, key=lambda one: one.number, default=None)
        known = highest_number()
        if highest is not None and highest.number > known:
            raise CrlError(
                f"{highest.path} has number {highest.number}, and the journal ends at {known}: it is an older copy. "
                "Restore the newest one, or take over what is published with 'station ca crl adopt'; nothing was "
                "published",
                code="crl.number_behind",
                published=highest.number,
                journal=known,
            )
        for one in published:
            if not knows(one.sha256):
                raise CrlError(
                    f"{one.path} (number {one.number}) was signed by this CA and is not on the journal's record: the "
                    "journal is an older copy that went on. Restore the newest one, or take over what is published "
                    "with 'station ca crl adopt'; nothing was published",
                    code="crl.not_on_record",
                    published=one.number,
                    journal=known,
                )

    def write(self, scope: Scope, content: bytes) -> Path:
        """Put a CRL in its place: whole or not at all, and durable.

        Raises:
            CrlError: ``crl.folder``: the folder can't be written; what was published before stays.
        """
        path = self.where(scope)
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            replace_file(path, content)
        except OSError as error:
            raise CrlError(
                f"{path} can't be written: {error.strerror}; what was published before stays", code="crl.folder"
            ) from error
        return path


def read_crl(path: Path) -> x509.CertificateRevocationList:
    """Read a CRL in DER or PEM.

    Raises:
        CrlError: ``crl.unreadable``.
    """
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)
    except OSError as error:
        raise CrlError(f"{path} can't be read: {error.strerror}", code="crl.unreadable") from error
    except ValueError as error:
        raise CrlError(
            f"{path}: neither DER nor PEM of a CRL; give the file of a CRL", code="crl.unreadable"
        ) from error


def number_of(crl: x509.CertificateRevocationList) -> int:
    """Return the number of a CRL; 0 if it has none."""
    try:
        number = crl.extensions.get_extension_for_oid(ExtensionOID.CRL_NUMBER).value
    except x509.ExtensionNotFound:
        return 0
    return number.crl_number if isinstance(number, x509.CRLNumber) else 0
