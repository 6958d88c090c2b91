"""What goes into the manifest and comes out of it, as values."""

import hashlib
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from enum import StrEnum
from typing import Final, Protocol

from station.manifest.life import LifeAct
from station.numbering import CheckScheme, Numbering, mac_number, mac_text


class UnitState(StrEnum):
    """How far a unit is; ``passed`` is final on the line, ``failed`` opens again when the board is plugged in again."""

    OPEN = "open"
    PASSED = "passed"
    FAILED = "failed"
    RMA = "rma"
    """It passed, and came back from the field."""
    SCRAPPED = "scrapped"
    """For good, however far it was."""


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
class OrderSeal:
    """What binds an order's row to the JWS that it came from; made of a verified one (``station.orders``)."""

    uid: str
    """The order's own id: 32 hexadecimal digits."""
    jws: str
    """JWS JSON serialization (RFC 7515 7.2)."""
    payload_sha256: bytes
    """Of the payload that is signed."""
    station_id: int
    """The station whose share of the order this is."""
    not_before: str
    """UTC, as events have it; the order may be used from then on."""
    not_after: str
    """The order may be used until then, this moment excluded."""

    @property
    def jws_sha256(self) -> bytes:
        """Digest of the JWS as it stands."""
        return hashlib.sha256(self.jws.encode()).digest()


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What was ordered, as far as one station is concerned. The terms of an order never change once it is opened."""

    name: str
    product: str
    profile: str
    quantity: int
    """Units that may take a product serial."""
    serial_format: str
    """Python format with the field ``number``, such as ``SN{number:06d}``, and ``check`` where there is a scheme."""
    first_number: int
    check: CheckScheme = CheckScheme.NONE
    mac_first: str | None = None
    """EUI-48 of ``first_number``; the others follow. None: the order gives none."""
    scrap_allowance: int = 0
    """How many scrapped units give their budget back; their numbers stay taken."""
    seal: OrderSeal | None = None
    """None: nobody signed it. No certificate is signed for such an order where the profile needs one."""

    @property
    def numbers(self) -> int:
        """How many numbers belong to it: those of scrapped units stay taken."""
        return self.quantity + self.scrap_allowance

    @property
    def numbering(self) -> Numbering:
        """How its serials are made."""
        return Numbering(self.serial_format, self.check)

    def product_serial(self, already_taken: int) -> str:
        """Return the serial of the unit that comes after ``already_taken`` others."""
        return self.numbering.serial(self.first_number + already_taken)

    def mac(self, already_taken: int) -> str | None:
        """Return the MAC address of the unit that comes after ``already_taken`` others, if the order gives one."""
        first = None if self.mac_first is None else mac_number(self.mac_first)
        return None if first is None else mac_text(first + already_taken)


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
    mac: str | None
    """EUI-48 that it took with its serial, where its order gives one."""
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


class ProofKind(StrEnum):
    """What a unit passed with."""

    CHALLENGE = "challenge"
    """Its key signed a fresh challenge."""
    ATTESTATION = "attestation"
    """It can't do that; another key of the board, which it had before, signed who the board is, over a fresh challenge.
    That this key vouched for the new one stands in the unit's event ``attested``."""


_COSE_SIGN1: Final = b"\x84\x6aSignature1"
"""How what is signed begins in a COSE_Sign1 (RFC 9052 4.4). No challenge of ours begins so."""


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

    @property
    def kind(self) -> ProofKind:
        """What this is the evidence of, told by the signed bytes themselves."""
        return ProofKind.ATTESTATION if self.message.startswith(_COSE_SIGN1) else ProofKind.CHALLENGE


@dataclass(frozen=True, slots=True)
class UnitHistory:
    """Everything the manifest knows about one unit."""

    unit: UnitRecord
    issuances: tuple[IssuanceRecord, ...]
    """All, void ones too, in the order they were made."""
    proof: ProofRecord | None
    events: tuple[EventRecord, ...]
    life: tuple[LifeAct, ...] = ()
    """What became of it after the pass, oldest first."""


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order and how far it is."""

    terms: OrderTerms
    reserved: int
    """Units that took a product serial."""
    opened_at: str
    units: Mapping[UnitState, int]
    """How many units are in which state."""
    returned: int = 0
    """Scrapped units that gave their budget back."""
    holders: int = 0
    """Units, and certificates of the desk, that hold a product serial of it."""
    closed_at: str | None = None
    closed_reason: str | None = None
    burned: int = 0
    """Numbers that nobody gets, by somebody's decision."""
    suspended_at: str | None = None
    """Since when it waits for such a decision."""
    suspended_reason: str | None = None

    @property
    def taken(self) -> int:
        """Numbers that were given or burned; ``reserved`` is the budget in use by units."""
        return self.reserved + self.returned + self.burned

    @property
    def left(self) -> int:
        """Units that may still be begun."""
        return max(self.terms.quantity - self.reserved - self.burned, 0)


@dataclass(frozen=True, slots=True)
class OrderResume:
    """A decision from which number on an order goes on."""

    taken: int
    """Numbers that the manifest knew of."""
    burned: int
    """So many after them are given to nobody."""
    reason: str
    actor: str
    os_user: str
    at: str


@dataclass(frozen=True, slots=True)
class DeskRefusal:
    """A request of the desk that took a serial, and got no certificate when it did."""

    product_serial: str
    spki_sha256: bytes
    """Of its key, which keeps the serial."""
    code: str
    reason: str
    at: str


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
    mac: str | None
    """EUI-48, lower case with colons."""
    unit_id: int
    issuance_id: int | None
