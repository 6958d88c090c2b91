"""What goes into the journal and comes out of it, as values."""

import datetime as dt
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

NO_BATCH: Final = "main"
"""The shard of certificates that belong to no batch."""


def certificate_sha256(certificate: x509.Certificate) -> bytes:
    """Return the digest that names an issuer in the journal: SHA-256 of its certificate in DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def shard_name(batch: str | None) -> str:
    """Return the shard of the CRL that a batch's certificates are in: what ``{shard}`` in a profile's URL becomes."""
    return NO_BATCH if batch is None else batch


class IntentDraft(Protocol):
    """What is to be signed; ``hsm.authority`` calls it ``LintedTbs``."""

    @property
    def tbs(self) -> bytes:
        """TBSCertificate in DER."""

    @property
    def tbs_sha256(self) -> bytes:
        """Its SHA-256, 32 bytes."""

    @property
    def serial(self) -> int:
        """Serial number, positive, at most 20 octets."""

    @property
    def not_after(self) -> dt.datetime:
        """End of validity."""


class IssuanceState(StrEnum):
    """How far a certificate is: to be signed, signed and recorded, or given up and to be revoked."""

    INTENT = "intent"
    RECORDED = "recorded"
    VOID = "void"


class Reservation(NamedTuple):
    """What is asked of the journal before a certificate may be signed."""

    issuer: bytes
    """SHA-256 of the issuer's certificate (``certificate_sha256``)."""
    profile: str
    subject: str
    """RFC 4514."""
    spki_sha256: bytes
    draft: IntentDraft
    batch: str | None = None
    request: str = ""
    """Name of the request in its batch."""
    renew: bool = False
    """The key has a certificate, and gets another one."""


class Intent(NamedTuple):
    """The right to sign once, and what."""

    issuance_id: int
    serial: int
    tbs: bytes
    tbs_sha256: bytes
    tries: int
    """How often a token was asked for this signature, this time counted."""


class Issued(NamedTuple):
    """A certificate that is recorded, and may leave."""

    issuance_id: int
    serial: int
    der: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class IssuanceRecord:
    """One certificate that was, or may have been, signed."""

    id: int
    issuer: bytes
    """SHA-256 of the issuer's certificate."""
    profile: str
    subject: str
    spki_sha256: bytes
    batch: str | None
    request: str
    serial: int
    not_after: dt.datetime
    tbs: bytes
    tbs_sha256: bytes
    renews: int | None
    tries: int
    intended_at: str
    """UTC, as ``hsm.durable.time_text`` writes it; so are the other times."""
    certificate: bytes | None
    """DER."""
    recorded_at: str | None
    void_reason: str | None
    voided_at: str | None

    @property
    def state(self) -> IssuanceState:
        """How far it is."""
        if self.certificate is not None:
            return IssuanceState.RECORDED
        return IssuanceState.INTENT if self.void_reason is None else IssuanceState.VOID


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One batch, and how far it is."""

    name: str
    issuer: bytes
    opened_at: str
    intents: int
    recorded: int
    void: int
