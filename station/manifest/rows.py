"""What goes into the manifest and comes out of it, as values."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from enum import StrEnum
from typing import Final, Protocol


class UnitState(StrEnum):
    """How far a unit is; ``passed`` is final, ``failed`` opens again when the board is plugged in again."""

    OPEN = "open"
    PASSED = "passed"
    FAILED = "failed"


class IssuanceState(StrEnum):
    """How far a certificate is: to be signed, signed and recorded, or given up and to be revoked."""

    INTENT = "intent"
    RECORDED = "recorded"
    VOID = "void"


class DraftLike(Protocol):
    """What is to be signed; ``hsm`` calls it ``LintedTbs``."""

    @property
    def tbs(self) -> bytes:
        """TBSCertificate in DER."""

    @property
    def tbs_sha256(self) -> bytes:
        """Its SHA-256, 32 bytes."""

    @property
    def serial(self) -> int:
        """Certificate serial, positive, at most 20 octets."""


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What was ordered. The terms of an order never change once it is opened."""

    name: str
    product: str
    profile: str
    quantity: int
    """Units that may take a product serial."""
    serial_format: str
    """Python format with the one field ``number``, such as ``SN{number:06d}``."""
    first_number: int

    def product_serial(self, already_reserved: int) -> str:
        """Return the serial of the unit that comes after ``already_reserved`` others."""
        return self.serial_format.format(number=self.first_number + already_reserved)


@dataclass(frozen=True, slots=True)
class IssuanceRecord:
    """One certificate that was, or may have been, signed."""

    id: int
    unit_id: int
    state: IssuanceState
    spki_sha256: bytes
    certificate_serial: int
    tbs: bytes
    tbs_sha256: bytes
    signing_tries: int
    """How often the token was asked, or was about to be, to sign this; counted before it is asked."""
    certificate: bytes | None
    """DER, when recorded."""
    certificate_sha256: bytes | None
    intended_at: str
    changed_at: str
    void_reason: str | None


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """One board, as far as it is."""

    id: int
    hardware_id: str
    product_serial: str | None
    """None until a certificate is reserved for it; then for ever."""
    order: str
    model: str
    firmware_version: str
    firmware_sha256: bytes
    state: UnitState
    attempts: int
    slot: str
    """Where it was seen last."""
    first_seen_at: str
    changed_at: str
    failure_code: str | None
    failure_sentence: str | None
    failure_step: str | None
    issuance: IssuanceRecord | None
    """The live one (not void), or None."""


@dataclass(frozen=True, slots=True)
class Intent:
    """The right to ask the token once for one signature. It is durable: a crash after it ends with this certificate."""

    issuance_id: int
    unit_id: int
    product_serial: str
    certificate_serial: int
    tbs: bytes
    """TBSCertificate in DER: the very bytes to sign."""
    tbs_sha256: bytes
    signing_tries: int
    """Which try this is, from 1."""


_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class RecordedCertificate:
    """A certificate whose row is durable: the only kind that may leave the station (I1); made by the manifest alone."""

    issuance_id: int
    unit_id: int
    product_serial: str
    certificate_serial: int
    der: bytes
    sha256: bytes
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        """Refuse to be made anywhere else.

        Raises:
            TypeError: not made by the manifest.
        """
        if seal is not _SEAL:
            msg = "a RecordedCertificate comes from Manifest.record or Manifest.recorded"
            raise TypeError(msg)


def seal_recorded(intent: Intent, der: bytes, sha256: bytes) -> RecordedCertificate:
    """Make a ``RecordedCertificate``; for the manifest, after its row was read from or written to the database."""
    return RecordedCertificate(
        intent.issuance_id, intent.unit_id, intent.product_serial, intent.certificate_serial, der, sha256, _SEAL
    )


@dataclass(frozen=True, slots=True)
class Proof:
    """That the board holds the key of the certificate it gave back, checked by the caller."""

    challenge: bytes
    """Fresh random bytes, 16 at least."""
    message: bytes
    """What the board signed; holds or commits to the challenge."""
    signature: bytes
    certificate: bytes
    """The certificate (DER) that was read back from the board, and that the signature was checked with."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened. The kind ``journal`` is written by the schema itself, at every change of a row."""

    id: int
    at: str
    unit_id: int | None
    slot: str
    step: str
    kind: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """The evidence of a pass."""

    issuance_id: int
    challenge: bytes
    message: bytes
    signature: bytes
    read_back_sha256: bytes
    locks: int
    seconds: float
    at: str


@dataclass(frozen=True, slots=True)
class UnitHistory:
    """Everything the manifest knows about one unit."""

    unit: UnitRecord
    issuances: tuple[IssuanceRecord, ...]
    """All, void ones too, in the order they were made."""
    proof: ProofRecord | None
    events: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order and how far it is."""

    terms: OrderTerms
    reserved: int
    """Units that took a product serial."""
    opened_at: str
    units: Mapping[UnitState, int]
    """How many units are in which state."""


@dataclass(frozen=True, slots=True)
class RevocationEntry:
    """A certificate that was signed, or may have been, and must not be accepted."""

    certificate_serial: int
    hardware_id: str
    product_serial: str
    order: str
    certificate: bytes | None
    """DER, or None when the station does not know whether it was signed."""
    voided_at: str
    reason: str


@dataclass(frozen=True, slots=True)
class PassedUnit:
    """One line of an export: a unit with its live certificate and its pass, as far as it has them."""

    product_serial: str | None
    hardware_id: str
    model: str
    order: str
    firmware_version: str
    firmware_sha256: bytes
    certificate_serial: int | None
    spki_sha256: bytes | None
    certificate: bytes | None
    passed_at: str | None
    locks: int | None
